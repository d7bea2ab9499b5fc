"""Consent and lists, end to end: what records say, and what Klaviyo holds in the end."""

import json
from typing import Any

import pytest

from pipeline.sandbox.consent import Consent
from pipeline.sandbox.state import List
from tests.flow.rig import Rig, until

REVISIONS = ("2025-01-15", "2026-07-15")
SUBSCRIBE = "POST /api/profile-subscription-bulk-create-jobs"
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


def answers(rig: Rig, operation: str) -> int:
    """How many requests Klaviyo accepted."""
    found = rig.sandbox.ledger.statuses.get(operation, {})
    return sum(count for status, count in found.items() if status < 300)


def bodies(rig: Rig, operation: str) -> list[Any]:
    """The bodies of accepted requests; the rig must keep them."""
    return [
        json.loads(entry.body) if isinstance(entry.body, str | bytes) else entry.body
        for entry in rig.sandbox.ledger.entries
        if entry.operation == operation and entry.status < 300
    ]


@on
@pytest.mark.timeout(90)
async def test_consent_and_lists_over_a_kill(rig: Rig, revision: str) -> None:
    """The second word waits in the next process for what the first one asked."""
    rig.set(keep_bodies=True, subscribe_delay=4.0)
    make_list(rig, "VIP")
    make_list(rig, "Beta")
    at = "2026-10-01T00:00:00Z"
    said = {"email": {"status": "subscribed", "at": at}, "sms": {"status": "subscribed"}}
    lists = {"add": ["VIP", "Beta"]}
    await rig.customer(**ADA, first_name="Ada", consent=said, lists=lists)
    await rig.customer(id="C-2", email="eve@shop.dev", consent=said)
    settings = {"consent__writes": "true", "klaviyo__api_revision": revision}
    async with rig.service(**settings) as service:
        await until(lambda: answers(rig, SUBSCRIBE) >= 2, what="jobs")
        await service.kill()
    rig.set(subscribe_delay=0.0)
    await rig.customer(
        id="C-2", email="eve@shop.dev", consent={"email": {"status": "unsubscribed"}}
    )
    async with rig.service(**settings) as service:
        await rig.drained()
        assert await service.metric("dead_letters_total") == 0
        assert await service.terminate() == 0

    def applied() -> bool:
        rig.sandbox.state.catch_up()
        people = (status(rig), status(rig, "sms"), status(rig, email="eve@shop.dev"))
        return people == ("SUBSCRIBED", "SUBSCRIBED", "UNSUBSCRIBED")

    await until(applied, what="the jobs are applied")
    assert consent(rig).channels["email.marketing"].at == 1790812800.0
    assert members(rig, "VIP") == members(rig, "Beta") == {"C-1"}
    assert rig.profile("C-1")["first_name"] == "Ada"
    jobs = [body["data"]["attributes"] for body in bodies(rig, SUBSCRIBE)]
    assert {bool(job.get("historical_import")) for job in jobs} == {False, True}
    assert {job["custom_source"] for job in jobs} == {f"test {rig.number}"}


async def test_a_dry_run_shows_the_requests_and_sends_none(rig: Rig) -> None:
    vip = make_list(rig, "VIP")
    await rig.customer(
        **ADA, consent={"email": {"status": "subscribed"}}, lists={"add": ["VIP"]}
    )
    dry = rig.service(consent__writes="true")
    dry.command = ("run", "--dry-run")
    async with dry:
        assert await dry.wait() == 0, dry.output
    assert "POST /api/profile-subscription-bulk-create-jobs" in dry.output
    assert f'"id":"{vip.id}"' in dry.output
    assert rig.accepted == 0
