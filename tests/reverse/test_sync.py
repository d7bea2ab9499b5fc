"""One profile by hand: the same way, the same memory."""

import pytest
from pydantic import SecretStr

from pipeline import settings as config
from pipeline.app import App
from pipeline.errors import KafkaUnreachable, PipelineError
from pipeline.kafka.transactions import Away, Fenced
from tests.reverse.rig import Reverse
from tests.reverse.virtual import Virtual, inline
from tests.virtual_time import virtual


@pytest.mark.kafka
@pytest.mark.timeout(60)
async def test_one_profile_is_published_if_it_is_news(back: Reverse) -> None:
    ada = back.make("ada")
    app = App(
        config.Settings(
            subscription=config.Subscription(name=f"back {back.number}"),
            klaviyo=config.Klaviyo(
                api_url=back.sandbox.url,
                api_key=SecretStr("pk_x"),
                api_revision="2026-07-15",
            ),
            kafka=config.Kafka(bootstrap_servers=back.bootstrap),
            topics=config.Topics(
                profiles=back.profiles, state=back.state, dead_letters=f"d{back.number}"
            ),
        )
    )
    assert await app.sync_profile(ada.id) == "created"
    assert await app.sync_profile(ada.id) is None
    back.edit(ada, title="Dr")
    assert await app.sync_profile(ada.id) == "updated"
    back.sandbox.state.profiles.delete(ada)
    assert await app.sync_profile(ada.id) == "deleted"
    kinds = [each.kind for each in await back.read()]
    assert kinds == ["created", "updated", "deleted"]


@pytest.mark.parametrize(
    ("met", "said"),
    [(Away("not committed"), KafkaUnreachable), (Fenced("taken over"), PipelineError)],
)
@virtual
async def test_what_keeps_it_from_being_published_says_what_to_do(
    met: Exception, said: type[PipelineError]
) -> None:
    async def commit(_: object) -> None:
        raise met

    with pytest.MonkeyPatch.context() as patch:
        inline(patch)
        async with Virtual() as world:
            world.start()
            await world.end()
            ada = world.make("ada")
            patch.setattr(world.topics, "commit", commit)
            with pytest.raises(said, match=r"[Cc]all again") as raised:
                await world.flow.sync(ada.id)
    assert raised.value.exit_code == said.exit_code
