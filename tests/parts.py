"""Real parts put together as the program does it, for a virtual loop."""

from collections.abc import Callable
from typing import Any

from pipeline.clock import Clock
from pipeline.forward.audit import Audit
from pipeline.forward.consent import Consents
from pipeline.forward.dead_letters import DeadLetters
from pipeline.forward.deletions import Deletions
from pipeline.forward.deliver import Conflicts, Deliver
from pipeline.forward.flood import Flood
from pipeline.forward.flow import Flow
from pipeline.forward.plan import Planner
from pipeline.klaviyo.auth import ApiKey, Credential
from pipeline.klaviyo.limits import Limits
from pipeline.klaviyo.revision import Revision
from pipeline.klaviyo.session import Session
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from schemas.event import Context
from tests.virtual_time import LoopClock

__all__ = ["forward", "session"]

KEY = ApiKey(lambda: "pk_test")


def session(
    url: str,
    limits: Limits,
    metrics: Metrics,
    health: Health,
    *,
    credential: Credential = KEY,
    revision: str = "2026-07-15",
    strict: bool = False,
    connections: int = 10,
    chance: Callable[[], float] = lambda: 0.5,
) -> Session:
    """A session with a Klaviyo, not open yet."""
    clock = LoopClock()
    return Session(
        api_url=url,
        agent="klaviyo-pipeline/0.1.0 (v1.0)",
        credential=credential,
        revision=Revision(revision, strict=strict, metrics=metrics, clock=clock),
        limits=limits,
        connections=connections,
        health=health,
        metrics=metrics,
        clock=clock,
        chance=chance,
    )


def forward(
    client: Any,
    broker: Any,
    metrics: Metrics,
    health: Health,
    *,
    planner: Planner | None = None,
    conflicts: Conflicts = "drop_identifier",
    consents: Consents | None = None,
    sent: Any = None,
    connections: int = 10,
) -> Flow:
    """The forward direction; client and broker may be stand-ins."""
    clock: Clock = LoopClock()
    return Flow(
        planner=planner or Planner(Context()),
        client=client,
        deliver=Deliver(client, metrics, conflicts),
        imports=None,
        deletions=Deletions(client, clock),
        facts=(),
        consents=consents,
        sent=sent,
        dead_letters=DeadLetters(broker, "dead", "test", health, metrics),
        flood=Flood(100, health),
        audit=Audit(client, 0, lambda: 0.0, metrics, clock),
        connections=connections,
        health=health,
        metrics=metrics,
        clock=clock,
    )
