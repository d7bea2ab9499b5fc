"""Which import jobs are under way, kept where a crash does not reach.

Without it a restart would send newer values while an old job of ours still works, and the
job could overwrite them. An entry is written before its job starts, and again with the
job's id; it is forgotten when the job has ended. There is one per partition, as after a
rebalance others may own what the job carries.

    <topic>/<partition>/<number>  ->  {"job": ID or null, "rows": [[ROW, OFFSET], ...]}

ROW is the row of the job that is all a record still needs to have ended.
"""

import asyncio
import uuid
from collections.abc import Collection, Mapping

import msgspec
import structlog

from pipeline.errors import PipelineError
from pipeline.kafka.state import State
from pipeline.records import Partition

__all__ = ["Entry", "Ledger", "Unfinished"]


class _Value(msgspec.Struct):
    job: str | None  # None: it is not known whether the job started
    rows: list[tuple[int, int]]  # row, offset


class Entry(msgspec.Struct, frozen=True):
    """One job of ours: its keys in the ledger, and what it carries by partition."""

    number: str
    rows: Mapping[Partition, list[tuple[int, int]]]


class Unfinished(msgspec.Struct, frozen=True):
    """An entry somebody left behind."""

    key: str
    partition: Partition
    job: str | None
    rows: list[tuple[int, int]]  # row, and the offset that ends with it


class Ledger:
    """The entries of all replicas of this subscription."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._closing: set[asyncio.Task[None]] = set()
        self._log = structlog.get_logger("forward")

    async def open(self, rows: Mapping[Partition, list[tuple[int, int]]]) -> Entry:
        """Note down a job that is about to start. Raises `PipelineError`."""
        entry = Entry(uuid.uuid4().hex, rows)
        await self._write(entry, None)
        return entry

    async def started(self, entry: Entry, job: str) -> None:
        """Note down its id; without it a restart waits for all jobs of the account."""
        try:
            await self._write(entry, job)
        except PipelineError as error:
            self._log.warning("an import job's id was not noted", message=str(error))

    def close(self, entry: Entry) -> None:
        """Forget it, some time soon: an entry of a job that ended does no harm."""
        closing = asyncio.create_task(self._forget(_keys(entry).values()))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def unfinished(self, partitions: Collection[Partition]) -> list[Unfinished]:
        """What was left behind in these partitions. Raises `PipelineError`."""
        found = []
        for key, value in (await self._state.load()).items():
            topic, _, rest = key.partition("/")
            number, _, _ = rest.partition("/")
            if not number.isdecimal() or (topic, int(number)) not in partitions:
                continue
            partition = topic, int(number)
            try:
                left = msgspec.json.decode(value, type=_Value)
            except msgspec.DecodeError:  # it is some job: all of them have to end
                self._log.warning("an entry of the job ledger cannot be read", key=key)
                found.append(Unfinished(key, partition, None, []))
            else:
                found.append(Unfinished(key, partition, left.job, left.rows))
        return found

    async def forget(self, left: Collection[Unfinished]) -> None:
        """They have been seen to."""
        await self._forget([each.key for each in left])

    async def stop(self) -> None:
        """End what `close` began, in bounded time."""
        for closing in self._closing:
            closing.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)
        await self._state.close()

    async def _write(self, entry: Entry, job: str | None) -> None:
        values = {
            key: msgspec.json.encode(_Value(job, entry.rows[partition]))
            for partition, key in _keys(entry).items()
        }
        await asyncio.gather(*(self._state.put(*each) for each in values.items()))

    async def _forget(self, keys: Collection[str]) -> None:
        try:
            await asyncio.gather(*(self._state.put(key, None) for key in keys))
        except PipelineError as error:
            self._log.info("an ended import job stays in the ledger", message=str(error))


def _keys(entry: Entry) -> dict[Partition, str]:
    return {
        (topic, number): f"{topic}/{number}/{entry.number}"
        for topic, number in entry.rows
    }
