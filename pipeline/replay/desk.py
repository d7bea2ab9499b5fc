"""Looks at dead letters and puts some away; sends nothing."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

from pipeline.clock import SYSTEM
from pipeline.errors import PipelineError
from pipeline.kafka.client import Client
from pipeline.kafka.state import State
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from pipeline.replay.letters import Letter, Mark, Marks
from pipeline.replay.outcome import Progress
from pipeline.replay.shelf import letters
from pipeline.replay.spans import Asked, spans
from pipeline.replay.topics import create_topics
from pipeline.replay.waiting import shown
from pipeline.settings import Settings

__all__ = ["Desk", "NoSuchLetter", "opened"]

T = TypeVar("T")


class NoSuchLetter(PipelineError):
    """There is no dead letter of that id."""


class Desk:
    """The dead letters there are, and what became of them."""

    def __init__(
        self, settings: Settings, client: Client, marks: Marks, health: Health
    ) -> None:
        self._settings = settings
        self._client = client
        self._marks = marks
        self._health = health

    async def letters(self) -> AsyncIterator[tuple[Letter, Mark | None]]:
        """Give all of them, in the order of each partition, with their marks."""
        asked = Asked(self._settings.topics.dead_letters)
        found = await spans(self._client, self._settings.kafka, asked)
        async for one in letters(self._client, found, self._health):
            yield one, self._marks.of(one)

    async def one(self, name: str) -> tuple[Letter, Mark | None]:
        """Give the letter of that id. Raises `NoSuchLetter`."""
        async for one, mark in self.letters():
            if one.id == name:
                return one, mark
        raise NoSuchLetter(
            f"There is no dead letter {name} in {self._settings.topics.dead_letters}. "
            "Which there are, as PARTITION:OFFSET: klaviyo-pipeline dead-letters list "
            "--each."
        )

    async def watched(
        self, asked: Coroutine[Any, Any, T], report: Callable[[Progress], None]
    ) -> T:
        """Give the answer to what was asked here, and report who is waited for."""
        asking = asyncio.create_task(asked)
        await shown(asking, self._health, report, "reading dead letters")
        return asking.result()

    async def discard(self, reason: str | None, name: str | None, why: str) -> int:
        """Put the open letters of that reason or id away, and record why; how many."""
        if name is not None:
            await self.one(name)
        chosen = [
            one.mark
            async for one, mark in self.letters()
            if mark is None
            and (reason is None or one.reason == reason)
            and (name is None or one.id == name)
        ]
        await self._marks.put(chosen, "discarded", why)
        return len(chosen)


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Desk]:
    """Connect to Kafka alone. Raises `KafkaUnreachable`."""
    async with AsyncExitStack() as stack:
        client = Client(settings.kafka)
        await client.open()
        stack.push_async_callback(client.close)
        await create_topics(settings)
        prefix = f"{settings.slug}/dead-letters"
        state = State(settings.kafka, settings.topics.state, prefix)
        stack.push_async_callback(state.close)
        marks = Marks(state)
        await marks.load()
        yield Desk(settings, client, marks, Health(Metrics(), SYSTEM))
