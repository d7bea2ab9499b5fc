"""Which of several processes may act: the one a consumer group gives the partition to.

Kafka elects and notices a death; nothing is consumed and nothing committed. It decides
only who tries. That nobody else's writes count is the transactional id's doing.
"""

import asyncio
from collections.abc import Collection
from typing import Final

import structlog
from aiokafka import ConsumerRebalanceListener, TopicPartition

from pipeline.errors import PipelineError
from pipeline.kafka.client import Client
from pipeline.settings import Kafka

__all__ = ["Leader"]

WATCH_EVERY: Final = 1.0  # s
AGAIN: Final = 2.0  # s until the group is joined anew


class Leader(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """`leading` is set while the group says that it is us."""

    def __init__(self, settings: Kafka, group: str, topic: str) -> None:
        """`topic` exists; its partition 0 is the token that one member holds."""
        self._settings = settings.model_copy(update={"group": group, "topics": (topic,)})
        self._token = TopicPartition(topic, 0)
        self._client: Client | None = None
        self.leading = asyncio.Event()
        self._log = structlog.get_logger("reverse")

    async def run(self) -> None:
        """Be a member until cancelled; what fails is made anew."""
        while True:
            client = self._client = Client(self._settings)
            try:
                await client.open()
                client.subscribe([self._token.topic], self)
                while client.dead() is None and client.trouble() is None:  # noqa: ASYNC110
                    await asyncio.sleep(WATCH_EVERY)
            except PipelineError as error:
                self._log.debug("no group", message=str(error))
            finally:
                self.leading.clear()
                await client.close()
            await asyncio.sleep(AGAIN)

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Every rebalance takes it first; what counts is who gets it then."""

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """We act if the token is among them."""
        if self._token in assigned:
            if self._client is not None:  # it would look for committed offsets for ever
                self._client.seek({(self._token.topic, 0): 0})
            self.leading.set()
        else:
            if self.leading.is_set():
                self._log.info("standby: another process polls")
            self.leading.clear()
