"""What Klaviyo refuses costs the customer, the channel or the list it is about."""

import asyncio
from typing import Any

import pytest

from tests.consent.world import (
    ADA,
    ADD,
    NO,
    SUBSCRIBE,
    UNSUBSCRIBE,
    YES,
    World,
    at,
    each,
    fault,
)
from tests.virtual_time import virtual

JOBS = "subscription-bulk-create"
ROWS = "/data/attributes/profiles/data"


def refusal(*pointers: str, status: int = 400) -> dict[str, Any]:
    """Klaviyo's error document."""
    errors = [
        {"id": "1", "code": "invalid", "title": "No.", "detail": "x"}
        | ({"source": {"pointer": pointer}} if pointer else {})
        for pointer in pointers
    ]
    return {"kind": "status", "status": status, "body": {"errors": errors}}


def crowd(world: World, count: int, **said: Any) -> None:
    for number in range(count):
        world.say(id=f"C-{number}", email=f"c{number}@shop.dev", **said)


def statuses(world: World, count: int) -> list[str]:
    return [world.status(email=f"c{number}@shop.dev") for number in range(count)]


@each
@virtual
async def test_a_row_that_is_named_costs_its_channel(revision: str) -> None:
    async with World(revision) as world:
        busy = {"kind": "status", "status": 429, "retry_after": 20}
        fault(world, JOBS, busy, times=1)
        named = refusal(f"{ROWS}/2/attributes/email", f"{ROWS}/4/attributes/email")
        fault(world, JOBS, named, times=1, contains="c0@shop.dev")
        world.say(**ADA, consent=YES)
        await asyncio.sleep(1)
        crowd(world, 6, consent=YES)  # all in one request, when the pause is over
        await world.settled()
        assert statuses(world, 6).count("SUBSCRIBED") == 4
        refused, taken = (each for each in world.asked(SUBSCRIBE) if len(each) > 1)
        kept = [each for row, each in enumerate(refused) if row not in {2, 4}]
        assert kept == taken
        assert world.lost("consent") == 2
        assert not world.letters


@each
@virtual
async def test_a_row_nobody_names_is_found_by_halves(revision: str) -> None:
    async with World(revision) as world:
        fault(world, JOBS, refusal(""), contains="c5@shop.dev")
        crowd(world, 9, consent=YES)
        await world.settled()
        found = statuses(world, 9)
        assert found.pop(5) == "NEVER_SUBSCRIBED"
        assert set(found) == {"SUBSCRIBED"}
        (letter,) = world.letters
        assert letter["klaviyo.reason"] == "refused"
        assert letter["__connect.errors.offset"] == "5"


@each
@virtual
async def test_a_request_too_large_is_halved(revision: str) -> None:
    async with World(revision, max_body=2_000) as world:
        crowd(world, 60, consent=YES)
        await world.settled()
        assert set(statuses(world, 60)) == {"SUBSCRIBED"}
        assert not world.letters


@each
@virtual
async def test_who_unsubscribes_in_the_very_moment_stays_so(revision: str) -> None:
    """Klaviyo itself refuses a consent that is older than the unsubscribing."""
    async with World(revision) as world:
        await world.heard(id="C-1", email="ada@shop.dev")
        fault(world, JOBS, {"kind": "delay", "seconds": 5.0})
        own = {"email": {"status": "subscribed", "at": at(-60)}}
        world.say(**ADA, consent=own)
        await asyncio.sleep(2)
        world.consent().unsubscribe("email.marketing", world.clock.now())
        await world.settled()
        assert world.status() == "UNSUBSCRIBED"
        assert world.number("consent_withheld_total", reason="newer") == 1
        assert not world.letters


@each
@virtual
async def test_who_vanishes_in_the_very_moment_costs_the_list(revision: str) -> None:
    async with World(revision) as world:
        world.group("VIP")
        crowd(world, 3)
        await world.settled()
        fault(world, "/api/lists/.*/relationships", {"kind": "delay", "seconds": 5.0})
        crowd(world, 3, lists={"add": ["VIP"]})
        await asyncio.sleep(2)
        world.sandbox.state.profiles.delete(world.profile("c1@shop.dev"))
        await world.settled()
        assert world.members("VIP") == {"C-0", "C-2"}
        assert world.lost("lists") == 1
        assert not world.letters


@each
@virtual
async def test_a_refusal_that_names_nobody_of_ours_costs_the_list(revision: str) -> None:
    async with World(revision) as world:
        world.group("VIP")
        fault(world, "/relationships/profiles", refusal("/data/7/id"), times=20)
        await world.heard(**ADA, lists={"add": ["VIP"]})
        assert world.count(ADD) == 2
        assert world.lost("lists") == 1
        assert not world.letters


@each
@virtual
async def test_who_cannot_be_asked_for_is_not_guessed_at(revision: str) -> None:
    async with World(revision) as world:
        # The list of a filter is encoded: %40 stands for @.
        fault(world, r"any\(email.*c3@shop|email.*c3%40shop", refusal(""))
        crowd(world, 5, consent=YES)
        await world.settled()
        found = statuses(world, 5)
        assert found.pop(3) == "NEVER_SUBSCRIBED"
        assert set(found) == {"SUBSCRIBED"}
        assert [letter["klaviyo.reason"] for letter in world.letters] == ["refused"]


@each
@pytest.mark.parametrize(
    "action",
    [
        {"kind": "status", "status": 503},
        {"kind": "status", "status": 502, "processed": True},
        {"kind": "status", "status": 429, "retry_after": 5},
        {"kind": "reset_after"},
        {"kind": "hang_before", "seconds": 40.0},
        {"kind": "garbage"},
        {"kind": "truncate"},
    ],
    ids=lambda action: f"{action['kind']} {action.get('status', '')}",
)
@virtual
async def test_an_outage_is_waited_out(revision: str, action: dict[str, Any]) -> None:
    async with World(revision, create=True) as world:
        await world.heard(id="C-1", email="ada@shop.dev")
        for path in ("profiles", "lists", JOBS, "subscription-bulk-delete"):
            fault(world, f"/api/{path}|{path}", action, times=2)
        own = {"email": {"status": "subscribed", "at": at(-60)}}
        world.say(**ADA, consent=own, lists={"add": ["VIP"], "remove": ["Old"]})
        await world.settled()
        assert world.status() == "SUBSCRIBED"
        assert world.members("VIP") == {"C-1"}
        await world.heard(**ADA, consent=NO, lists={"remove": ["VIP"]})
        assert world.status() == "UNSUBSCRIBED"
        assert world.members("VIP") == set()
        assert not world.letters
        assert world.lost("lists") == 0


@each
@virtual
async def test_a_missing_scope_halts_and_goes_on(revision: str) -> None:
    async with World(revision) as world:
        world.change(missing_scopes=["subscriptions:write"])
        world.say(**ADA, consent=YES)
        await asyncio.sleep(30)
        assert world.number("halted", reason="forbidden") == 1
        assert world.committed == 0
        world.change(missing_scopes=[])
        await world.settled()
        assert world.status() == "SUBSCRIBED"
        assert not world.letters


@each
@virtual
async def test_our_own_consent_is_told_to_the_reverse_direction(revision: str) -> None:
    async with World(revision) as world:
        own = {"status": "subscribed"}
        await world.heard(**ADA, consent={"email": own, "sms": own})
        await world.heard(
            **ADA, consent={"email": own, "sms": {"status": "unsubscribed"}}
        )
        told = [
            {channel: said.subscribed for channel, said in each.channels.items()}
            for each in world.echoes()
        ]
        assert told == [{"email": True, "sms": True}, {"sms": False}]
        assert (world.count(SUBSCRIBE), world.count(UNSUBSCRIBE), world.count(ADD)) == (
            1,
            1,
            0,
        )
