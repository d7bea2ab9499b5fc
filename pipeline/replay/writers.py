"""Where dead letters go when it is not the service that meets them."""

from collections.abc import Callable

from pipeline.forward.dead_letters import DeadLetters
from pipeline.records import Dead, Record
from pipeline.replay.letters import original
from pipeline.replay.selection import Origin

__all__ = ["Again", "Shown", "Silent", "Unless"]


class Again(DeadLetters):
    """Writes a letter that failed once more, as from where it first stood."""

    async def write(self, record: Record, dead: Dead) -> None:
        """Write it with its history."""
        await super().write(original(record), dead)


class Unless(DeadLetters):
    """Writes a letter unless there is one for that record."""

    known: frozenset[Origin] = frozenset()
    count = 0  # not written

    async def write(self, record: Record, dead: Dead) -> None:
        """Write it, or leave it at what is there."""
        if (record.topic, record.partition, record.offset) in self.known:
            self.count += 1
        else:
            await super().write(record, dead)


class Silent(DeadLetters):
    """Writes none: what came later was a letter before, or will be by the service."""

    async def write(self, record: Record, dead: Dead) -> None:
        """Do nothing."""


class Shown(DeadLetters):
    """Shows letters instead of writing them."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show

    async def write(self, record: Record, dead: Dead) -> None:
        """Show why it would be one."""
        where = f"{record.topic}-{record.partition} at offset {record.offset}"
        pointer = f" ({dead.pointer})" if dead.pointer else ""
        self._show(f"dead letter: {where}: {dead.reason}: {dead.message}{pointer}")
