"""What an event type is, and the closed union of how reading one can end.

    envelope.decode  ->  Event | Skipped | Rejected
    Event.commands   ->  Plan  | Skipped | Rejected

All of them are values: a healthy step never raises to tell the next one something.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

import msgspec

from schemas.commands import Command

__all__ = [
    "Context",
    "Event",
    "Field",
    "Losses",
    "Metric",
    "Plan",
    "RejectReason",
    "Rejected",
    "SkipReason",
    "Skipped",
    "UnusableEventType",
]

SkipReason: TypeAlias = Literal[
    "unknown_type",
    "tombstone",
    "deletes_ignored",
    "events_off",
    "consent_off",
    "own_origin",
    "erased",
]
RejectReason: TypeAlias = Literal[
    "malformed", "schema", "no_identifier", "mapping_failed"
]

# Our names of fields that can be repaired away or left out; bounded, as it is a metric
# label.
Field: TypeAlias = Literal[
    "address",
    "amount",
    "company",
    "consent",
    "currency",
    "custom_fields",
    "discount",
    "email",
    "first_name",
    "image_url",
    "last_name",
    "lists",
    "locale",
    "occurred_at",
    "phone",
    "price",
    "properties",
    "quantity",
    "shipping",
    "subtotal",
    "tax",
    "title",
    "total",
]


class Skipped(msgspec.Struct, frozen=True, tag=True):
    """Nothing is to be done, on purpose; the record ends well."""

    reason: SkipReason


class Rejected(msgspec.Struct, frozen=True, tag=True):
    """The record's own fault: it is a dead letter. `message` holds no customer data.

    `path` is a JSON path into the record's value (`$.customer.email`); for faults found
    at stage `plan` in CloudEvents it starts at the event's `data`.
    """

    reason: RejectReason
    stage: Literal["decode", "plan"]
    path: str
    message: str


class Metric(msgspec.Struct, frozen=True):
    """A metric of an event type: what it is called in Klaviyo unless a user says else.

    A module in `schemas/events/` declares those of its type; `[events]` names them anew.
    The defaults are those of Klaviyo's e-commerce guide; an account maps them for CLV.
    """

    setting: str  # events.<setting>
    name: str
    of: str  # what becomes such an event, for the table of settings


class Context(msgspec.Struct, frozen=True):
    """What commands depend on beside the record itself: the same for the whole run."""

    metrics: Mapping[str, str] = {}  # names of metrics by setting, see `named`
    default_country: str | None = None  # ISO 3166-1 alpha-2; profile.default_country
    generate_events: bool = True  # klaviyo.generate_events
    deletes: Literal["ignore", "suppress", "erase"] = "ignore"  # deletes.policy
    most_properties: int = 300  # of an event; `schemas.klaviyo.most_properties`
    backfill: bool = False  # history: no flow fires, no message goes to a customer
    consent: bool = False  # consent.writes
    backfill_after: float | None = None  # s; an older event is history by itself

    def named(self, metric: Metric) -> str:
        """Return what the user calls the metric."""
        return self.metrics.get(metric.setting, metric.name)


class Plan(msgspec.Struct):
    """What one record asks of Klaviyo, in order, and what of it stays behind.

    `skipped` are the reasons of parts left undone beside delivered ones; `degraded` names
    the fields that were left out because they could not be used.
    """

    commands: list[Command]
    skipped: tuple[SkipReason, ...] = ()
    degraded: tuple[Field, ...] = ()


class Losses:
    """Collects what one record loses while it is planned, and its first fault.

    Carrying it along keeps the healthy path free of unions at every field.
    """

    __slots__ = ("degraded", "fault", "most_properties")

    def __init__(self, most_properties: int = 300) -> None:
        self.most_properties = most_properties  # of an event
        self.degraded: dict[Field, None] = {}  # a set that remembers its order
        self.fault: Rejected | None = None

    def lose(self, field: Field) -> None:
        """Count `field` as left out; once per record."""
        self.degraded[field] = None

    def reject(self, path: str, message: str) -> None:
        """Note a value of the wrong JSON type; the first one is the one reported."""
        if self.fault is None:
            self.fault = Rejected("schema", "plan", path, message)


class Event(msgspec.Struct, tag_field="type", tag="", kw_only=True):
    """One message, as a shop sends it. A subclass per type, in `schemas/events/`.

    One that lacks a tag or `commands` is refused by `schemas.registry` at the start.

    `id` names the message; `occurred_at` is RFC 3339 and as it came, see
    `schemas.moment`.
    """

    id: str | None = None
    occurred_at: str | None = None

    @abstractmethod
    def commands(self, context: Context, timestamp_ms: int) -> Plan | Skipped | Rejected:
        """Return what becomes true in Klaviyo because of this event.

        `timestamp_ms` is that of the Kafka record, in ms since the epoch: it stands in
        for an `occurred_at` that is missing or unusable, so that identical records give
        identical requests.
        """


class UnusableEventType(TypeError):
    """A module that should be an event type is none; see `schemas.registry`."""


EVENTS_OFF: Final = Skipped("events_off")
