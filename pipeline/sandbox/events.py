"""All events: metrics by name, one event per profile, metric and unique_id.

The first one processed wins; later ones with the same unique_id are ignored, so an event
cannot be corrected. Without unique_id the time in seconds takes its place. Source:
Klaviyo, "Events API overview".
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import orjson

from pipeline.sandbox.formats import stamp
from pipeline.sandbox.ids import Ids
from pipeline.sandbox.wire import Json

__all__ = ["Event", "Events", "Metric"]

_REPEATED_KEPT = 1_000


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric; `created` in Unix seconds."""

    id: str
    name: str
    created: int

    def resource(self, origin: str) -> Json:
        """Return the metric as a JSON:API resource."""
        return {
            "type": "metric",
            "id": self.id,
            "attributes": {
                "name": self.name,
                "created": stamp(self.created),
                "updated": stamp(self.created),
                "integration": {
                    "object": "integration",
                    "id": "0",
                    "name": "API",
                    "category": "API",
                },
            },
            "links": {"self": f"{origin}/api/metrics/{self.id}"},
        }


class Event(msgspec.Struct, gc=False):
    """An event; times in Unix seconds, properties as JSON bytes to keep many small."""

    id: str
    profile: str
    metric: str
    unique_id: str
    time: int
    received: float
    properties: bytes
    value: float | None = None
    currency: str | None = None
    backfill: bool = False

    def shown(self) -> Json:
        """Return event_properties as they are read: 0, null and "" count as not set.

        The unique_id stands in them as `$event_id` (Klaviyo, "Events API overview").
        """
        held = orjson.loads(self.properties)
        shown = {k: v for k, v in held.items() if v not in (0, None, "") or v is False}
        shown["$event_id"] = self.unique_id
        if self.value:
            shown["$value"] = self.value
            if self.currency:
                shown["$value_currency"] = self.currency
        return shown

    def resource(self, origin: str) -> Json:
        """Return the event as a JSON:API resource."""
        return {
            "type": "event",
            "id": self.id,
            "attributes": {
                "timestamp": self.time,
                "event_properties": self.shown(),
                "datetime": stamp(self.time),
                "uuid": self.id,
            },
            "relationships": {
                "profile": {"data": {"type": "profile", "id": self.profile}},
                "metric": {"data": {"type": "metric", "id": self.metric}},
                "attributions": {"data": []},
            },
            "links": {"self": f"{origin}/api/events/{self.id}"},
        }


class Events:
    """Events per profile, and the metrics."""

    def __init__(self, ids: Ids) -> None:
        """Start without events and metrics."""
        self._ids = ids
        self._metrics: dict[str, Metric] = {}
        self._by_profile: dict[str, dict[tuple[str, str], Event]] = {}
        self.count = 0
        self.duplicates = 0  # events ignored because their unique_id was there already
        self.repeated: deque[tuple[str, str, str]] = deque(maxlen=_REPEATED_KEPT)
        self.version = 0  # grows with every change; listings cache by it

    def metrics(self) -> list[Metric]:
        """Return the metrics in the order of their first event."""
        return list(self._metrics.values())

    def metric(self, name: str, now: float) -> Metric:
        """Return the metric of that name, a new one if there was none."""
        found = self._metrics.get(name)
        if found is None:
            found = self._metrics[name] = Metric(self._ids.short(), name, int(now))
        return found

    def add(self, event: Event, keep: int | None) -> bool:
        """Record an event; return False when its unique_id was there already.

        Beyond `keep` events the properties are dropped to bound memory.
        """
        mine = self._by_profile.setdefault(event.profile, {})
        key = (event.metric, event.unique_id)
        if key in mine:
            self.duplicates += 1
            self.repeated.append((event.profile, *key))
            return False
        if keep is not None and self.count >= keep:
            event.properties = b"{}"
        mine[key] = event
        self.count += 1
        self.version += 1
        return True

    def of_profile(self, profile: str) -> list[Event]:
        """Return the events of a profile, in the order in which they were processed."""
        return list(self._by_profile.get(profile, {}).values())

    def move(self, source: str, target: str) -> None:
        """Give the events of `source` to `target`; an empty `target` forgets them."""
        mine = self._by_profile.pop(source, {})
        self.count -= len(mine)
        self.version += 1
        for event in mine.values() if target else ():
            event.profile = target
            self.add(event, keep=None)

    def __iter__(self) -> Iterator[Event]:
        """Yield every event, profile by profile."""
        for mine in self._by_profile.values():
            yield from mine.values()

    def id(self) -> str:
        """Return a new event id."""
        return self._ids.ulid()
