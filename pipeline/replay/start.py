"""Connects a job to both ends, and closes them behind it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from pipeline.access import connect
from pipeline.clock import SYSTEM
from pipeline.kafka.client import Client as Kafka
from pipeline.kafka.producer import Producer
from pipeline.kafka.schema_registry import SchemaRegistry
from pipeline.klaviyo.dry import DrySession
from pipeline.klaviyo.session import Session
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from pipeline.replay.job import Job
from pipeline.replay.outcome import Dry, Progress
from pipeline.replay.tools import Tools
from pipeline.replay.topics import create_topics
from pipeline.settings import Settings

__all__ = ["opened"]


@asynccontextmanager
async def opened(
    settings: Settings,
    *,
    report: Callable[[Progress], None],
    stop: asyncio.Event,
    backfill: bool = False,
    dry: Dry | None = None,
) -> AsyncIterator[Job]:
    """Connect to both ends; leaving the block closes everything.

    Raises `KafkaUnreachable`, and what `Job.greet` raises.
    """
    if dry is None or dry.compare:
        settings.require_credential()
    metrics = Metrics()
    health = Health(metrics, SYSTEM)
    producer = Producer(settings=settings.kafka)
    async with AsyncExitStack() as stack:
        kafka = Kafka(settings.kafka)
        await kafka.open()
        stack.push_async_callback(kafka.close)
        if dry is None:
            await create_topics(settings)
            await producer.start()
            stack.push_async_callback(producer.stop)
        klaviyo = await stack.enter_async_context(
            connect(
                settings,
                health,
                metrics,
                None if dry is None else _dried(dry),
                spare=True,
            )
        )
        registry: SchemaRegistry | None = None
        if settings.schema_registry.url:
            registry = SchemaRegistry(settings.schema_registry, health)
            stack.push_async_callback(registry.close)
        health.phase = "running"
        tools = Tools(
            settings=settings,
            kafka=kafka,
            klaviyo=klaviyo,
            producer=producer,
            health=health,
            metrics=metrics,
            registry=registry,
            dry=dry,
            report=report,
            stop=stop,
        )
        job = Job(tools, backfill=backfill)
        await job.greet()
        yield job


def _dried(dry: Dry) -> Callable[[Session], Session]:
    return lambda session: DrySession(session, dry.show, compare=dry.compare)
