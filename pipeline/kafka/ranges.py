"""Reads what stands between two offsets of each partition, outside of any group.

A running service is not disturbed: nothing is joined and no offset is committed. The end
is known before the first record, so reading comes to one.
"""

import asyncio
from collections.abc import Awaitable, Collection, Mapping
from typing import Final, NamedTuple, TypeVar

from aiokafka.errors import (
    KafkaError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
)

from pipeline.errors import KafkaUnreachable, PipelineError, SettingsError
from pipeline.kafka.client import Client
from pipeline.kafka.connection import FAILURES
from pipeline.kafka.consumer import read
from pipeline.kafka.positions import Bounds
from pipeline.observe.health import Health
from pipeline.records import Partition, Record

__all__ = ["Ranges", "Span", "Timeless", "Unreadable", "look", "moments", "topics"]

SILENCE: Final = 5.0  # s without a record after which we ask whether Kafka is there
LOOK: Final = 3.0  # s for the answer
ANSWER: Final = 20.0  # s for what the broker knows of the partitions
T = TypeVar("T")


class Unreadable(PipelineError):
    """A range cannot be read to its end; waiting does not help."""


class Timeless(SettingsError):
    """No offset is found by time: records have none, or the broker does not look."""


class Span(NamedTuple):
    """Offsets of one partition: from `at`, up to and without `to`."""

    at: int
    to: int


async def look(
    client: Client, partitions: Collection[Partition]
) -> tuple[dict[Partition, Bounds], dict[str, int]]:
    """Ask for the bounds of these; see `Client.bounds`. Raises `Unreadable`."""
    return await _answered(client.bounds(partitions))


async def topics(client: Client, exclude: Collection[str]) -> frozenset[str]:
    """Ask which of the settings' topics exist; as `look`."""
    return await _answered(client.topics(exclude))


async def moments(
    client: Client, times: Mapping[Partition, int], bounds: Mapping[Partition, Bounds]
) -> dict[Partition, int]:
    """Ask for the first offsets at these times (ms), else the end; as `look`.

    Raises `Timeless` too.
    """
    found = await _answered(client.moments(times)) if times else {}
    late = [each for each, at in found.items() if at is None]
    held = [each for each in late if bounds[each].beginning < bounds[each].end]
    if held:  # nothing is that late, or its records have no time, or nobody looks
        first = await _answered(client.moments(dict.fromkeys(held, 0)))
        if timeless := next((each for each, at in first.items() if at is None), None):
            raise Timeless(
                "The broker finds no record of {}-{} by its time: its records have none, "
                "or the broker does not look (the embedded one does not). Give offsets: "
                "--partition P --from OFFSET.".format(*timeless)
            )
    return {each: bounds[each].end if at is None else at for each, at in found.items()}


async def _answered(asked: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(ANSWER):
            return await asked
    except KafkaError as error:
        raise Unreadable(
            f"The broker does not say what the topics hold ({error!r}). Check the rights "
            "of the user (DESCRIBE and READ on the topics, DESCRIBE on the group) and "
            "the health of the cluster."
        ) from None
    except FAILURES as error:
        raise KafkaUnreachable(
            f"No broker says what the topics hold ({error!r}). Check the health of the "
            "cluster, then call again."
        ) from None


class Ranges:
    """The records of some spans, in offset order per partition."""

    def __init__(self, client: Client, health: Health) -> None:
        """`client` is open; it is not closed here, and may read one range at a time."""
        self._client = client
        self._health = health
        self._left: dict[Partition, Span] = {}
        self._quiet = 0.0  # loop time since nothing comes
        self._turn = 0

    def seek(self, spans: Mapping[Partition, Span]) -> None:
        """Read these from now on."""
        self._left = {each: span for each, span in spans.items() if span.at < span.to}
        self._quiet = asyncio.get_running_loop().time()
        if self._left:
            self._client.assign(self._left)
            self._client.seek({each: span.at for each, span in self._left.items()})

    @property
    def left(self) -> int:
        """Offsets still to be read, gaps included."""
        return sum(span.to - span.at for span in self._left.values())

    async def poll(
        self, partitions: Collection[Partition], most: int, patience: float
    ) -> list[Record]:
        """Get the next records of these partitions; none after `patience` s.

        None, at once, when nothing is left to read. Raises `Unreadable`.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience
        while wanted := [each for each in partitions if each in self._left]:
            news = self._client.news()
            try:
                if records := await self._take(wanted, most):
                    self._quiet = loop.time()
                    self._health.back("kafka")
                    return records
                if not any(each in self._left for each in wanted):
                    return []
                await asyncio.wait({news}, timeout=max(0.0, deadline - loop.time()))
            finally:
                if not news.cancel() and not news.cancelled():
                    news.exception()
            if loop.time() >= deadline:
                await self._look_for_kafka()
                return []
        return []

    async def _take(self, wanted: list[Partition], most: int) -> list[Record]:
        self._turn += 1
        first = self._turn % len(wanted)
        taken: list[Record] = []
        for partition in wanted[first:] + wanted[:first]:
            if len(taken) >= most:
                break
            if not self._client.fetched(partition):
                continue
            topic, number = partition
            try:
                found = await self._client.take(partition, most - len(taken))
            except OffsetOutOfRangeError:
                raise Unreadable(
                    f"{topic}-{number} cannot be read at offset "
                    f"{self._left[partition].at}: retention has deleted it meanwhile. "
                    "Start again without --from to send what is left."
                ) from None
            except TopicAuthorizationFailedError:
                raise Unreadable(f"{topic} may not be read: grant READ") from None
            except KafkaError:
                continue  # the client tries again by itself
            end = self._left[partition].to
            taken += [read(each) for each in found if each.offset < end]
            await self._moved(partition)
        return taken

    async def _moved(self, partition: Partition) -> None:
        """Note how far we are; gaps and markers of transactions count as read."""
        at, end = await self._client.position(partition), self._left[partition].to
        if at < end:
            self._left[partition] = Span(at, end)
        else:
            del self._left[partition]
            self._client.pause(partition)

    async def _look_for_kafka(self) -> None:
        """Say that we wait for Kafka, when it is Kafka we wait for."""
        if asyncio.get_running_loop().time() - self._quiet < SILENCE:
            return
        if dead := self._client.dead():
            raise Unreadable(
                f"The Kafka client has ended ({dead}). Call the command again: it "
                "goes on where it stopped."
            )
        if await self._client.reachable(LOOK):
            self._health.back("kafka")
        else:
            self._health.away("kafka", "no broker answers; reading goes on when one does")
