"""Lists by name: who is put on them, taken off, and what a missing one costs.

All sleeps are in virtual time.
"""

import asyncio

from tests.consent.world import (
    ADA,
    ADD,
    IMPORT,
    REMOVE,
    SUBSCRIBE,
    UNSUBSCRIBE,
    YES,
    World,
    at,
    each,
)
from tests.virtual_time import virtual

LISTS = "GET /api/lists"
CREATE = "POST /api/lists"


@each
@virtual
async def test_lists_are_no_consent(revision: str) -> None:
    async with World(revision) as world:
        world.group("VIP")
        trial = world.group("Trial")
        await world.heard(id="C-1", email="ada@shop.dev")
        trial.members[world.profile().id] = 1
        await world.heard(**ADA, lists={"add": ["VIP"], "remove": ["Trial", "VIP 2"]})
        assert world.members("VIP") == {"C-1"}
        assert world.members("Trial") == set()
        assert world.status() == "NEVER_SUBSCRIBED"
        assert world.consent().list_suppressions == {}
        assert world.writes() == [IMPORT, IMPORT, REMOVE, ADD]
        assert world.lost("lists") == 1, "the list that does not exist"
        assert not world.letters


@each
@virtual
async def test_custom_fields_say_the_same(revision: str) -> None:
    async with World(revision) as world:
        world.group("VIP")
        world.group("Old")
        fields = {"SubscribeProfile": "Yes", "LIST_VIP": "1", "LIST_Old": "no", "tier": 7}
        await world.heard(**ADA, custom_fields=fields)
        assert world.members("VIP") == {"C-1"}
        assert world.members("Old") == set()
        assert world.status() == "SUBSCRIBED"
        assert world.status("sms") == "NEVER_SUBSCRIBED", "sms has to be said expressly"
        assert world.profile().properties == {"tier": 7}
        fields = {"SubscribeProfile": 0, "UCLIST_VIP": "off"}
        await world.heard(**ADA, custom_fields=fields)
        assert world.status() == world.status("sms") == "UNSUBSCRIBED"
        assert world.members("VIP") == {"C-1"}


@each
@virtual
async def test_the_list_to_subscribe_to(revision: str) -> None:
    """The first the record names, else consent.list; the others are joined."""
    async with World(revision, default="Newsletter") as world:
        ids = {name: world.group(name).id for name in ("Newsletter", "VIP", "Beta")}
        await world.heard(**ADA, consent=YES)
        await world.heard(
            id="C-2",
            email="eve@shop.dev",
            consent=YES,
            lists={"add": ["VIP", "Beta"]},
        )
        jobs = [
            job["relationships"]["list"]["data"]["id"] for job in world.bodies(SUBSCRIBE)
        ]
        assert jobs == [ids["Newsletter"], ids["VIP"]]
        assert world.members("Newsletter") == {"C-1"}
        assert world.members("VIP") == world.members("Beta") == {"C-2"}
        assert world.count(ADD) == 1


@each
@virtual
async def test_leaving_a_list_is_no_leaving_of_everything(revision: str) -> None:
    """For who is not on the list Klaviyo's own job would unsubscribe from everything."""
    async with World(revision) as world:
        world.group("Trial")
        away = {"UCLIST_Trial": True}
        await world.heard(**ADA, consent=YES, lists={"add": ["Trial"]})
        await world.heard(id="C-2", email="eve@shop.dev", consent=YES)
        await world.heard(**ADA, custom_fields=away)
        await world.heard(id="C-2", email="eve@shop.dev", custom_fields=away)
        assert world.members("Trial") == set()
        assert world.status() == world.status(email="eve@shop.dev") == "SUBSCRIBED"
        assert world.count(UNSUBSCRIBE) == 0


@each
@virtual
async def test_who_left_a_list_since_is_not_put_on_it(revision: str) -> None:
    async with World(revision) as world:
        trial = world.group("Trial")
        await world.heard(id="C-1", email="ada@shop.dev")
        world.consent().list_suppressions[trial.id] = world.clock.now()
        lists = {"add": ["Trial"]}
        await world.heard(at(-60), **ADA, consent=YES, lists=lists)
        assert world.members("Trial") == set()
        assert world.count(SUBSCRIBE) == 0
        assert world.number("consent_withheld_total", reason="newer") == 2
        await world.heard(**ADA, consent=YES, lists=lists)
        assert world.members("Trial") == {"C-1"}
        assert world.consent().list_suppressions == {}


@each
@virtual
async def test_leaving_waits_until_a_subscription_has_put_on_the_list(
    revision: str,
) -> None:
    async with World(revision, subscribe_delay=40.0) as world:
        world.group("Trial")
        world.say(**ADA, consent=YES, lists={"add": ["Trial"]})
        await world.heard(**ADA, custom_fields={"UCLIST_Trial": True})
        assert world.members("Trial") == set()
        assert world.status() == "SUBSCRIBED"


@each
@virtual
async def test_who_has_no_address_is_taken_off_the_list(revision: str) -> None:
    async with World(revision) as world:
        world.group("Trial")
        await world.heard(id="C-3", lists={"add": ["Trial"]})
        assert world.members("Trial") == {"C-3"}
        await world.heard(id="C-3", custom_fields={"UCLIST_Trial": True})
        assert world.members("Trial") == set()


@each
@virtual
async def test_a_missing_list_costs_the_list(revision: str) -> None:
    async with World(revision, default="Newsletter") as world:
        named = {"add": ["No such", 'with "quotes"']}
        await world.heard(**ADA, consent=YES, lists=named)
        await world.heard(**ADA, lists=named)
        assert world.status() == "SUBSCRIBED"
        assert world.count(CREATE) == 0
        assert world.lost("lists") == 4
        assert world.count(LISTS) == 2, "each is looked for once"


@each
@virtual
async def test_a_missing_list_is_looked_for_again_after_five_minutes(
    revision: str,
) -> None:
    async with World(revision) as world:
        await world.heard(**ADA, lists={"add": ["VIP"]})
        world.group("VIP")
        await world.heard(**ADA, lists={"add": ["VIP"]})
        assert world.members("VIP") == set()
        await asyncio.sleep(300)
        await world.heard(**ADA, lists={"add": ["VIP"]})
        assert world.members("VIP") == {"C-1"}
        assert world.count(LISTS) == 2


@each
@virtual
async def test_lists_are_created_where_that_is_allowed(revision: str) -> None:
    async with World(revision, create=True) as world:
        for number in range(5):
            world.say(id=f"C-{number}", lists={"add": ["VIP"]})
        await world.settled()
        assert world.members("VIP") == {f"C-{number}" for number in range(5)}
        assert world.count(CREATE) == 1
        assert world.lost("lists") == 0


@each
@virtual
async def test_of_two_lists_of_a_name_the_oldest_is_meant(revision: str) -> None:
    async with World(revision) as world:
        world.group("VIP", created=200)
        old = world.group("VIP", created=100)
        for number in range(12):
            world.group(f"VIP {number}")
        await world.heard(**ADA, lists={"add": ["VIP"]})
        assert len(old.members) == 1


@each
@virtual
async def test_a_list_that_was_made_anew_is_found_again(revision: str) -> None:
    async with World(revision) as world:
        lists = world.sandbox.state.lists
        old = world.group("VIP")
        await world.heard(id="C-0", lists={"add": ["VIP"]})
        del lists[old.id]
        world.group("VIP")
        await world.heard(**ADA, consent=YES, lists={"add": ["VIP"]})
        assert world.members("VIP") == {"C-1"}
        lists.clear()
        world.group("VIP")
        await world.heard(id="C-2", email="eve@shop.dev", lists={"add": ["VIP"]})
        assert world.members("VIP") == {"C-2"}
        lists.clear()
        await world.heard(
            id="C-4", email="bob@shop.dev", consent=YES, lists={"add": ["VIP"]}
        )
        assert world.status(email="bob@shop.dev") == "SUBSCRIBED"
        assert world.lost("lists") == 1
        assert not world.letters


@each
@virtual
async def test_a_crowd_goes_in_few_requests(revision: str) -> None:
    """1,000 profiles in a subscribe job, 100 in an unsubscribe job, 1,000 ids."""
    async with World(revision) as world:
        world.group("VIP")
        world.group("Beta")
        lists = {"add": ["VIP", "Beta"]}
        for number in range(1_100):
            world.say(
                id=f"C-{number}", email=f"c{number}@shop.dev", consent=YES, lists=lists
            )
        await world.settled()
        assert len(world.members("VIP")) == len(world.members("Beta")) == 1_100
        rows = [
            len(job["attributes"]["profiles"]["data"]) for job in world.bodies(SUBSCRIBE)
        ]
        assert sum(rows) == 1_100
        assert max(rows) == 1_000
        for number in range(1_100):
            world.say(
                id=f"C-{number}",
                email=f"c{number}@shop.dev",
                consent={"email": {"status": "unsubscribed"}},
            )
        await world.settled()
        rows = [
            len(job["attributes"]["profiles"]["data"])
            for job in world.bodies(UNSUBSCRIBE)
        ]
        assert sum(rows) == 1_100
        assert max(rows) == 100
        assert world.sandbox.ledger.violation_count == 0
