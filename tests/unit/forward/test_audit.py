"""The audit says what Klaviyo lost, nothing else, and stands in nobody's way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from pipeline.forward import audit as module
from pipeline.forward.audit import DELAYS, Audit
from pipeline.forward.deliver import Deliver
from pipeline.klaviyo import held
from pipeline.klaviyo.client import Client
from pipeline.klaviyo.limits import Limits
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from pipeline.records import Delivered, Item, Lot, Record, Ticket
from pipeline.sandbox import Rule, Sandbox
from pipeline.sandbox.settings import Settings
from schemas import bulk_events
from schemas.commands import Command, CreateEvent, Identity, UpsertProfile
from tests.parts import session
from tests.virtual_time import LoopClock, virtual

ADA = Identity("C-1", "ada@shop.dev", "+12025550123")
TIME = "2026-11-20T10:00:00.25+02:00"
OVER = sum(DELAYS["event"]) + 1  # s after which every sample has ended


def order(number: int | str = 1, who: Identity = ADA, **properties: Any) -> CreateEvent:
    body = {"OrderId": f"O-{number}", "Items": [{"SKU": "S", "Quantity": 0}], "Note": ""}
    return CreateEvent(
        who,
        "Placed Order",
        f"O-{number}",
        TIME,
        msgspec.Raw(msgspec.json.encode(body | properties)),
        {"first_name": "Ada"},
        msgspec.Raw(b"35.50"),
        "USD",
    )


def update(who: Identity = ADA, **attributes: Any) -> UpsertProfile:
    return UpsertProfile(
        who,
        {"first_name": "Ada", "title": None, "location": {"city": "NY"}} | attributes,
        {"tier": "gold", "points": 0, "tags": ["a", 1]},
        frozenset({"old"}),
    )


class World:
    """A client, an audit of every item, and the sandbox it may be lied to by."""

    def __init__(self, sandbox: Sandbox, sample: int) -> None:
        clock = LoopClock()
        self.sandbox = sandbox
        self.metrics = Metrics()
        self.health = Health(self.metrics, clock)
        limits = Limits(clock, lambda: 0.5)
        self.session = session(sandbox.url, limits, self.metrics, self.health)
        self.client = Client(self.session, limits)
        self.audit = Audit(self.client, sample, lambda: 0.5, self.metrics, clock)
        self._deliver = Deliver(self.client, self.metrics, "drop_identifier")
        self._offset = 0

    async def send(self, *commands: Command, bulk: bool = False) -> None:
        """Deliver and tell the audit, as the flow does."""
        items = []
        for command in commands:
            self._offset += 1
            record = Record("shop.orders", 2, self._offset, 0, None, b"")
            items.append(Item([command], [(Ticket(record, Lot(), 1, 1), command)]))
            if bulk and isinstance(command, CreateEvent):
                items[-1].row = bulk_events.rows([command])
                items[-1].person = bulk_events.person(command)
        permit: Any = None
        outcomes = await self._deliver.send(items, permit, bulk=bulk)
        for item, outcome in zip(items, outcomes, strict=True):
            assert isinstance(outcome, Delivered)
            self.audit.delivered([item], bulk=bulk)

    def results(self) -> dict[str, float]:
        """audits_total by result; those there were none of are left out."""
        return {
            sample.labels["result"]: sample.value
            for metric in self.metrics.audits.collect()
            for sample in metric.samples
            if sample.name.endswith("_total") and sample.value
        }

    def mismatches(self, operation: str) -> float:
        name = "klaviyo_pipeline_audit_mismatches_total"
        labels = {"operation": operation}
        return self.metrics.registry.get_sample_value(name, labels) or 0


@asynccontextmanager
async def world(sample: int = 1, **settings: Any) -> AsyncIterator[World]:
    box = Sandbox(settings=Settings(**settings), clock=LoopClock(), sleep=asyncio.sleep)
    async with box:
        made = World(box, sample)
        async with made.session:
            task = asyncio.create_task(made.audit.run())
            try:
                yield made
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("delay", [0, 2 * 3600])
@virtual
async def test_all_that_arrives_even_late_is_held(delay: int) -> None:
    with capture_logs() as lines:
        async with world(event_delay=delay) as our:
            await our.send(update())
            await asyncio.sleep(400)
            await our.send(order(1), update(Identity("C-2")))
            await our.send(order(2), order(3, Identity(None, "b@shop.dev")), bulk=True)
            await asyncio.sleep(OVER)
            assert our.results() == {"held": 5}
    assert lines == []


@pytest.mark.parametrize("bulk", [False, True])
@virtual
async def test_exactly_the_lost_event_is_reported_without_its_customer(
    bulk: bool,
) -> None:
    with capture_logs() as lines:
        async with world(lost_events=["O-2"]) as our:
            await our.send(*(order(number) for number in range(4)), bulk=bulk)
            await asyncio.sleep(OVER)
            operation = "bulk_create_events" if bulk else "create_event"
            assert our.results() == {"held": 3, "mismatch": 1}
            assert our.mismatches(operation) == 1
    assert lines == [
        {
            "event": "Klaviyo does not hold what it accepted",
            "log_level": "error",
            "operation": operation,
            "fields": ["event"],
            "klaviyo_id": None,
            "topic": "shop.orders",
            "partition": 2,
            "offset": 3,
        }
    ]


@virtual
async def test_a_dropped_test_domain_is_found() -> None:
    with capture_logs() as lines:
        async with world() as our:
            await our.send(order(1, Identity(None, "ada@example.com")))
            await asyncio.sleep(OVER)
            assert our.results() == {"mismatch": 1}
    assert [line["fields"] for line in lines] == [["event"]]
    assert "ada" not in str(lines).lower()


@virtual
async def test_fields_of_a_profile_that_differ_are_named() -> None:
    with capture_logs() as lines:
        async with world() as our:
            await our.send(update())
            (profile,) = our.sandbox.state.profiles
            change: dict[str, Any] = {
                "phone_number": None,
                "title": "Dr",
                "location": {"city": "Rome"},
                "properties": {"tier": "x", "points": False, "old": 1, "other": 2},
            }
            our.sandbox.state.profiles.update(profile.id, change, None, 0)
            await asyncio.sleep(OVER)
            assert our.mismatches("create_or_update_profile") == 1
    assert lines[0]["klaviyo_id"] == profile.id
    assert set(lines[0]["fields"]) == {
        "phone_number",
        "title",
        "location.city",
        "properties.tier",
        "properties.points",
        "properties.old",
    }


@virtual
async def test_a_profile_that_is_gone_is_reported() -> None:
    with capture_logs() as lines:
        async with world() as our:
            await our.send(update())
            (profile,) = our.sandbox.state.profiles
            our.sandbox.state.profiles.delete(profile)
            await asyncio.sleep(OVER)
            assert our.results() == {"mismatch": 1}
    assert lines[0]["fields"] == ["profile"]


@virtual
async def test_what_klaviyo_refused_and_we_left_out_is_not_missed() -> None:
    async with world() as our:
        await our.send(update(Identity("C-1", phone="+1"), image="nowhere"))
        await asyncio.sleep(OVER)
        assert our.results() == {"held": 1}


@pytest.mark.parametrize("revoked", [False, True])
@virtual
async def test_a_later_change_of_ours_or_a_new_owner_overtakes(revoked: bool) -> None:
    async with world() as our:
        await our.send(update(title="Dr"))
        await asyncio.sleep(30)
        if revoked:
            our.audit.revoked()
        else:
            await our.send(update(Identity(None, "ada@shop.dev"), title="Prof"))
        await asyncio.sleep(OVER)
        expected = {"overtaken": 1.0} if revoked else {"overtaken": 1.0, "held": 1.0}
        assert our.results() == expected
        assert our.audit._watched == {}
        assert our.audit._bytes == 0


@virtual
async def test_one_line_of_many_in_the_same_second_is_missed() -> None:
    """Klaviyo shows them in pages of 200."""
    with capture_logs() as lines:
        async with world(sample=0, lost_events=["O-449"]) as our:
            orders = [order(number, Line=number) for number in range(450)]
            await our.send(*orders, bulk=True)
            our.audit._sample = our.audit._left = 1
            await our.send(order(449, Line=449), order(448, Line=448))
            await asyncio.sleep(OVER)
            assert our.results() == {"held": 1, "mismatch": 1}
    assert lines[0]["fields"] == ["event"]


@pytest.mark.parametrize("scope", ["profiles:read", "events:read"])
@virtual
async def test_a_key_that_may_not_read_only_ends_the_audit(scope: str) -> None:
    with capture_logs() as lines:
        async with world(missing_scopes=[scope]) as our:
            await our.send(order(1), order(2))
            await asyncio.sleep(OVER)
            await our.send(order(3), update())
            await asyncio.sleep(OVER)
            assert our.results() == {"unread": 1}
            assert not our.health.halted
            assert our.sandbox.state.events.count == 3
    assert [line["log_level"] for line in lines] == ["warning"]
    assert "profiles:read and events:read" in lines[0]["event"]


def answer(status: int) -> Rule:
    match = {"method": "GET"}
    return msgspec.convert(
        {"match": match, "action": {"kind": "status", "status": status}}, Rule
    )


@pytest.mark.parametrize("status", [401, 429, 500, 404])
@virtual
async def test_reads_that_fail_are_no_outage_and_no_mismatch(status: int) -> None:
    with capture_logs() as lines:
        async with world() as our:
            await our.send(order(1))
            our.sandbox.faults.add(answer(status))
            await asyncio.sleep(DELAYS["event"][0] + 1)
            assert not our.health.halted
            await our.send(update())
            await asyncio.sleep(OVER)
            assert our.results() == {"unread": 2}
    assert lines == []


@virtual
async def test_a_bug_of_the_audit_costs_only_the_audit() -> None:
    with capture_logs() as lines:
        async with world() as our:
            our.audit._compare = None  # type: ignore[assignment,method-assign]
            await our.send(order(1), order(2))
            await asyncio.sleep(OVER)
            await our.send(order(3))
            assert our.results() == {}
    assert [line["error"] for line in lines] == ["TypeError"]


@virtual
async def test_one_of_so_many_is_taken_and_memory_is_bounded() -> None:
    async with world(sample=0) as our:
        await our.send(*(order(number) for number in range(20)), bulk=True)
        await asyncio.sleep(OVER)
        assert our.results() == {}
    async with world(sample=10) as our:
        await our.send(*(order(number) for number in range(100)), bulk=True)
        await asyncio.sleep(OVER)
        assert our.results() == {"held": 10}
    async with world() as our:
        large = "x" * 90_000
        for number in range(100):
            await our.send(order(number, Large=large))
        assert our.results()["crowded"] >= 100 - module.ROOM // 90_000
        await asyncio.sleep(OVER)
        assert our.audit._bytes == 0
        await our.send(order("again"))
        await asyncio.sleep(OVER)
        assert our.results()["held"] + our.results()["crowded"] == 101


class Unnamed:
    """Klaviyo, if it showed no unique_id: the order of that number, at its time."""

    served = "2026-07-15"

    def __init__(self, number: int) -> None:
        self.number = number

    async def profile(self, kind: str, value: str) -> held.Profile:
        return held.Profile("P", {})

    async def events(self, profile: str, at: Any) -> list[held.Event]:
        shown = {"OrderId": f"O-{self.number}", "Items": [{"SKU": "S"}], "$value": 35.5}
        return [held.Event("E", "Placed Order", shown)]


@pytest.mark.parametrize(("shown", "result"), [(1, "held"), (2, "mismatch")])
@virtual
async def test_without_a_unique_id_the_properties_decide(shown: int, result: str) -> None:
    client: Any = Unnamed(shown)
    metrics = Metrics()
    audit = Audit(client, 1, lambda: 0.0, metrics, LoopClock())
    record = Record("t", 0, 0, 0, None, b"")
    item = Item([order(1)], [(Ticket(record, Lot(), 1, 1), order(1))])
    audit.delivered([item], bulk=False)
    task = asyncio.create_task(audit.run())
    await asyncio.sleep(OVER)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    name = "klaviyo_pipeline_audits_total"
    assert metrics.registry.get_sample_value(name, {"result": result}) == 1
