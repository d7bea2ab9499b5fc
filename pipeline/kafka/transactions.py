"""Writes that are seen all or not at all, by one process at a time.

The transactional id is stable: opening tells the broker (InitProducerId), which ends what
an older process of that id had begun and refuses everything it still tries. Whoever opens
reads its state after that, never before: else the older one could still add to it.

A broker without transactions (the embedded one of the demo) gets plain writes in order:
at least once.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import structlog
from aiokafka.errors import (
    InvalidProducerEpoch,
    MessageSizeTooLargeError,
    ProducerFenced,
)

from pipeline.errors import PipelineError
from pipeline.kafka.admin import Admin
from pipeline.kafka.connection import FAILURES, START_LIMIT
from pipeline.kafka.producer import TooLarge
from pipeline.kafka.producer import _Client as Client
from pipeline.settings import Kafka

__all__ = ["Away", "Fenced", "Outgoing", "Transactions"]

COMMIT_LIMIT: Final = 20.0  # s for one transaction, from begin to the end
# The broker aborts what is open that long; until then readers of committed records wait
# behind it. Longer than COMMIT_LIMIT, so that only the dead are cut off.
EXPIRY: Final = 30.0  # s


class Fenced(PipelineError):
    """Another process has taken over; what was being written is not and never will be."""


class Away(PipelineError):
    """No answer in time: open anew, read the state again, go on from there."""


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """One record to write; a value of None forgets the key in a compacted topic."""

    topic: str
    key: bytes
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()

    def __repr__(self) -> str:  # key and value are a customer's
        return f"Outgoing({self.topic})"


class Transactions:
    """One producer under one transactional id. After any error: `open` again."""

    def __init__(self, settings: Kafka, transactional_id: str) -> None:
        self._settings = settings
        self._id = transactional_id
        self._client: Client | None = None
        self.exactly_once = True  # known after `open`
        self._log = structlog.get_logger("kafka")
        self._said = False

    async def open(self) -> None:
        """Connect and fence whoever had the id. Raises `Away` and `SettingsError`."""
        await self.close()
        try:
            self.exactly_once = await Admin(self._settings).transactional()
        except PipelineError as error:
            raise Away(str(error)) from None
        more: dict[str, Any] = {}
        if self.exactly_once:
            more["transactional_id"] = self._id
            more["transaction_timeout_ms"] = int(EXPIRY * 1000)
        elif not self._said:
            self._said = True
            self._log.warning(
                "this broker keeps no transactions: profile changes are published at "
                "least once, and only one process may run"
            )
        client = Client(self._settings, **more)
        try:
            async with asyncio.timeout(START_LIMIT):
                await client.aiokafka.start()
        except FAILURES as error:
            await client.close(flush=False)
            raise Away(f"no transaction can be opened ({_name(error)})") from None
        except BaseException:  # cancelled: nobody else knows of its tasks yet
            await client.close(flush=False)
            raise
        self._client = client

    async def commit(self, records: Sequence[Outgoing]) -> None:
        """Write all of them; on return they are committed.

        Raises `Fenced`, `TooLarge` and `Away`; after the last one nobody knows whether
        they were committed until it is opened again and the state is read.
        """
        if self._client is None:
            raise RuntimeError("the transactions are not open")
        producer = self._client.aiokafka
        try:
            async with asyncio.timeout(COMMIT_LIMIT):
                if self.exactly_once:
                    await producer.begin_transaction()
                sends = [
                    await producer.send(
                        each.topic, each.value, each.key, headers=list(each.headers)
                    )
                    for each in records
                ]
                await asyncio.gather(*sends)
                if self.exactly_once:
                    await producer.commit_transaction()
        except (ProducerFenced, InvalidProducerEpoch):
            raise Fenced("another process has taken over") from None
        except MessageSizeTooLargeError:
            raise TooLarge(
                "a profile's change is larger than its topic allows: raise "
                "max.message.bytes of the topics to 2 MB"
            ) from None
        except FAILURES as error:
            raise Away(f"not committed ({_name(error)})") from None

    async def close(self) -> None:
        """Let go; ends in 5 s whatever is down. What is not committed never will be."""
        client, self._client = self._client, None
        if client is not None:
            await client.close(flush=False)


def _name(error: BaseException) -> str:
    return type(error).__name__
