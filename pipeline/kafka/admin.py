"""Looks at topics and makes those that are missing."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import IncompatibleBrokerVersion

from pipeline.errors import PipelineError
from pipeline.kafka.connection import FAILURES, START_LIMIT, arguments, unreachable
from pipeline.settings import Kafka

__all__ = ["Admin", "Topic", "TopicRefused"]

READY_LIMIT: Final = 15.0  # s from a topic's creation until all partitions have a leader
# ms; -1 keeps for ever. Retention goes by a record's own timestamp, which a dead letter
# keeps: with any other value the dead letters of old records would vanish at once.
RETENTION: Final = -1
_AGAIN: Final = 0.1  # s
_EXISTS: Final = 36  # Kafka's error code: someone else was faster
_SHOWN: Final = ("retention.ms", "cleanup.policy")


class TopicRefused(PipelineError):
    """The broker does not make the topic, or it does not get ready; a human must look."""


class Topic(msgspec.Struct, frozen=True):
    """A topic as it is; None where the broker does not tell."""

    name: str
    partitions: int
    retention_ms: int | None  # -1 keeps for ever
    cleanup_policy: str | None  # delete, compact, or both with a comma
    replicas: int | None = None  # copies of the partition that has the fewest


class Admin:
    """Each call opens a connection of its own and closes it: they are few, and at start.

    All of them raise `KafkaUnreachable` and `SettingsError`.
    """

    def __init__(self, settings: Kafka) -> None:
        self._settings = settings

    async def describe(self, names: Collection[str]) -> dict[str, Topic | None]:
        """Look these topics up; None for one that does not exist or may not be seen."""
        async with self._connected() as client:
            there = await _partitions(client)
            configs = await _configs(client, [name for name in names if name in there])
        return {
            name: Topic(
                name,
                len(there[name]),
                _number(configs.get(name, {}).get("retention.ms")),
                configs.get(name, {}).get("cleanup.policy"),
                min((len(each) for _, each in there[name]), default=None),
            )
            if name in there
            else None
            for name in names
        }

    async def transactional(self) -> bool:
        """Whether the brokers keep transactions; the embedded one only plays along."""
        async with self._connected() as client:
            return not await _embedded(client)

    async def create_missing(
        self, *names: str, retention_ms: int = RETENTION, compact: bool = False
    ) -> list[str]:
        """Make those that do not exist, with the broker's defaults, and wait for them.

        `compact` keeps the last record of each key, whatever its age. Returns the names
        it made. Raises `TopicRefused`.
        """
        async with self._connected() as client:
            there = await _partitions(client)
            missing = [name for name in names if name not in there]
            if missing:
                await _create(client, missing, retention_ms, compact=compact)
                await _ready(client, missing)
        return missing

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AIOKafkaAdminClient]:
        client = AIOKafkaAdminClient(**arguments(self._settings))
        try:
            async with asyncio.timeout(START_LIMIT + READY_LIMIT):
                await client.start()
                yield client
        except FAILURES:
            raise await unreachable(self._settings) from None
        finally:
            await client.close()


async def _partitions(
    client: AIOKafkaAdminClient,
) -> dict[str, list[tuple[int, list[int]]]]:
    """Leader and replicas per partition, by topic; asking for all topics makes none."""
    return {
        topic["topic"]: [
            (partition["leader"], partition["replicas"])
            for partition in topic["partitions"]
        ]
        for topic in await client.describe_topics()
        if topic["error_code"] == 0
    }


async def _configs(
    client: AIOKafkaAdminClient, names: Collection[str]
) -> dict[str, Mapping[str, str]]:
    if not names:
        return {}
    wanted = dict.fromkeys(_SHOWN, "")  # only the names are sent
    asked = [ConfigResource(ConfigResourceType.TOPIC, name, wanted) for name in names]
    try:
        answers = await client.describe_configs(asked)
    except IncompatibleBrokerVersion:
        return {}  # the embedded broker has no such request
    found: dict[str, Mapping[str, str]] = {}
    for answer in answers:
        for error, _, _, name, entries in answer.resources:
            if not error:
                found[name] = {entry[0]: entry[1] for entry in entries}
    return found


async def _embedded(client: AIOKafkaAdminClient) -> bool:
    """The embedded broker names a controller that does not exist."""
    cluster: dict[str, Any] = await client.describe_cluster()
    nodes = {node["node_id"] for node in cluster["brokers"]}
    return cluster["controller_id"] not in nodes


async def _create(
    client: AIOKafkaAdminClient,
    names: Collection[str],
    retention_ms: int,
    *,
    compact: bool,
) -> None:
    if await _embedded(client):
        # It makes a topic when somebody asks for it by its name.
        await client.describe_topics(list(names))
        return
    policy = "compact" if compact else "delete"
    config = {"retention.ms": str(retention_ms), "cleanup.policy": policy}
    topics = [NewTopic(name, 1, 1, topic_configs=config) for name in names]
    for topic in topics:
        # The broker's defaults (KIP-464); aiokafka's constructor does not take them.
        topic.num_partitions = topic.replication_factor = -1
    answer = await client.create_topics(topics)
    for name, code, message in answer.topic_errors:
        if code not in {0, _EXISTS}:
            raise TopicRefused(
                f"The broker does not make the topic {name} (error {code}: {message}). "
                "Make it by hand, or give the user the right to (CREATE)."
            )


async def _ready(client: AIOKafkaAdminClient, names: Collection[str]) -> None:
    try:
        async with asyncio.timeout(READY_LIMIT):
            while True:
                there = await _partitions(client)
                waiting = [n for n in names if not there.get(n) or min(there[n])[0] < 0]
                if not waiting:
                    return
                await asyncio.sleep(_AGAIN)
    except TimeoutError:
        raise TopicRefused(
            f"The topics {', '.join(names)} have partitions without a leader after "
            f"{READY_LIMIT:.0f} s; check the health of the cluster."
        ) from None


def _number(text: str | None) -> int | None:
    return int(text) if text else None
