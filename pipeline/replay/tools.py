"""What all parts of one replay work with."""

import asyncio
from collections.abc import Callable

import msgspec

from pipeline.kafka.client import Client as Kafka
from pipeline.kafka.producer import Producer
from pipeline.kafka.schema_registry import SchemaRegistry
from pipeline.klaviyo.client import Client as Klaviyo
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from pipeline.replay.outcome import Dry, Progress
from pipeline.settings import Settings

__all__ = ["Tools"]


class Tools(msgspec.Struct, frozen=True):
    """Made by `start.opened`, which closes what has to be closed."""

    settings: Settings
    kafka: Kafka
    klaviyo: Klaviyo
    producer: Producer
    health: Health
    metrics: Metrics
    registry: SchemaRegistry | None
    dry: Dry | None  # show the requests only
    report: Callable[[Progress], None]
    stop: asyncio.Event  # the user's; set here too when it ends early
