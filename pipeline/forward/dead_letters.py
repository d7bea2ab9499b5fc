"""Records that can never be delivered, kept with the reason beside the original bytes.

A dead letter counts only after the broker acknowledged it: until then its
ticket stays open and its offset is not committed. When the topic cannot be written the
flow halts (`dead_letters_unwritable`) and goes on by itself when it can.
"""

import asyncio
from collections.abc import Iterator
from typing import Final, NamedTuple, get_args

from pipeline.kafka.producer import Producer, TooLarge, Unwritable
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from pipeline.records import Dead, DeadReason, Record

__all__ = ["DeadLetters"]

AGAIN: Final = 5.0  # s between tries while the topic cannot be written
CUT: Final = 16 * 1024  # bytes of value kept when the whole is too large for the topic


class _Letter(NamedTuple):
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    timestamp: int  # ms


class DeadLetters:
    """Writes dead letters to their topic."""

    def __init__(
        self,
        producer: Producer,
        topic: str,
        subscription: str,
        health: Health,
        metrics: Metrics,
    ) -> None:
        self._producer = producer
        self._topic = topic
        self._subscription = subscription
        self._health = health
        self._metrics = metrics
        self._stuck = 0  # letters that cannot be written now
        for reason in get_args(DeadReason):
            metrics.dead_letters.labels(reason)  # at 0: an alert must see the first one

    async def write(self, record: Record, dead: Dead) -> None:
        """Return when the broker has it; waits as long as it takes."""
        for letter in self._letters(record, dead):
            if await self._written(letter):
                break
        else:
            raise TooLarge(f"{self._topic} takes no dead letter, however small")
        self._metrics.dead_letters.labels(dead.reason).inc()

    def _letters(self, record: Record, dead: Dead) -> Iterator[_Letter]:
        """The whole record; else its beginning; else only where to find it."""
        why = self._headers(record, dead)
        cut = ("klaviyo.truncated", str(len(record.value or b"")).encode())
        value = record.value and record.value[:CUT]
        at = record.timestamp
        yield _Letter(record.key, record.value, [*record.headers, *why], at)
        yield _Letter(record.key, value, [*record.headers, *why, cut], at)
        yield _Letter(record.key and record.key[:CUT], b"", [*why, cut], at)

    async def _written(self, letter: _Letter) -> bool:
        """Write one form of it; false if that is too large for the topic."""
        stuck = False
        try:
            while True:
                try:
                    await self._producer.send(self._topic, *letter)
                except TooLarge:
                    return False
                except Unwritable as error:
                    if not stuck:
                        stuck = True
                        self._stuck += 1
                    self._health.halt(
                        "dead_letters_unwritable",
                        f"{error}. Nothing is committed past the record; check that"
                        f" the topic {self._topic} exists and may be written",
                    )
                    await asyncio.sleep(AGAIN)
                else:
                    return True
        finally:
            if stuck:
                self._stuck -= 1
                if not self._stuck:
                    self._health.resume("dead_letters_unwritable")

    def _headers(self, record: Record, dead: Dead) -> list[tuple[str, bytes]]:
        """Kafka Connect's names, so that its tools read them, and ours."""
        fields = {
            "__connect.errors.topic": record.topic,
            "__connect.errors.partition": record.partition,
            "__connect.errors.offset": record.offset,
            "__connect.errors.stage": dead.stage,
            "__connect.errors.exception.class.name": f"klaviyo_pipeline.{dead.reason}",
            "__connect.errors.exception.message": dead.message,
            "klaviyo.reason": dead.reason,
            "klaviyo.status": dead.status,
            "klaviyo.code": dead.code,
            "klaviyo.pointer": dead.pointer,
            "klaviyo.attempts": dead.attempts,
            "klaviyo.subscription": self._subscription,
            "klaviyo.unique_id": dead.unique_id,
        }
        return [
            (name, b"" if field is None else str(field).encode())
            for name, field in fields.items()
        ]
