"""The last word counts, whatever comes between: slow jobs, backlogs, crashes.

All sleeps are in virtual time.
"""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.consent.world import (
    ADA,
    ADD,
    IMPORT,
    NO,
    REVISIONS,
    SUBSCRIBE,
    YES,
    World,
    at,
    each,
    fault,
)
from tests.virtual_time import run, virtual

HANGS = {"kind": "hang_before", "seconds": 25.0}
WORD = st.sampled_from(["subscribed", "unsubscribed"])
STATE = st.fixed_dictionaries({"status": WORD})
NAMES = st.lists(st.sampled_from(["A", "B"]), max_size=2)
TRUTH = st.sampled_from([True, False, "yes", "no", "1", 0, "TRUE", None, "?"])
SAID: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "consent": st.fixed_dictionaries({}, optional={"email": STATE, "sms": STATE}),
        "lists": st.fixed_dictionaries({}, optional={"add": NAMES, "remove": NAMES}),
        "custom_fields": st.dictionaries(
            st.sampled_from(["SubscribeProfile", "LIST_A", "UCLIST_A", "UCLIST_B"]),
            TRUTH,
            max_size=3,
        ),
    },
)


class Model:
    """What a reader of README.md expects in the end."""

    def __init__(self) -> None:
        self.consent = {"email": "NEVER_SUBSCRIBED", "sms": "NEVER_SUBSCRIBED"}
        self.lists: set[str] = set()

    def hear(self, said: dict[str, Any]) -> None:
        words: dict[str, str] = {}
        lists: dict[str, bool] = {}
        for name, value in said.get("custom_fields", {}).items():
            truth = {"true": 1, "yes": 1, "1": 1, "false": 0, "no": 0, "0": 0}.get(
                str(value).lower()
            )
            if name == "SubscribeProfile" and truth is not None:
                words["email"] = "SUBSCRIBED" if truth else "UNSUBSCRIBED"
                if not truth:
                    words["sms"] = "UNSUBSCRIBED"
            elif truth:
                lists[name[-1]] = name.startswith("LIST_")
        for channel, state in said.get("consent", {}).items():
            words[channel] = state["status"].upper()
        for change in ("add", "remove"):
            for name in said.get("lists", {}).get(change, ()):
                lists[name] = change == "add"
        self.consent |= words
        for name, there in lists.items():
            (self.lists.add if there else self.lists.discard)(name)


async def played(
    revision: str, records: list[dict[str, Any]], delay: float, crashes: list[float]
) -> None:
    model = Model()
    async with World(revision, subscribe_delay=delay) as world:
        world.group("A")
        world.group("B")
        for said in records:
            world.say(**ADA, **said)
            world.say(id="C-2", email="eve@shop.dev", **said)
            model.hear(said)
        for seconds in crashes:
            await asyncio.sleep(seconds)
            await world.restart()
        await world.settled()
        await asyncio.sleep(delay)
        world.sandbox.state.catch_up()
        assert {c: world.status(c) for c in model.consent} == model.consent
        assert world.status(email="eve@shop.dev") == model.consent["email"]
        for name in ("A", "B"):
            both = {"C-1", "C-2"} if name in model.lists else set()
            assert world.members(name) == both
        assert world.sandbox.ledger.violation_count == 0
        assert world.sandbox.state.repeats == 0 or crashes
        assert not world.letters


@settings(max_examples=60)
@given(
    revision=st.sampled_from(REVISIONS),
    records=st.lists(SAID, min_size=1, max_size=6),
    delay=st.sampled_from([0.0, 0.3, 20.0, 60.0]),
    crashes=st.lists(st.sampled_from([0.01, 0.05, 0.2, 3.0, 30.0]), max_size=2),
)
def test_the_last_word_counts(
    revision: str, records: list[dict[str, Any]], delay: float, crashes: list[float]
) -> None:
    run(played(revision, records, delay, crashes))


@each
@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize(
    ("first", "then", "status"), [(YES, NO, "UNSUBSCRIBED"), (NO, YES, "SUBSCRIBED")]
)
@virtual
async def test_an_opposite_word_waits_until_the_one_before_shows(
    revision: str, first: Any, then: Any, status: str, *, restart: bool
) -> None:
    """Klaviyo works off two jobs in any order; here the first takes longer."""
    async with World(revision) as world:
        await world.heard(**ADA, consent=then)
        world.change(subscribe_delay=50.0)
        world.say(**ADA, consent=first)
        while world.committed < 2:
            await asyncio.sleep(0.1)
        if restart:
            await world.restart()
        world.change(subscribe_delay=0.0)
        world.say(**ADA, consent=then)
        await world.settled()
        await asyncio.sleep(60)
        world.sandbox.state.catch_up()
        assert world.status() == status


@each
@virtual
async def test_nobody_else_waits(revision: str) -> None:
    async with World(revision, subscribe_delay=50.0) as world:
        world.say(**ADA, consent=YES)
        await asyncio.sleep(1)
        world.say(**ADA, consent=NO)
        world.say(id="C-2", email="eve@shop.dev", consent=YES)
        await asyncio.sleep(1)
        assert world.count(SUBSCRIBE) == 2


@each
@virtual
async def test_one_that_never_shows_is_waited_for_two_minutes(revision: str) -> None:
    async with World(revision, opt_in="double_opt_in") as world:
        world.say(**ADA, consent=YES)
        await world.heard(**ADA, consent=NO)
        assert 118 < asyncio.get_running_loop().time() < 130
        assert world.status() == "UNSUBSCRIBED"


@each
@virtual
async def test_a_backlog_is_not_newer_than_itself(revision: str) -> None:
    """Klaviyo dates our unsubscribing by when we came to send it."""
    async with World(revision) as world:
        own = {"email": {"status": "subscribed", "at": at(-3500)}}
        world.say(at(-3600), **ADA, consent=YES)
        world.say(at(-3550), **ADA, consent=NO)
        world.say(at(-3500), **ADA, consent=own)
        await world.settled()
        assert world.status() == "SUBSCRIBED"
        assert not world.letters


@each
@virtual
async def test_the_profile_comes_first_and_the_next_update_after(revision: str) -> None:
    async with World(revision) as world:
        world.group("VIP")
        world.say(**ADA, consent=YES, first_name="a")
        world.say(**ADA, lists={"add": ["VIP"]}, first_name="b")
        world.say(**ADA, first_name="c")
        await world.settled()
        assert world.writes() == [IMPORT, SUBSCRIBE, IMPORT, ADD, IMPORT]


@each
@virtual
async def test_nothing_is_sent_that_was_not_noted(revision: str) -> None:
    async with World(revision) as world:
        await world.heard(id="C-2", email="eve@shop.dev", consent=YES)
        world.notes.away = True
        world.say(**ADA, consent=YES)
        await asyncio.sleep(30)
        assert world.count(SUBSCRIBE) == 1
        assert world.committed == 1
        world.notes.away = False
        await world.settled()
        assert world.status() == "SUBSCRIBED"


@each
@virtual
async def test_what_was_noted_and_never_sent_is_sent_after_a_crash(revision: str) -> None:
    async with World(revision) as world:
        fault(world, SUBSCRIBE.removeprefix("POST "), HANGS)
        world.say(**ADA, consent=YES)
        await asyncio.sleep(5)
        assert world.notes.held
        await world.crash()
        world.sandbox.faults.clear()
        await world.restart()
        await world.settled()
        assert world.status() == "SUBSCRIBED"


@each
@virtual
async def test_old_notes_are_cleared_away(revision: str) -> None:
    async with World(revision) as world:
        await world.heard(**ADA, consent=YES)
        assert len(world.notes.held) == 1
        await asyncio.sleep(1801)
        await world.restart()
        await world.heard(id="C-2", lists={"add": ["none"]})
        assert not world.notes.held
