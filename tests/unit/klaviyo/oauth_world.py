"""A Klaviyo with an OAuth app, a store for tokens, and replicas that use them."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Self

from pipeline.klaviyo.access import Access
from pipeline.klaviyo.account import Belongs
from pipeline.klaviyo.client import Client
from pipeline.klaviyo.connect import Connect
from pipeline.klaviyo.limits import Limits
from pipeline.klaviyo.oauth import App, OAuth
from pipeline.klaviyo.tokens import Vault
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from pipeline.sandbox import Sandbox
from pipeline.sandbox.faults import Action, Match, Rule
from tests.oauth_user import KEY, MemoryStore, decide
from tests.parts import session
from tests.virtual_time import LoopClock

__all__ = ["EVENT", "HOUR", "Replica", "World", "connected"]

SCOPES = ("accounts:read", "profiles:write", "events:write", "lists:read")
EVENT = (
    b'{"data":{"type":"event","attributes":{"properties":{},"metric":{"data":{"type":'
    b'"metric","attributes":{"name":"M"}}},"profile":{"data":{"type":"profile",'
    b'"attributes":{"email":"a@b.dev"}}}}}}'
)
HOUR = 3600


class Replica:
    """One process: its own access, client and health."""

    def __init__(self, world: "World", number: int = 0) -> None:
        clock = LoopClock()
        self.metrics = Metrics()
        self.health = Health(self.metrics, clock)
        self.health.phase = "running"
        chance = lambda: (number * 0.37 + 0.1) % 1  # noqa: E731
        self.access = Access(
            world.oauth(),
            Vault(world.store, KEY, clock, chance),
            health=self.health,
            metrics=self.metrics,
            clock=clock,
            chance=chance,
        )
        limits = Limits(clock, chance)
        self.session = session(
            world.sandbox.url,
            limits,
            self.metrics,
            self.health,
            credential=self.access,
            connections=100,
            chance=chance,
        )
        self.client = Client(self.session, limits)

    def reasons(self) -> str:
        return "; ".join(self.health.reasons())

    def expires(self) -> float:
        name = "klaviyo_pipeline_token_expires_timestamp_seconds"
        return self.metrics.registry.get_sample_value(name) or 0.0


class World:
    """A Klaviyo, a store, and any number of replicas."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.accounts = MemoryStore()
        self.sandbox = Sandbox(clock=LoopClock(), limits=False)
        self.secret = "sandbox"  # the client's, as the replicas have it
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.sandbox)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def oauth(self, **other: Any) -> OAuth:
        given: dict[str, Any] = {
            "client_id": "sandbox",
            "client_secret": lambda: self.secret,
            "redirect_url": "http://localhost:8080/connect/callback",
            "scopes": SCOPES,
        }
        app = App(**(given | other))
        return OAuth(app, self.sandbox.url, "test", "2026-07-15", LoopClock())

    def connect(self, **other: Any) -> Connect:
        vault = Vault(self.store, KEY, LoopClock(), lambda: 0.5)
        return Connect(self.oauth(**other), vault, Belongs(self.accounts))

    async def login(self, *, replace: bool = False, **other: Any) -> None:
        connect = self.connect(**other)
        asked = connect.ask()
        await connect.finish(asked, await decide(asked.url), replace=replace)

    async def replica(self, number: int = 0) -> Replica:
        made = Replica(self, number)
        await self._stack.enter_async_context(made.access)
        await self._stack.enter_async_context(made.session)
        return made

    def set(self, **settings: Any) -> None:
        self.sandbox.settings = self.sandbox.settings.changed(settings)

    def answers(
        self, path: str, status: int, *, retry_after: int | None = None, **match: Any
    ) -> Rule:
        """Script an answer; `match` says how often or how long."""
        action = Action(kind="status", status=status, retry_after=retry_after)
        rule = Rule(match=Match(path=path, **match), action=action)
        self.sandbox.faults.add(rule)
        return rule

    @property
    def accepted(self) -> int:
        return self.sandbox.ledger.statuses["POST /api/events"].get(202, 0)

    @property
    def counts(self) -> dict[str, int]:
        return self.sandbox.oauth.counts


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[World, Replica]]:
    """A world after a login, and one replica in it."""
    async with World() as world:
        await world.login()
        yield world, await world.replica()
