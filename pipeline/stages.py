"""The stages of the forward direction put together, as the settings say."""

import random
from typing import TYPE_CHECKING

from pipeline.clock import SYSTEM
from pipeline.errors import SettingsError
from pipeline.forward.asked import Asked
from pipeline.forward.audit import Audit
from pipeline.forward.consent import Consents
from pipeline.forward.dead_letters import DeadLetters
from pipeline.forward.deletions import Deletions
from pipeline.forward.deliver import Deliver
from pipeline.forward.erased import Erased
from pipeline.forward.facts import Facts, Table
from pipeline.forward.flood import Flood
from pipeline.forward.flow import Flow
from pipeline.forward.imports import Imports
from pipeline.forward.links import Links
from pipeline.forward.merges import Merges
from pipeline.forward.plan import Planner
from pipeline.forward.sent import Sent
from pipeline.kafka.producer import Producer
from pipeline.kafka.schema_registry import SchemaRegistry
from pipeline.kafka.state import State
from pipeline.klaviyo.client import Client
from pipeline.klaviyo.lists import Lists
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from pipeline.settings import Settings
from schemas import event as schema
from schemas.klaviyo import BACKFILL_SINCE, most_properties

if TYPE_CHECKING:  # OpenTelemetry is an extra, and off
    from pipeline.observe.tracing import Tracing

__all__ = [
    "context",
    "forward",
    "planning",
    "require_history",
    "telling",
]


def planning(
    settings: Settings, registry: SchemaRegistry | None = None, *, backfill: bool = False
) -> Planner:
    """Build what turns records into commands."""
    return Planner(context(settings, backfill=backfill), settings.mapping, registry)


def telling(
    settings: Settings, producer: Producer, client: Client, health: Health
) -> Sent | None:
    """Build what tells the reverse direction of writes; None if nobody listens."""
    if not settings.reverse.enabled:
        return None
    return Sent(
        producer,
        settings.topics.state,
        settings.slug,
        lambda: client.now() or SYSTEM.now(),
        health,
    )


def forward(
    settings: Settings,
    client: Client,
    planner: Planner,
    dead_letters: DeadLetters,
    health: Health,
    metrics: Metrics,
    imports: Imports | None = None,
    sent: Sent | None = None,
    asked: Asked | None = None,
    tracing: "Tracing | None" = None,
    *,
    flood: Flood | None = None,
    writes: bool = True,
) -> Flow:
    """Join the stages of the forward direction, as the settings say.

    Without `imports` no profile goes by bulk. `sent` is told what Klaviyo took. Without
    `asked` what was asked for lately is forgotten at the end; without `writes` nothing is
    kept of what is learnt, as nothing is sent. `flood`: another brake.
    """
    facts: list[Facts] = []

    def kept(owner: str, table: Table) -> Facts:
        prefix = f"{settings.slug}/{owner}"
        state = State(settings.kafka, settings.topics.state, prefix)
        facts.append(Facts(state, table, health, writes=writes))
        return facts[-1]

    policy = settings.deletes.policy
    ending = None if policy == "ignore" else policy
    erasing = linking = merge = None
    if settings.deletes.policy == "erase":
        erased = Erased(settings.secrets.key.get_secret_value())
        erasing = erased, kept("erased", erased)
    if settings.profile.identity_conflict == "merge":
        links = Links()
        linking = links, kept("links", links)
        merge = Merges(client, *linking).merge
    consents = None
    if settings.consent.writes:
        consents = Consents(
            client=client,
            lists=Lists(
                client.subscriptions, SYSTEM, create=settings.consent.create_lists
            ),
            asked=asked or Asked(None, health, SYSTEM),
            source=settings.subscription.name,
            default=settings.consent.list,
            metrics=metrics,
            clock=SYSTEM,
        )
    return Flow(
        planner=planner,
        client=client,
        deliver=Deliver(client, metrics, settings.profile.identity_conflict, merge),
        deletions=Deletions(client, SYSTEM, ending, erasing, linking),
        facts=facts,
        imports=imports,
        consents=consents,
        sent=sent,
        dead_letters=dead_letters,
        flood=flood or Flood(settings.deliver.malformed_limit, health),
        audit=Audit(
            client,
            settings.audit.sample,
            random.Random().random,  # noqa: S311  which ones, not a secret
            metrics,
            SYSTEM,
        ),
        connections=settings.throttle.concurrent_connections,
        health=health,
        metrics=metrics,
        clock=SYSTEM,
        tracing=tracing,
    )


def context(settings: Settings, *, backfill: bool = False) -> schema.Context:
    """Give what commands depend on beside the record."""
    return schema.Context(
        metrics=settings.events.model_dump(),
        default_country=settings.profile.default_country or None,
        generate_events=settings.klaviyo.generate_events,
        deletes=settings.deletes.policy,
        most_properties=most_properties(settings.klaviyo.api_revision),
        backfill=backfill,
        consent=settings.consent.writes,
        backfill_after=settings.deliver.backfill_after,
    )


def require_history(context: schema.Context, served: str) -> None:
    """Make sure that events can be marked as history, where that is asked for.

    Raises `SettingsError` for a revision without it: there flows would mail customers.
    """
    if served >= BACKFILL_SINCE or not (context.backfill or context.backfill_after):
        return
    asked = "a backfill" if context.backfill else "deliver.backfill_after"
    raise SettingsError(
        f"Klaviyo serves revision {served}, in which events cannot be marked as "
        "history: its flows would send messages to customers. Set "
        f"klaviyo.api_revision to {BACKFILL_SINCE} or newer for {asked}."
    )
