"""What Klaviyo answers, or does not: throttled, broken, wrong, late."""

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import aiohttp

from tests.faults.scenario import fault
from tests.faults.world import Shift, World, calm, hold, running
from tests.flow.rig import until

WRITES = {"method": "POST"}


def rule(action: dict[str, Any], **match: Any) -> dict[str, Any]:
    return {"match": WRITES | match, "action": action}


def status(code: int, **more: Any) -> dict[str, Any]:
    return {"kind": "status", "status": code, **more}


@fault(9, "429 with Retry-After 2, a date, 0, nonsense, again and again", "I1 I3 I9")
async def throttled(world: World) -> str:
    """A huge one is obeyed for an hour; that is a unit test's business."""
    async with world.shift(seed=109) as shift, shift.service() as service:
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=8), usegmt=True)
        texts = ("2", date, "0", "soon", "-1", "3")
        await running(service)
        async with shift.selling(200, 500, a_second=60):
            await until(lambda: shift.accepted > 20, what="load")
            for text in texts:
                shift.fault(rule(status(429, retry_after=text), times=10, seconds=1.5))
                await hold(4, service)
            await calm(service, shift)
        shift.fault()
        await shift.done(service)
        refused = shift.sandbox.ledger.throttled
        # Ten connections may be under way when an incident begins, and one probe each
        # time the pause is over; there are three families.
        assert refused <= len(texts) * 10, f"{refused} answers 429"
        return f"{await shift.balance(throttled=True)}; {refused} answers 429"


@fault(10, "429 without Retry-After for 6 s", "I1 I3 I9", quick=True)
async def throttled_without_word(world: World) -> str:
    async with world.shift(seed=110) as shift, shift.service() as service:
        await shift.sell(5, 5)
        await until(lambda: shift.accepted > 0, what="load")
        shift.fault(rule(status(429), seconds=6))
        await shift.sell(30, 30)
        await shift.done(service)
        refused = shift.sandbox.ledger.throttled
        assert 0 < refused < 60, f"{refused} answers 429 in 6 s: a tight loop"
        return f"{await shift.balance(throttled=True)}; {refused} answers 429"


@fault(11, "another client takes half of the quota for two minutes", "I3 I9")
async def quota_shared(world: World) -> str:
    async with world.shift(seed=111, limits=True) as shift, shift.service() as service:
        operations = {
            "POST /api/events": 3500,
            "POST /api/event-bulk-create-jobs": 150,
            "POST /api/profile-import": 750,
            "POST /api/profile-bulk-import-jobs": 150,
        }
        await running(service)
        eating = asyncio.create_task(_eat(shift, operations))
        try:
            async with shift.selling(1500, 4000, a_second=60):
                await hold(125, service)
        finally:
            eating.cancel()
        await shift.done(service, within=200)
        ledger = shift.sandbox.ledger
        ours = sum(
            sum(ledger.statuses.get(operation, {}).values()) for operation in operations
        )
        refused = ledger.throttled
        said = f"{refused} of {ours} answers were 429"
        assert refused <= max(1, 0.01 * ours), said
        return f"{await shift.balance(throttled=True)}; {said}"


async def _eat(shift: Shift, operations: dict[str, int]) -> None:
    """Half of each steady window, evenly, until cancelled."""
    owed = dict.fromkeys(operations, 0.0)
    async with aiohttp.ClientSession() as session:
        while True:
            for operation, quota in operations.items():
                owed[operation] += quota / 2 / 60
                count = int(owed[operation])
                owed[operation] -= count
                body = {"operation": operation, "count": count}
                if count:
                    await session.post(f"{shift.sandbox.url}/sandbox/spend", json=body)
            await asyncio.sleep(1)  # the grain of "evenly"


@fault(12, "5 % of answers are 5xx; all of them for 20 s", "I1 I3 I4 I9")
async def server_errors(world: World) -> str:
    async with world.shift(seed=112) as shift, shift.service() as service:
        await running(service)
        few = [rule(status(code), probability=0.0125) for code in (500, 502, 503, 504)]
        async with shift.selling(300, 900, a_second=60):
            shift.fault(*few)
            await hold(12, service)
            shift.fault(rule(status(503)))
            await hold(2, service)
            before = shift.asked
            await hold(18, service)
            tries = shift.asked - before
            await calm(service, shift)
            shift.fault(*few)
        await shift.done(service)
        assert tries < 120, f"{tries} attempts in 18 s of an outage"
        return f"{await shift.balance()}; {tries} attempts in 18 s of outage"


@fault(13, "processed, then no answer within 30 s", "I1 I4")
async def processed_then_silent(world: World) -> str:
    async with world.shift(seed=113) as shift, shift.service() as service:
        await shift.sell(40, 60)
        shift.fault(rule({"kind": "hang_after", "seconds": 60}, after=1, times=4))
        await shift.done(service)
        (hung,) = shift.sandbox.faults.rules
        assert hung.fired == 4
        return await shift.balance()


@fault(18, "200 with HTML, half a body, wrong gzip, a gzip bomb, nonsense", "I1 I4 I7")
async def wrong_bodies(world: World) -> str:
    async with world.shift(seed=118) as shift, shift.service() as service:
        await running(service)
        wrong: list[dict[str, Any]] = [
            {"kind": "garbage"},
            {"kind": "truncate"},
            {"kind": "bomb"},
            {"kind": "bomb", "status": 400},
            status(200, processed=True, headers={"Content-Encoding": "gzip"}, body="{}"),
            status(
                200,
                processed=True,
                headers={"Content-Type": "application/json; charset=nonsense"},
                body='{"data": "\udcff"}'.encode("utf-8", "replace").decode(),
            ),
            status(400, processed=True, body={"errors": "nonsense"}),
        ]
        shift.fault(
            *(rule(each, after=3 + 3 * n, times=2) for n, each in enumerate(wrong))
        )
        async with shift.selling(60, 120, a_second=60):
            pass
        await shift.done(service)
        assert all(each.fired for each in shift.sandbox.faults.rules), "not all came"
        return await shift.balance()


@fault(42, "rows of an import fail, jobs take long and are not found", "I1 I2")
async def imports_fail(world: World) -> str:
    """One that never ends is given up after 15 minutes; a unit test's business."""
    failing = ["C-7", "C-1900"]
    async with world.shift(
        seed=142, import_queued=1.0, import_processing=4.0, failing_rows=failing
    ) as shift:
        lookups = {"method": "GET", "path": "profile-bulk-import-jobs"}
        shift.fault(
            {"match": lookups | {"times": 2}, "action": status(500)},
            {"match": lookups | {"times": 2, "after": 2}, "action": {"kind": "garbage"}},
        )
        await shift.sell(3000, 20)
        async with shift.service() as service:
            await shift.done(service)
        jobs = shift.sandbox.state.imports.values()
        assert sum(job.failed for job in jobs) >= len(failing)
        return f"{await shift.balance()}; {sum(job.failed for job in jobs)} rows failed"


@fault(43, "bulk requests with unknown outcome; a unique_id twice is refused", "I1 I4")
async def repeats_refused(world: World) -> str:
    """Within one request; one that was stored before is taken and ignored."""
    async with world.shift(seed=143) as shift:
        await shift.sell(50, 2500)
        bulk = {"path": "event-bulk-create-jobs"}
        shift.fault(
            rule({"kind": "reset_after"}, **bulk, times=2),
            rule(status(503, processed=True), **bulk, times=2, after=1),
        )
        async with shift.service() as service:
            await shift.done(service)
        assert all(each.fired == 2 for each in shift.sandbox.faults.rules)
        refused = shift.sandbox.ledger.statuses["POST /api/event-bulk-create-jobs"]
        assert 400 not in refused, f"it repeated a unique_id in a request: {refused}"
        return await shift.balance()
