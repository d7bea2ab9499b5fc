"""The reverse direction in virtual time: the real one but for Kafka, which is a list."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Self, cast

import pytest

from pipeline.kafka.follow import Entry, Follower
from pipeline.kafka.transactions import Away, Outgoing, Transactions
from pipeline.klaviyo.client import Client
from pipeline.klaviyo.limits import Limits
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from pipeline.reverse.carry import Carry
from pipeline.reverse.flow import Flow
from pipeline.reverse.poll import Poller
from pipeline.reverse.publish import Publisher
from pipeline.reverse.view import View
from pipeline.sandbox import Sandbox
from pipeline.sandbox.profile import Profile
from pipeline.settings import Reverse
from tests.parts import session
from tests.virtual_time import LoopClock

__all__ = ["Virtual", "inline"]


class Topics:
    """Both topics; `away` while nobody can write, `hung` when it never ends."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.state: list[Entry] = []
        self.away = False
        self.hung = False
        self._read = 0

    # -- as Transactions -----------------------------------------------------------------

    async def open(self) -> None:
        self._read = 0
        if self.away:
            raise Away("no broker")

    async def commit(self, records: Sequence[Outgoing]) -> None:
        if self.hung:
            await asyncio.Event().wait()
        if self.away:
            raise Away("no broker")
        for each in records:
            if each.topic == "profiles":
                self.messages.append(json.loads(each.value or b""))
            else:
                self.state.append((each.key, each.value))

    async def close(self) -> None:
        pass

    # -- as Follower ---------------------------------------------------------------------

    async def news(self) -> AsyncIterator[list[Entry]]:
        found, self._read = self.state[self._read :], len(self.state)
        if found:
            yield found

    async def written(self, _: str) -> bool:
        return bool(self.messages)


class Virtual:
    """One account, one poller. `pass_` lets time go by while it works."""

    def __init__(self, **settings: Any) -> None:
        self.clock = LoopClock()
        self.metrics = Metrics()
        self.health = Health(self.metrics, self.clock)
        self.topics = Topics()
        self.settings = Reverse(**{"start": "all", **settings})
        self.stop = asyncio.Event()
        self.ahead = 0.0  # s that Klaviyo's clock is ahead of ours
        self.sandbox = Sandbox(clock=_Ahead(self), limits=False)
        self.leading = asyncio.Event()
        self.leading.set()

    async def __aenter__(self) -> Self:
        await self.sandbox.__aenter__()
        limits = Limits(self.clock, lambda: 0.5)
        self._session = session(self.sandbox.url, limits, self.metrics, self.health)
        await self._session.__aenter__()
        self._client = Client(self._session, limits)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.__aexit__()
        await self.sandbox.__aexit__()

    def start(self) -> None:
        """Begin as a process does; the topics are as they were left."""
        self.stop.clear()
        kafka = cast("Transactions", self.topics)
        carry = Carry(
            poller=Poller(self._client, self.clock),
            publisher=Publisher(
                transactions=kafka,
                follower=cast("Follower", self.topics),
                view=View(),
                profiles="profiles",
                state="state",
                slug="s",
                subscription="s",
                key="external_id",
                metrics=self.metrics,
            ),
            turn=self,
            settings=self.settings,
            health=self.health,
            metrics=self.metrics,
            clock=self.clock,
        )
        self.flow = Flow(carry, self.settings, self.health, self.clock)
        self._running = asyncio.create_task(self.flow.run(self.stop))

    async def pass_(self, seconds: float) -> None:
        """Let it work that long."""
        await asyncio.sleep(seconds)
        if self._running.done():
            self._running.result()

    async def end(self) -> None:
        """Stop it in order."""
        self.stop.set()
        await self._running

    def make(self, name: str, *, at: float | None = None, **attributes: Any) -> Profile:
        """Make a profile, now or at another time."""
        state = self.sandbox.state
        given = {"email": f"{name}@shop.dev", **attributes}
        return state.profiles.create(given, state.clock.now() if at is None else at)

    def edit(self, profile: Profile, **attributes: Any) -> None:
        """Edit it as a marketer does."""
        state = self.sandbox.state
        state.profiles.update(profile.id, attributes, None, state.clock.now())

    def kinds(self) -> dict[str, list[str]]:
        """Kinds of messages by profile, after checking that none is there twice."""
        ids = [each["id"] for each in self.topics.messages]
        assert len(ids) == len(set(ids)), "published twice"
        found: dict[str, list[str]] = {}
        for each in self.topics.messages:
            kind = each["type"].rpartition(".")[2]
            found.setdefault(each["profile"]["id"], []).append(kind)
        return found


class _Ahead:
    """Klaviyo's clock."""

    def __init__(self, world: Virtual) -> None:
        self._world = world

    def monotonic(self) -> float:
        return self._world.clock.monotonic()

    def now(self) -> float:
        return self._world.clock.now() + self._world.ahead


def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads do not work in virtual time: what would go to one is done at once."""

    async def at_once(doing: Callable[..., Any], *given: Any, **named: Any) -> Any:
        loop = asyncio.get_running_loop()
        asyncio._set_running_loop(None)  # as in a thread, where it may block
        try:
            return doing(*given, **named)
        finally:
            asyncio._set_running_loop(loop)

    monkeypatch.setattr(asyncio, "to_thread", at_once)
