"""One profile by hand: the same way, the same memory."""

import pytest
from pydantic import SecretStr

from pipeline import settings as config
from pipeline.app import App
from tests.reverse.rig import Reverse


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
