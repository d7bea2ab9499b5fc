"""Consent and lists, end to end: what records say, and what Klaviyo holds in the end."""

import asyncio
import json
from typing import Any

import pytest

from pipeline.sandbox.consent import Consent
from pipeline.sandbox.state import List
from tests.flow.rig import Rig

REVISIONS = ("2025-01-15", "2026-07-15")
SUBSCRIBE = "POST /api/profile-subscription-bulk-create-jobs"
UNSUBSCRIBE = "POST /api/profile-subscription-bulk-delete-jobs"
ADA = {"id": "C-1", "email": "ada@shop.dev", "phone": "+12025550123"}
on = pytest.mark.parametrize("revision", REVISIONS)


def consent(rig: Rig, email: str = "ada@shop.dev") -> Consent:
    """What Klaviyo holds about who has that address."""
    found = rig.sandbox.state.profiles.owner("email", email)
    assert found is not None, f"no profile {email}"
    return found.consent


def status(rig: Rig, channel: str = "email", email: str = "ada@shop.dev") -> str:
    held = consent(rig, email).channels.get(f"{channel}.marketing")
    return held.status if held else "NEVER_SUBSCRIBED"


def make_list(rig: Rig, name: str, opt_in: str = "single_opt_in", at: int = 1) -> List:
    state = rig.sandbox.state
    made = List(state.ids.short(), name, at, at, opt_in)
    state.lists[made.id] = made
    return made


def members(rig: Rig, name: str) -> set[str | None]:
    """External ids of who is on the lists of that name."""
    state = rig.sandbox.state
    return {
        state.profiles.by_id[member].identifiers.get("external_id")
        for group in state.lists.values()
        if group.name == name
        for member in group.members
    }


def bodies(rig: Rig, operation: str) -> list[Any]:
    """The bodies of accepted requests; the rig must keep them."""
    return [
        json.loads(entry.body) if isinstance(entry.body, str | bytes) else entry.body
        for entry in rig.sandbox.ledger.entries
        if entry.operation == operation and entry.status < 300
    ]


@on
async def test_a_record_subscribes_and_lists(rig: Rig, revision: str) -> None:
    rig.set(keep_bodies=True)
    make_list(rig, "VIP")
    make_list(rig, "Beta")
    await rig.customer(
        **ADA,
        first_name="Ada",
        consent={
            "email": {"status": "subscribed", "at": "2026-10-01T00:00:00Z"},
            "sms": {"status": "subscribed"},
        },
        lists={"add": ["VIP", "Beta"]},
    )
    async with rig.service(
        consent__writes="true", klaviyo__api_revision=revision
    ) as service:
        await rig.drained()
        assert await service.metric("dead_letters_total") == 0
        assert await service.metric("degraded_fields_total") == 0
        assert await service.terminate() == 0
    assert status(rig) == status(rig, "sms") == "SUBSCRIBED"
    assert consent(rig).channels["email.marketing"].at == 1790812800.0
    assert members(rig, "VIP") == members(rig, "Beta") == {"C-1"}
    assert rig.profile("C-1")["first_name"] == "Ada"
    jobs = [body["data"]["attributes"] for body in bodies(rig, SUBSCRIBE)]
    assert sorted(bool(job.get("historical_import")) for job in jobs) == [False, True]
    assert {job["custom_source"] for job in jobs} == {f"test {rig.number}"}
    assert rig.sandbox.ledger.violation_count == 0


@on
async def test_without_consent_writes_only_the_profile_arrives(
    rig: Rig, revision: str
) -> None:
    make_list(rig, "VIP")
    await rig.customer(
        **ADA,
        first_name="Ada",
        consent={"email": {"status": "subscribed"}},
        lists={"add": ["VIP"]},
        custom_fields={"SubscribeProfile": True, "LIST_VIP": "yes", "tier": "gold"},
    )
    async with rig.service(klaviyo__api_revision=revision) as service:
        await rig.drained()
        assert await service.metric("skipped_total", {"reason": "consent_off"}) == 1
        assert await service.terminate() == 0
    assert status(rig) == "NEVER_SUBSCRIBED"
    assert members(rig, "VIP") == set()
    assert rig.profile("C-1")["first_name"] == "Ada"
    assert rig.profile("C-1")["properties"] == {"tier": "gold"}


@on
async def test_an_order_of_words_ends_with_the_last_one(rig: Rig, revision: str) -> None:
    """Jobs take a while at Klaviyo; the later word waits for the earlier one."""
    rig.set(subscribe_delay=0.7)
    words = ["subscribed", "unsubscribed", "subscribed", "unsubscribed"]
    for word in words:
        await rig.customer(**ADA, consent={"email": {"status": word}})
    await rig.customer(
        id="C-2", email="eve@shop.dev", consent={"email": {"status": words[0]}}
    )
    async with rig.service(
        consent__writes="true", klaviyo__api_revision=revision
    ) as service:
        await rig.drained()
        await asyncio.sleep(1.0)  # the last job's delay
        rig.sandbox.state.catch_up()
        assert await service.terminate() == 0
    assert status(rig) == "UNSUBSCRIBED"
    assert rig.sandbox.ledger.violation_count == 0
