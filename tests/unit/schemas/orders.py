"""Order messages in short, and what they become."""

from typing import Any

import msgspec
import orjson

from schemas.commands import CreateEvent
from schemas.envelope import decode
from schemas.event import Context, Event, Plan, Rejected, Skipped

__all__ = [
    "CONTEXT",
    "LINES",
    "RECORD",
    "events",
    "number",
    "outcome",
    "planned",
    "properties",
]

CONTEXT = Context(default_country="US")
RECORD = 1_793_527_200_000  # ms; 2026-11-01T10:00:00Z
LINES = [
    {"id": "1", "product_id": "P1", "name": "Thing", "quantity": 2, "price": "10.00"},
    {"id": "2", "product_id": "P2", "name": "Other", "quantity": 1, "price": "5.50"},
]


def outcome(
    message: dict[str, Any], context: Context = CONTEXT
) -> Plan | Skipped | Rejected:
    event = decode(orjson.dumps(message), ())
    assert isinstance(event, Event), event
    return event.commands(context, RECORD)


def planned(
    kind: str, order: dict[str, Any], context: Context = CONTEXT, **rest: object
) -> Plan:
    order = {"id": "O-1", "customer": {"id": "C-1"}, **order}
    plan = outcome({"type": f"order.{kind}", "order": order, **rest}, context)
    assert isinstance(plan, Plan), plan
    return plan


def events(kind: str, order: dict[str, Any], **rest: Any) -> list[CreateEvent]:
    commands = planned(kind, order, **rest).commands
    return [command for command in commands if isinstance(command, CreateEvent)]


def properties(event: CreateEvent) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(bytes(event.properties))
    return found


def number(raw: msgspec.Raw | None) -> str | None:
    return None if raw is None else bytes(raw).decode()
