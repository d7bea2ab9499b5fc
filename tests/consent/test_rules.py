"""Who is subscribed, who is not, and who is left alone."""

import asyncio
from typing import Any

import pytest

from pipeline.sandbox.consent import Channel
from tests.consent.world import (
    ADA,
    IMPORT,
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

# What becomes of contradictions: consent, who is on the list, what is counted.
SUBSCRIBED: Any = "SUBSCRIBED", set(), "consent"
UNSUBSCRIBED: Any = "UNSUBSCRIBED", set(), "consent"
ON_IT: Any = "NEVER_SUBSCRIBED", {"C-1"}, "lists"
NOT_ON_IT: Any = "NEVER_SUBSCRIBED", set(), "lists"


@each
@virtual
async def test_both_channels_are_subscribed_after_the_profile(revision: str) -> None:
    async with World(revision) as world:
        sms = {"status": "subscribed"}
        await world.heard(**ADA, consent={**YES, "sms": sms}, first_name="Ada")
        assert world.status() == world.status("sms") == "SUBSCRIBED"
        assert world.writes() == [IMPORT, SUBSCRIBE]
        (job,) = world.bodies(SUBSCRIBE)
        assert "historical_import" not in job["attributes"]
        assert job["attributes"]["custom_source"] == "the shop"
        assert "relationships" not in job


@each
@virtual
async def test_consent_with_its_own_time_is_imported_as_history(revision: str) -> None:
    """No double opt-in holds it back."""
    async with World(revision, opt_in="double_opt_in") as world:
        own = {"email": {"status": "subscribed", "at": "2026-10-01T00:00:00+02:00"}}
        await world.heard(**ADA, consent=own)
        assert world.status() == "SUBSCRIBED"
        (job,) = world.bodies(SUBSCRIBE)
        assert job["attributes"]["historical_import"] is True
        said = job["attributes"]["profiles"]["data"][0]["attributes"]["subscriptions"]
        assert said["email"]["marketing"]["consented_at"] == "2026-09-30T22:00:00Z"


@each
@virtual
async def test_channels_with_and_without_a_time_go_in_jobs_of_their_own(
    revision: str,
) -> None:
    async with World(revision) as world:
        own = {"status": "subscribed", "at": at(-86_400)}
        both = {"email": own, "sms": {"status": "subscribed"}}
        await world.heard(**ADA, consent=both)
        assert world.status() == world.status("sms") == "SUBSCRIBED"
        assert world.count(SUBSCRIBE) == 2
        assert world.sandbox.ledger.violation_count == 0


@each
@virtual
async def test_a_time_to_come_is_none(revision: str) -> None:
    async with World(revision) as world:
        ahead = {"email": {"status": "subscribed", "at": at(86_400)}}
        await world.heard(**ADA, consent=ahead)
        assert world.status() == "SUBSCRIBED"
        (job,) = world.bodies(SUBSCRIBE)
        assert "historical_import" not in job["attributes"]


@each
@virtual
async def test_nothing_is_written_without_consent_writes(revision: str) -> None:
    async with World(revision, writes=False) as world:
        world.group("VIP")
        fields = {"SubscribeProfile": True, "LIST_VIP": 1, "UCLIST_VIP": 0, "tier": "x"}
        await world.heard(
            **ADA, consent=YES, lists={"add": ["VIP"]}, custom_fields=fields
        )
        assert world.writes() == [IMPORT]
        assert world.number("skipped_total", reason="consent_off") == 1


@each
@virtual
async def test_backfill_sends_no_consent(revision: str) -> None:
    async with World(revision, backfill=True) as world:
        world.group("VIP")
        await world.heard(**ADA, consent=YES, lists={"add": ["VIP"]})
        assert world.writes() == [IMPORT]
        assert world.number("skipped_total", reason="consent_off") == 1


@each
@virtual
async def test_who_unsubscribed_at_klaviyo_since_stays_so(revision: str) -> None:
    """Whether the consent has a time of its own, or the record's."""
    async with World(revision) as world:
        await world.heard(id="C-1", email="ada@shop.dev")
        world.consent().unsubscribe("email.marketing", world.clock.now())
        said = at(-60)
        await world.heard(said, **ADA, consent=YES)
        own = {"email": {"status": "subscribed", "at": said}}
        await world.heard(**ADA, consent=own)
        assert world.status() == "UNSUBSCRIBED"
        assert world.count(SUBSCRIBE) == 0
        assert world.number("consent_withheld_total", reason="newer") == 2


@each
@pytest.mark.parametrize("at_klaviyo", [1_795_392_000.0, None])
@virtual
async def test_nor_who_unsubscribed_from_text_messages(
    revision: str, at_klaviyo: float | None
) -> None:
    """Where Klaviyo does not say since when, nobody is subscribed on a guess."""
    async with World(revision) as world:
        await world.heard(id="C-1", email="ada@shop.dev", phone=ADA["phone"])
        world.consent().channels["sms.marketing"] = Channel("UNSUBSCRIBED", at_klaviyo)
        await world.heard(at(-60), **ADA, consent={"sms": {"status": "subscribed"}})
        assert world.status("sms") == "UNSUBSCRIBED"
        assert world.count(SUBSCRIBE) == 0
        assert world.number("consent_withheld_total", reason="newer") == 1


@each
@pytest.mark.parametrize(
    "reason", ["USER_SUPPRESSED", "SPAM_COMPLAINT", "UNSUBSCRIBE", "HARD_BOUNCE"]
)
@virtual
async def test_who_was_suppressed_since_stays_so(revision: str, reason: str) -> None:
    async with World(revision) as world:
        await world.heard(id="C-1", email="ada@shop.dev")
        world.consent().suppressions[reason] = world.clock.now()
        await world.heard(at(-60), **ADA, consent=YES)
        assert reason in world.consent().suppressions
        assert world.count(SUBSCRIBE) == 0
        assert world.number("consent_withheld_total", reason="newer") == 1


@each
@virtual
async def test_a_newer_consent_subscribes_again(revision: str) -> None:
    async with World(revision) as world:
        await world.heard(id="C-1", email="ada@shop.dev")
        world.consent().unsubscribe("email.marketing", world.clock.now() - 3600)
        await world.heard(at(-60), **ADA, consent=YES)
        assert world.status() == "SUBSCRIBED"
        assert world.consent().suppressions == {}


@each
@virtual
async def test_the_owner_of_the_address_decides(revision: str) -> None:
    """The customer's profile has another address; its owner has unsubscribed."""
    async with World(revision) as world:
        await world.heard(id="C-1", email="ada@shop.dev")
        await world.heard(id="C-2", email="eve@shop.dev")
        world.consent("eve@shop.dev").unsubscribe("email.marketing", world.clock.now())
        said = {"id": "C-1", "email": "eve@shop.dev", "consent": YES}
        world.group("VIP")
        await world.heard(at(-60), **said, lists={"add": ["VIP"]})
        assert world.status(email="eve@shop.dev") == "UNSUBSCRIBED"
        assert world.count(SUBSCRIBE) == 0
        assert world.members("VIP") == {"C-1"}


@each
@virtual
async def test_unsubscribing_goes_whatever_its_time(revision: str) -> None:
    async with World(revision) as world:
        await world.heard(id="C-1", email="ada@shop.dev", phone=ADA["phone"])
        for channel in ("email.marketing", "sms.marketing"):
            world.consent().subscribe(channel, world.clock.now())
        no = {"status": "unsubscribed"}
        await world.heard(at(-86_400), **ADA, consent={"email": no, "sms": no})
        assert world.status() == world.status("sms") == "UNSUBSCRIBED"
        assert world.count(UNSUBSCRIBE) == 1


@each
@virtual
async def test_who_is_subscribed_is_not_asked_again(revision: str) -> None:
    async with World(revision) as world:
        await world.heard(**ADA, consent=YES)
        await world.heard(**ADA, consent=YES)
        assert world.count(SUBSCRIBE) == 1
        await world.heard(**ADA, consent=NO)
        await world.heard(**ADA, consent=NO)
        assert world.count(UNSUBSCRIBE) == 1


@each
@virtual
async def test_nor_after_half_an_hour(revision: str) -> None:
    async with World(revision) as world:
        await world.heard(**ADA, consent=YES)
        await asyncio.sleep(3600)
        await world.heard(**ADA, consent=YES)
        assert world.count(SUBSCRIBE) == 1


@virtual
async def test_an_old_revision_takes_fewer_and_no_history() -> None:
    async with World("2024-06-15", today="2024-08-01") as world:
        said = {"email": {"status": "subscribed", "at": "2024-05-01T00:00:00Z"}}
        busy = {"kind": "status", "status": 429, "retry_after": 20}
        fault(world, "subscription-bulk-create", busy, times=1)
        world.say(id="A", email="first@shop.dev", consent=said)
        await asyncio.sleep(1)
        for number in range(250):  # all of them wait for the end of the pause
            world.say(id=f"C-{number}", email=f"c{number}@shop.dev", consent=said)
        await world.settled()
        rows = [
            len(job["attributes"]["profiles"]["data"]) for job in world.bodies(SUBSCRIBE)
        ]
        assert sum(rows) == 251
        assert max(rows) == 100
        assert not world.letters


@each
@virtual
async def test_one_subscribe_job_in_30_minutes(revision: str) -> None:
    """With double opt-in the profile does not show it: each job would be a message."""
    async with World(revision, opt_in="double_opt_in") as world:
        await world.heard(**ADA, consent=YES)
        for _ in range(3):
            await asyncio.sleep(590)
            await world.heard(**ADA, consent=YES)
        assert world.count(SUBSCRIBE) == 1
        assert world.number("consent_withheld_total", reason="repeated") == 3
        await asyncio.sleep(30)
        await world.heard(**ADA, consent=YES)
        assert world.count(SUBSCRIBE) == 2


@each
@virtual
async def test_the_same_over_a_crash(revision: str) -> None:
    async with World(revision, opt_in="double_opt_in") as world:
        await world.heard(**ADA, consent=YES)
        await world.restart()
        await world.heard(**ADA, consent=YES)
        assert world.count(SUBSCRIBE) == 1


@each
@virtual
async def test_a_change_of_state_may_come_at_once(revision: str) -> None:
    async with World(revision) as world:
        for word in (YES, NO, YES, NO, YES):
            await world.heard(**ADA, consent=word)
        assert world.status() == "SUBSCRIBED"
        assert (world.count(SUBSCRIBE), world.count(UNSUBSCRIBE)) == (3, 2)


@each
@virtual
async def test_a_change_at_klaviyo_may_be_answered_at_once(revision: str) -> None:
    async with World(revision) as world:
        await world.heard(**ADA, consent=YES)
        await asyncio.sleep(60)
        world.consent().unsubscribe("email.marketing", world.clock.now())
        await asyncio.sleep(60)
        await world.heard(**ADA, consent=YES)
        assert world.status() == "SUBSCRIBED"
        assert world.count(SUBSCRIBE) == 2


@each
@pytest.mark.parametrize(
    ("channel", "who"),
    [
        ("sms", {"email": "ada@shop.dev", "phone": "123"}),
        ("sms", {"email": "ada@shop.dev"}),
        ("email", {"email": "a..b@shop.dev", "phone": "+12025550123"}),
        ("email", {}),
    ],
)
@virtual
async def test_a_channel_needs_a_valid_address(
    revision: str, channel: str, who: dict[str, str]
) -> None:
    async with World(revision) as world:
        said = {channel: {"status": "subscribed"}}
        await world.heard(id="C-1", **who, consent=said)
        assert world.writes() == [IMPORT]
        assert world.lost("consent") == 1


@each
@pytest.mark.parametrize(
    ("said", "status", "members", "lost"),
    [
        ({"custom_fields": {"SubscribeProfile": "no"}, "consent": YES}, *SUBSCRIBED),
        ({"consent": NO, "custom_fields": {"SubscribeProfile": 1}}, *UNSUBSCRIBED),
        ({"custom_fields": {"LIST_VIP": 1, "UCLIST_VIP": 1}}, *NOT_ON_IT),
        ({"custom_fields": {"UCLIST_VIP": 1, "LIST_VIP": 1}}, *ON_IT),
        ({"custom_fields": {"UCLIST_VIP": 1}, "lists": {"add": ["VIP"]}}, *ON_IT),
        ({"lists": {"remove": ["VIP"], "add": ["VIP"]}}, *NOT_ON_IT),
    ],
)
@virtual
async def test_of_contradictions_the_last_typed_one_wins(
    revision: str, said: Any, status: str, members: set[str], lost: str
) -> None:
    """The order is custom_fields, consent, lists.add, lists.remove."""
    async with World(revision) as world:
        world.group("VIP")
        await world.heard(**ADA, **said)
        assert world.status() == status
        assert world.members("VIP") == members
        assert world.lost(lost) == 1
        assert not world.letters


@each
@virtual
async def test_nothing_of_a_refused_profile_is_sent(revision: str) -> None:
    """Its consent would make a profile of its own."""
    async with World(revision) as world:
        world.change(max_profile=100)
        await world.heard(**ADA, consent=YES, custom_fields={"a": "x" * 200})
        assert len(world.letters) == 1
        assert world.count(SUBSCRIBE) == 0
