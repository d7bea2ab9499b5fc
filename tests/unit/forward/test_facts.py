"""What replicas learn from each other, while Kafka comes and goes."""

import asyncio
from collections.abc import Mapping
from typing import Any

from pipeline.errors import KafkaUnreachable
from pipeline.forward.facts import AGAIN, EVERY, Facts
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from schemas.event import Plan
from tests.virtual_time import LoopClock, virtual


class Names:
    """A table of names; it wants the first one it does not know written."""

    def __init__(self) -> None:
        self.loads: list[set[str]] = []

    def load(self, entries: Mapping[str, bytes]) -> Mapping[str, bytes | None]:
        self.loads.append(set(entries))
        return {} if entries else {"first": b"1"}

    def admitted(self, plan: Plan) -> Plan:
        return plan


class State:
    """The state topic as a dict; away as often as told."""

    def __init__(self, away: int = 0) -> None:
        self.entries: dict[str, Any] = {}
        self.away = away
        self.reading: asyncio.Event | None = None

    async def load(self) -> dict[str, bytes]:
        if self.away:
            self.away -= 1
            raise KafkaUnreachable("no broker answers")
        found = dict(self.entries)
        if self.reading is not None:
            reading, self.reading = self.reading, None
            reading.set()
            await asyncio.sleep(1)
        return found

    async def keep(self, entries: Mapping[str, bytes | None], _: Health) -> None:
        self.entries |= entries


def facts(state: State, **more: bool) -> tuple[Facts, Names, Health]:
    health = Health(Metrics(), LoopClock())
    names = Names()
    kept: Any = state
    return Facts(kept, names, health, **more), names, health


@virtual
async def test_nothing_goes_on_before_it_is_read_and_the_wait_is_visible() -> None:
    one, names, health = facts(State(away=3))
    refreshing = asyncio.create_task(one.refresh())
    await asyncio.sleep(AGAIN)
    assert health.waits().keys() == {"state topic"}
    assert names.loads == []
    await refreshing
    assert health.waits() == {}
    assert names.loads == [set()]


@virtual
async def test_what_another_replica_writes_is_seen_in_time() -> None:
    state = State()
    one, names, _ = facts(state)
    other, _, _ = facts(state)
    await one.refresh()
    running = asyncio.create_task(one.run())
    await other.write({"news": b"1"})
    await asyncio.sleep(EVERY + 1)
    running.cancel()
    assert names.loads[-1] == {"first", "news"}


@virtual
async def test_what_is_read_never_undoes_what_was_written_meanwhile() -> None:
    state = State()
    one, names, _ = facts(state)
    await one.refresh()
    state.reading = asyncio.Event()
    reading, refreshing = state.reading, asyncio.create_task(one.refresh())
    await reading.wait()
    await one.write({"meanwhile": b"1"})
    await refreshing
    assert {"first", "meanwhile"} in names.loads
    assert {"first"} not in names.loads


@virtual
async def test_a_run_that_changes_nothing_writes_nothing() -> None:
    state = State()
    one, names, _ = facts(state, writes=False)
    await one.refresh()
    await one.write({"news": b"1"})
    assert state.entries == {}
    assert names.loads == [set()]
