"""What all replicas know about people: who was erased, who became whom.

Kept in the state topic. Read before the records of a new assignment are handed out, and
now and then, as another replica may have learnt something. What is learnt is written
before it is acted upon.
"""

import asyncio
from collections.abc import Mapping
from typing import Final, Protocol

from pipeline.errors import PipelineError, SettingsError
from pipeline.kafka.state import State
from pipeline.observe.health import Health
from schemas.event import Plan, Skipped

__all__ = ["Facts", "Table"]

EVERY: Final = 30.0  # s between two readings
AGAIN: Final = 2.0  # s until Kafka is asked again for what it did not tell


class Table(Protocol):
    """What the facts of one kind mean; no I/O."""

    def load(self, entries: Mapping[str, bytes]) -> Mapping[str, bytes | None]:
        """Take in all there is, what was taken in before included; give what to write."""
        ...

    def admitted(self, plan: Plan) -> Plan | Skipped:
        """What of a record's plan may go on, and to whom."""
        ...


class Facts:
    """One table, and the place where it is kept."""

    def __init__(
        self, state: State, table: Table, health: Health, *, writes: bool = True
    ) -> None:
        """`writes` false only reads, for a run that changes nothing."""
        self.admitted = table.admitted
        self._state = state
        self._table = table
        self._health = health
        self._writes = writes
        self._written = 0

    async def refresh(self) -> None:
        """Read what is new; waits for Kafka. Raises `SettingsError`."""
        while True:
            writes = self._written
            try:
                found = await self._state.load()
            except SettingsError:
                raise
            except PipelineError as error:
                self._health.away("state topic", str(error))
                await asyncio.sleep(AGAIN)
            else:
                self._health.back("state topic")
                if writes == self._written:  # else what was read is older than the table
                    await self.write(self._table.load(found))
                    return

    async def run(self) -> None:
        """Read what is new, for ever."""
        while True:
            await asyncio.sleep(EVERY)
            await self.refresh()

    async def write(self, entries: Mapping[str, bytes | None]) -> None:
        """Keep these, None forgets; they are kept when it returns. Waits for Kafka."""
        self._written += 1
        if self._writes:
            await self._state.keep(entries, self._health)

    async def close(self) -> None:
        """Close the connections, in bounded time."""
        await self._state.close()
