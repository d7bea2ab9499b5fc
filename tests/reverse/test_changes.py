"""Each kind of change comes back once, with the right kind; on real Kafka."""

import asyncio

import pytest

from pipeline.sandbox.profile import Profile
from tests.reverse.rig import Reverse

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]


async def test_a_profile_and_its_edit_come_back_once(back: Reverse) -> None:
    notes = "x" * 350_000  # message and memory are near what a topic takes
    properties = {"tier": "gold", "notes": notes}
    ada = back.make("ada", external_id="C-1", properties=properties)
    async with back.service() as service:
        (first,) = await back.wait(1)
        await back.next_second()
        back.edit(ada, first_name="Ada", properties={"tier": "silver", "notes": "y"})
        found = await back.wait(2)
        assert await service.terminate() == 0
    assert first.kind == "created"
    assert first.key == "C-1"
    assert first.headers["origin"] == b"klaviyo"
    second = found[1]
    assert second.kind == "updated"
    assert second.value["changed"] == [
        "first_name",
        "properties.notes",
        "properties.tier",
    ]
    assert second.value["previous"] == {
        "first_name": "ada",
        "properties.notes": notes,
        "properties.tier": "gold",
    }
    assert second.value["profile"]["first_name"] == "Ada"


async def test_250_profiles_of_one_second_over_three_pages(back: Reverse) -> None:
    at = back.sandbox.state.clock.now() - 60
    for number in range(250):
        profile = back.sandbox.state.profiles.create({"email": f"p{number}@shop.dev"}, at)
        assert profile.updated == int(at)
    async with back.service() as service:
        found = await back.wait(250)
        assert await service.terminate() == 0
    assert len(back.once(found)) == 250
    assert {each.kind for each in found} == {"created"}


async def test_unsubscribed_suppressed_merged_deleted(back: Reverse) -> None:
    names = ("reader", "bounced", "source", "target", "gone")
    people = {name: back.make(name) for name in names}
    state = back.sandbox.state
    people["source"].fields["title"] = "Dr"  # the merge moves it
    people["reader"].consent.subscribe("email.marketing", state.clock.now())
    async with back.service(reverse__sweep_interval="0.5") as service:
        await back.wait(5)
        await back.next_second()
        now = state.clock.now()
        people["reader"].consent.unsubscribe("email.marketing", now)  # `updated` stays
        people["bounced"].consent.suppressions["HARD_BOUNCE"] = now
        state.profiles.merge(people["source"], people["target"], now)
        state.profiles.delete(people["gone"])
        state.profiles.version += 1
        found = await back.wait(10)
        await back.pages(12)  # two more readings of everything among them
        found = await back.read()
        assert await service.terminate() == 0
    by = back.once(found)
    kinds = {name: [m.kind for m in by[who.id]] for name, who in people.items()}
    assert kinds == {
        "reader": ["created", "updated"],
        "bounced": ["created", "updated"],
        "source": ["created", "deleted"],
        "target": ["created", "updated"],
        "gone": ["created", "deleted"],
    }
    reader = by[people["reader"].id][1].value
    assert reader["changed"] == ["consent.email"]
    assert reader["previous"]["consent.email"]["status"] == "subscribed"
    email = reader["profile"]["consent"]["email"]
    assert (email["status"], email["can_receive"]) == ("unsubscribed", False)
    assert [each["reason"] for each in email["suppressions"]] == ["UNSUBSCRIBE"]
    bounced = by[people["bounced"].id][1].value["profile"]["consent"]["email"]
    assert [each["reason"] for each in bounced["suppressions"]] == ["HARD_BOUNCE"]


async def test_late_visible_and_moved_while_pages_are_read(back: Reverse) -> None:
    state = back.sandbox.state
    past = state.clock.now() - 300
    people = [
        state.profiles.create({"email": f"p{number}@shop.dev"}, past + number // 10)
        for number in range(350)
    ]
    back.sandbox.settings = back.sandbox.settings.changed({"latency": 0.3})
    async with back.service(reverse__sweep_interval="1") as service:
        await back.wait(100)  # the first page of four is out
        back.edit(people[320], first_name="moved")
        # Listed 45 s after its time: behind the cursor and the overlap.
        late = state.profiles.create({"email": "late@shop.dev"}, past - 45)
        async with asyncio.timeout(30):
            while late.id not in {each.who for each in await back.read()}:
                await asyncio.sleep(0.3)
        await back.pages(12)  # two more readings of all four among them
        found = await back.read()
        found_late = await service.metric("reverse_found_late_total")
        assert await service.terminate() == 0
    by = back.once(found)
    assert len(by) == 351
    assert [each.kind for each in by[late.id]] == ["created"]
    moved = by[people[320].id]
    assert moved[-1].value["profile"]["first_name"] == "moved"
    assert found_late >= 1


async def test_from_now_on_says_nothing_of_what_was_there(back: Reverse) -> None:
    old = state_of(back, "old")
    async with back.service(reverse__start="now", reverse__sweep_interval="1") as service:
        # Its first cycle, the reading of all included, takes half of them.
        await back.pages(11)
        assert await back.read() == []
        back.edit(old, title="Dr")
        (only,) = await back.wait(1)
        assert await service.terminate() == 0
    assert only.kind == "updated"
    assert only.value["changed"] == ["title"]


def state_of(back: Reverse, name: str) -> Profile:
    """A profile made long before anyone looks."""
    state = back.sandbox.state
    return state.profiles.create(
        {"email": f"{name}@shop.dev"}, state.clock.now() - 86_400
    )
