"""The ledger and the control API: what the witness saw, and what can be changed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import orjson
import pytest
from aiohttp import ClientSession

from pipeline.sandbox import HeldClock, Sandbox, Settings

Ask = Callable[..., Awaitable[tuple[int, Any, Mapping[str, str]]]]
IMPORT = "/api/profile-import"
HEADERS = {
    "Authorization": "Klaviyo-API-Key pk_test",
    "Content-Type": "application/json",
    "revision": "2026-07-15",
}


def person(**attributes: object) -> dict[str, Any]:
    return {"data": {"type": "profile", "attributes": attributes}}


class Gate:
    """A sleep that lasts until it is opened."""

    def __init__(self) -> None:
        self.waiting = 0
        self.arrived = asyncio.Condition()
        self.opened = asyncio.Event()

    async def sleep(self, _: float) -> None:
        async with self.arrived:
            self.waiting += 1
            self.arrived.notify_all()
        await self.opened.wait()

    async def until(self, count: int) -> None:
        async with self.arrived:
            await self.arrived.wait_for(lambda: self.waiting >= count)


@pytest.fixture
async def gate() -> Gate:
    return Gate()


@pytest.fixture
async def gated(gate: Gate) -> AsyncIterator[Sandbox]:
    settings = Settings(latency=1.0)
    async with Sandbox(clock=HeldClock(), sleep=gate.sleep, settings=settings) as running:
        yield running


async def together(sandbox: Sandbox, gate: Gate, *bodies: dict[str, Any]) -> None:
    """Send the bodies so that all are in flight at once."""
    async with ClientSession(headers=HEADERS) as session:

        async def send(body: dict[str, Any]) -> None:
            async with session.post(
                sandbox.url + IMPORT, data=orjson.dumps(body)
            ) as reply:
                await reply.read()

        async with asyncio.TaskGroup() as group:
            for count, body in enumerate(bodies, 1):
                group.create_task(send(body))
                await gate.until(count)
            gate.opened.set()


async def test_two_writes_of_one_profile_in_flight_are_a_violation(
    gated: Sandbox, gate: Gate
) -> None:
    one, two = person(email="a@b.co", external_id="C-1"), person(email="A@b.co")
    await together(gated, gate, one, two)
    (violation,) = gated.ledger.violations
    assert (violation.first, violation.second) == (1, 2)
    assert violation.keys == ["email:a@b.co"]
    assert gated.ledger.in_flight == 0


async def test_different_identifiers_of_one_profile_count(
    gated: Sandbox, gate: Gate
) -> None:
    gated.state.profiles.create({"email": "a@b.co", "external_id": "C-1"}, 0.0)
    await together(gated, gate, person(email="a@b.co"), person(external_id="C-1"))
    assert gated.ledger.violation_count == 1


async def test_different_profiles_may_be_written_together(
    gated: Sandbox, gate: Gate
) -> None:
    await together(gated, gate, person(email="a@b.co"), person(email="b@b.co"))
    assert gated.ledger.violation_count == 0
    assert [entry.status for entry in gated.ledger.entries] == [201, 201]


async def test_a_write_during_a_bulk_job_is_a_violation(
    ask: Ask, sandbox: Sandbox, clock: HeldClock
) -> None:
    sandbox.settings = sandbox.settings.changed({"import_processing": 60})
    rows = [{"type": "profile", "attributes": {"email": "a@b.co"}}]
    job = {
        "data": {
            "type": "profile-bulk-import-job",
            "attributes": {"profiles": {"data": rows}},
        }
    }
    await ask("POST", "/api/profile-bulk-import-jobs", job)
    await ask("POST", IMPORT, person(email="b@b.co"))
    assert sandbox.ledger.violation_count == 0
    await ask("POST", IMPORT, person(email="a@b.co"))
    assert sandbox.ledger.violation_count == 1
    clock.advance(60)
    await ask("POST", IMPORT, person(email="a@b.co"))
    assert sandbox.ledger.violation_count == 1
    assert sandbox.ledger.in_flight == 0


async def test_requests_are_on_record(ask: Ask, sandbox: Sandbox) -> None:
    sandbox.settings = sandbox.settings.changed({"keep_bodies": True, "keep_requests": 2})
    await ask("GET", "/api/lists")
    await ask("POST", f"{IMPORT}/", person(email="a@b.co"), revision="2023-10-15")
    await ask("POST", IMPORT, b"{")
    _, answer, _ = await ask("GET", "/sandbox/requests")
    good, bad = answer["data"]
    assert (good["operation"], good["status"]) == (f"POST {IMPORT}", 201)
    assert (good["requested"], good["served"]) == ("2023-10-15", "2025-01-15")
    assert good["touched"] == ["email:a@b.co"]
    assert good["body"] == person(email="a@b.co")
    assert (bad["status"], bad["touched"], bad["body"]) == (400, [], None)
    _, answer, _ = await ask("GET", "/sandbox/requests?status=400&limit=1")
    assert [entry["number"] for entry in answer["data"]] == [3]


async def test_state_counts(ask: Ask) -> None:
    await ask("POST", IMPORT, person(email="a@b.co"))
    await ask("GET", "/api/accounts")
    await ask("GET", "/api/accounts")
    _, answer, _ = await ask("GET", "/sandbox/state")
    assert (answer["profiles"], answer["requests"], answer["throttled"]) == (1, 3, 1)
    assert answer["statuses"]["GET /api/accounts"] == {"200": 1, "429": 1}


async def test_a_marketers_edit(ask: Ask, clock: HeldClock) -> None:
    _, made, _ = await ask(
        "POST", "/sandbox/profiles", {"attributes": {"email": "a@b.co"}}
    )
    path = f"/sandbox/profiles/{made['data']['id']}"
    clock.advance(5)
    edit = {
        "attributes": {"first_name": "A", "properties": {"tier": "gold"}},
        "meta": {"patch_properties": {"append": {"tags": "x"}}},
        "consent": {"email.marketing": "UNSUBSCRIBED"},
        "suppress": "HARD_BOUNCE",
    }
    status, answer, _ = await ask("PATCH", path, edit)
    shown = answer["data"]["attributes"]
    assert (status, shown["first_name"]) == (200, "A")
    assert shown["properties"] == {"tier": "gold", "tags": ["x"]}
    assert shown["updated"] == "2026-11-23T00:00:05+00:00"
    reasons = {
        s["reason"] for s in shown["subscriptions"]["email"]["marketing"]["suppression"]
    }
    assert reasons == {"UNSUBSCRIBE", "HARD_BOUNCE"}
    assert (await ask("DELETE", path))[0] == 204
    assert (await ask("PATCH", path, edit))[0] == 404


async def test_settings_are_checked(ask: Ask, sandbox: Sandbox) -> None:
    status, answer, _ = await ask("PUT", "/sandbox/settings", {"latency": [0.1, 0.2]})
    assert (status, answer["latency"]) == (200, [0.1, 0.2])
    wrongs: list[object] = [{"nothing": 1}, {"identity": "maybe"}, {"latency": "x"}, []]
    for wrong in wrongs:
        status, answer, _ = await ask("PUT", "/sandbox/settings", wrong)
        assert status == 400
        assert answer["error"]
    assert sandbox.settings.latency == (0.1, 0.2)


async def test_reset_forgets_everything(ask: Ask, sandbox: Sandbox) -> None:
    await ask("PUT", "/sandbox/settings", {"identity": "merge"})
    await ask("POST", IMPORT, person(email="a@b.co"))
    await ask("GET", "/api/accounts")
    assert (await ask("POST", "/sandbox/reset"))[0] == 204
    _, answer, _ = await ask("GET", "/sandbox/state")
    assert (answer["profiles"], answer["requests"]) == (0, 0)
    assert sandbox.settings.identity == "conflict"
    assert (await ask("GET", "/api/accounts"))[0] == 200


async def test_an_unknown_control_path_says_so(ask: Ask) -> None:
    status, answer, _ = await ask("GET", "/sandbox/nothing")
    assert (status, answer["error"]) == (404, "no GET /sandbox/nothing")
