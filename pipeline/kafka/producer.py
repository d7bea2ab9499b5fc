"""Writes records; one counts as written when all in-sync replicas have it.

Idempotent: retries inside write nothing twice. When no broker answers in time, records
are given back to the caller and forgotten: a client that kept them queued would in the
end write each of them once for every try of the caller.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    InvalidTimestampError,
    KafkaError,
    MessageSizeTooLargeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)

from pipeline.errors import PipelineError
from pipeline.kafka.connection import FAILURES, START_LIMIT, arguments, unreachable
from pipeline.settings import Kafka

__all__ = ["Producer", "TooLarge", "Unwritable"]

TOPIC_LIMIT: Final = 5.0  # s to learn where the topic's partitions are
WRITE_LIMIT: Final = 10.0  # s for the acknowledgement
SEND_LIMIT: Final = 20.0  # s for all of a send, when others' failures delay it
STOP_LIMIT: Final = 2.0  # s to write what is queued at a stop
_BATCH: Final = 64 * 2**10  # bytes; a batch must fit every topic's max.message.bytes
_LARGEST: Final = 64 * 2**20  # bytes of a request; a topic's own limit comes first


class TooLarge(PipelineError):
    """The record is larger than its topic allows. Retrying is useless: cut it."""


class Unwritable(PipelineError):
    """The topic cannot be written now (outage, missing, no rights). Retry later."""


class _Dropped(Exception):
    """The client was given up because of another record; the next one may do."""


class _Client:
    """One aiokafka producer until it fails; `gone` is done then."""

    def __init__(self, settings: Kafka, **more: Any) -> None:  # noqa: ANN401  aiokafka's
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.aiokafka = AIOKafkaProducer(
            **arguments(settings),
            enable_idempotence=True,  # the default is without, and acks=1
            max_batch_size=_BATCH,
            max_request_size=_LARGEST,
            **more,
        )

    async def close(self, *, flush: bool) -> None:
        """End it, in 5 s; unflushed, what it has queued is forgotten. Never raises."""
        aiokafka = self.aiokafka
        if flush:
            # It hangs without a broker, as idempotent batches never expire; so does
            # stop(), which leaves the task it waits on behind.
            await _bounded(aiokafka.flush(), STOP_LIMIT)
        # There is no public way to give up.
        sender = aiokafka._sender.sender_task  # noqa: SLF001
        if sender is not None:
            sender.cancel()
        # Before waiting for the sender: it waits for answers on these connections.
        await _bounded(aiokafka.client.close(), 1.0)
        if sender is not None:
            await asyncio.wait([sender], timeout=0.2)
            # A second time: the first one it answers by waiting for its batches, and
            # these may wait for news that a closed client never gets.
            sender.cancel()
            await asyncio.wait([sender], timeout=0.5)
        aiokafka._closed = True  # noqa: SLF001  else it warns that nobody closed it


class Producer:
    """Sends records in batches; any number of sends may wait side by side."""

    def __init__(self, *, settings: Kafka) -> None:
        self._settings = settings
        self._client: _Client | None = None
        self._opening: asyncio.Task[_Client] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._stopped = False

    async def start(self) -> None:
        """Connect. Raises `KafkaUnreachable` and `SettingsError`."""
        try:
            self._client = await self._open(START_LIMIT)
        except Unwritable:
            raise await unreachable(self._settings) from None

    async def stop(self) -> None:
        """Write what is queued if a broker takes it; ends in 5 s whatever is down."""
        self._stopped = True
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        client = self._client
        if client is not None:
            await client.close(flush=True)
            self._forget(client)
        if self._closing:
            await asyncio.wait(self._closing)

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes | None]],
        timestamp_ms: int | None = None,
    ) -> None:
        """Return when the record is written, in `SEND_LIMIT` s.

        `timestamp_ms` since the epoch; now, if None. Raises `TooLarge` and `Unwritable`;
        after the latter, or a cancellation, it may have been written all the same.
        """
        if key is None and value is None:
            value = b""  # aiokafka refuses the pair
        if timestamp_ms is not None and timestamp_ms < 0:
            timestamp_ms = None  # Kafka's word for a record without a time
        # A list: a tuple, as records carry, makes instrumented clients fail.
        record = {"key": key, "value": value, "headers": list(headers)}
        try:
            async with asyncio.timeout(SEND_LIMIT):
                while not await self._try(topic, record, timestamp_ms):
                    timestamp_ms = None
        except TimeoutError:
            raise Unwritable(
                f"{topic} cannot be written: no answer in {SEND_LIMIT:.0f} s. Check the "
                "health of the cluster"
            ) from None

    async def _try(
        self, topic: str, record: dict[str, Any], timestamp_ms: int | None
    ) -> bool:
        """Write it once; false if the topic does not take its time."""
        client = await self._connected()
        try:
            await self._write(client, topic, record | {"timestamp_ms": timestamp_ms})
        except _Dropped:
            return await self._try(topic, record, timestamp_ms)
        except TopicAuthorizationFailedError:
            raise Unwritable(f"{topic} may not be written: grant WRITE") from None
        except KafkaError as error:
            # Whatever it is: a client that lost a batch gets OutOfOrderSequence for all
            # later ones, a fenced one gets its own error for ever.
            self._drop(client)
            match error:
                case MessageSizeTooLargeError():
                    raise TooLarge(f"the record is larger than {topic} allows") from None
                case InvalidTimestampError() if timestamp_ms is not None:
                    return False  # written with our time is better than not at all
                case _:
                    raise Unwritable(f"{topic} cannot be written: {error!r}") from None
        return True

    async def _write(self, client: _Client, topic: str, record: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(TOPIC_LIMIT):
                written: asyncio.Future[Any] = await client.aiokafka.send(topic, **record)
        except (TimeoutError, UnknownTopicOrPartitionError):
            raise Unwritable(
                f"{topic} cannot be written: it does not exist, or no broker answers. "
                "Create it (klaviyo-pipeline topics --create), or check the brokers"
            ) from None
        try:
            await asyncio.wait(
                {written, client.gone},
                timeout=WRITE_LIMIT,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if written.done():
                written.result()
            elif client.gone.done():
                raise _Dropped
            else:
                self._drop(client)
                raise Unwritable(
                    f"{topic} cannot be written: not acknowledged in {WRITE_LIMIT:.0f} "
                    "s. Check that enough replicas are in sync"
                )
        finally:
            written.cancel()

    async def _connected(self) -> _Client:
        if self._client is None:
            if self._stopped:
                raise Unwritable("the producer has stopped")
            if self._opening is None:
                self._opening = asyncio.create_task(self._open(TOPIC_LIMIT))
                self._opening.add_done_callback(self._opened)
            # All that wait share one try, and one that is cancelled does not end it.
            await asyncio.wait([self._opening])
        if self._client is None:
            raise Unwritable("no broker can be reached")
        return self._client

    def _opened(self, opening: "asyncio.Task[_Client]") -> None:
        self._opening = None
        if not opening.cancelled() and opening.exception() is None:
            self._client = opening.result()

    async def _open(self, within: float) -> _Client:
        client = _Client(self._settings)
        try:
            async with asyncio.timeout(within):
                await client.aiokafka.start()
        except FAILURES:
            await client.close(flush=False)
            raise Unwritable("no broker can be reached") from None
        except BaseException:  # cancelled: nobody else knows of its tasks yet
            await client.close(flush=False)
            raise
        return client

    def _drop(self, client: _Client) -> None:
        """Give it up with all it holds."""
        if not client.gone.done():
            self._forget(client)
            closing = asyncio.create_task(client.close(flush=False))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def _forget(self, client: _Client) -> None:
        """Tell those who wait on it to wait no more."""
        if self._client is client:
            self._client = None
        if not client.gone.done():
            client.gone.set_result(None)


async def _bounded(doing: Awaitable[None], within: float) -> None:
    """Do it that long at most; how it ends does not matter."""
    task = asyncio.ensure_future(doing)
    _, late = await asyncio.wait([task], timeout=within)
    if late:
        task.cancel()
        await asyncio.wait([task], timeout=0.5)
    if task.done() and not task.cancelled():
        task.exception()
