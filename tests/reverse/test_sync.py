"""One profile by hand: the same way, the same memory."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from pydantic import SecretStr

from pipeline import settings as config
from pipeline.app import App
from pipeline.errors import KafkaUnreachable, PipelineError
from pipeline.kafka.transactions import Away, Fenced
from pipeline.sandbox.profile import Profile
from tests.reverse.rig import Reverse
from tests.reverse.virtual import Virtual, inline
from tests.virtual_time import virtual


@pytest.mark.kafka
@pytest.mark.timeout(60)
async def test_one_profile_is_published_as_what_it_is(back: Reverse) -> None:
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
    found = await back.read()
    assert [each.kind for each in found] == ["created", "updated", "updated", "deleted"]
    again = found[1].value
    assert (again["changed"], again["previous"]) == ([], {})
    assert again["profile"] == found[0].value["profile"]


@asynccontextmanager
async def published() -> AsyncIterator[tuple[Virtual, Profile]]:
    """A world whose poller has published one profile and has ended."""
    with pytest.MonkeyPatch.context() as patch:
        inline(patch)
        async with Virtual() as world:
            ada = world.make("ada", title="Dr")
            world.start()
            await world.pass_(60)
            await world.end()
            yield world, ada


@virtual
async def test_what_was_published_before_is_published_again_as_it_is() -> None:
    """A consumer that lost its copy gets it back; the poller has no news by it."""
    async with published() as (world, ada):
        for _ in range(2):
            assert await world.flow.sync(ada.id) is None
        first, *again = world.topics.messages
        assert first["type"] == "klaviyo.profile.created"
        for each in again:
            assert each["type"] == "klaviyo.profile.updated"
            assert (each["changed"], each["previous"]) == ([], {})
            assert each["profile"] == first["profile"]
        assert len({each["id"] for each in world.topics.messages}) == 2
        world.start()
        await world.pass_(60)
        world.edit(ada, title="Prof")
        await world.pass_(60)
        await world.end()
    last = world.topics.messages[3:]
    assert [each["changed"] for each in last] == [["title"]]


@pytest.mark.parametrize("before", [False, True])
@virtual
async def test_what_we_wrote_ourselves_is_published_when_asked_for(before: bool) -> None:
    """Also where the poller has not come by yet, nor will say anything when it does."""
    with pytest.MonkeyPatch.context() as patch:
        inline(patch)
        async with Virtual() as world:
            ada = world.make("ada")
            if before:
                world.start()
                await world.pass_(60)
                await world.end()
            world.edit(ada, title="Dr")
            now = world.sandbox.state.clock.now()
            content = {"email": "ada@shop.dev", "title": "Dr"}
            told = {"people": [["e:ada@shop.dev", now, content]]}
            world.topics.state.append((b"s/sent/1", json.dumps(told).encode()))
            world.start()
            await world.end()
            assert await world.flow.sync(ada.id) is None
            world.start()
            await world.pass_(60)
            await world.end()
    *first, last = world.topics.messages
    assert [each["type"] for each in first] == ["klaviyo.profile.created"] * before
    assert last["type"] == "klaviyo.profile.updated"
    assert (last["changed"], last["previous"]) == ([], {})
    assert last["profile"]["title"] == "Dr"


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


@virtual
async def test_an_older_sight_than_was_published_takes_nothing_back() -> None:
    """A copy of Klaviyo's that lags behind: what is known is published."""
    async with published() as (world, ada):
        ada.fields["title"] = "before"
        ada.updated -= 30
        assert await world.flow.sync(ada.id) is None
    first, again = world.topics.messages
    assert again["profile"]["title"] == "Dr"
    assert again["occurred_at"] == first["occurred_at"]
    assert (again["changed"], again["previous"]) == ([], {})
