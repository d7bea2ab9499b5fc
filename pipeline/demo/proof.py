"""The proof of the demo: what was made against what is stored, record by record.

It asks the two outside witnesses: the sandbox over HTTP, and the dead-letter topic
through a consumer that shares no code with ours. What was skipped only the metrics tell.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from pipeline.demo.shop import Shop
from pipeline.demo.topic import messages

__all__ = [
    "Finding",
    "Stored",
    "compare",
    "compare_skipped",
    "fetch",
    "read_dead_letters",
]


@dataclass
class Stored:
    """What the outside witnesses hold."""

    profiles: dict[str, dict[str, Any]] = field(default_factory=dict)
    """external_id, else e-mail -> Klaviyo's attributes"""
    events: dict[tuple[str, str], list[tuple[str | None, float | None]]] = field(
        default_factory=dict
    )
    """(metric, unique_id) -> (external_id or e-mail, value) of each event stored"""
    dead: dict[bytes, list[str]] = field(default_factory=dict)
    """key -> reasons of its dead letters"""
    throttled: int = 0
    """429 answers"""
    overlaps: int = 0
    """times two requests of one customer were in flight together"""


@dataclass(frozen=True)
class Finding:
    """One line of the proof table."""

    what: str
    made: int
    stored: int
    wrong: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Whether both sides agree."""
        return self.made == self.stored and not self.wrong


def compare(shop: Shop, stored: Stored) -> list[Finding]:
    """Each line agrees or names the first records that do not."""
    profiles = [
        who
        for who, wanted in shop.profiles.items()
        if _differs(wanted, stored.profiles.get(who, {}))
    ]
    wrong_events = [
        f"{metric} {unique_id}"
        for (metric, unique_id), wanted in shop.events.items()
        if stored.events.get((metric, unique_id)) != [wanted]
    ]
    extra = [f"{m} {u}" for m, u in stored.events.keys() - shop.events.keys()]
    metrics = sorted({metric for metric, _ in shop.events})
    return [
        Finding("profiles", len(shop.profiles), len(stored.profiles), _first(profiles)),
        *(
            Finding(
                metric,
                sum(name == metric for name, _ in shop.events),
                sum(len(v) for (name, _), v in stored.events.items() if name == metric),
                _first(e for e in [*wrong_events, *extra] if e.startswith(metric)),
            )
            for metric in metrics
        ),
        *_dead_letters(shop, stored),
        Finding("answers 429", 0, stored.throttled),
        Finding("order broken", 0, stored.overlaps),
    ]


def compare_skipped(shop: Shop, skipped: Counter[str]) -> list[Finding]:
    """Compare by reason; nobody but the process that skipped them can tell."""
    return [
        Finding(f"skipped: {reason}", shop.skipped[reason], skipped[reason])
        for reason in sorted(shop.skipped.keys() | skipped.keys())
    ]


def _dead_letters(shop: Shop, stored: Stored) -> Iterator[Finding]:
    found = Counter(reason for reasons in stored.dead.values() for reason in reasons)
    wanted = Counter(shop.dead.values())
    for reason in sorted(wanted.keys() | found.keys()):
        wrong = [
            key.decode()
            for key in shop.dead.keys() | stored.dead.keys()
            if stored.dead.get(key, []).count(reason) != (shop.dead.get(key) == reason)
        ]
        what = f"dead letters: {reason}"
        yield Finding(what, wanted[reason], found[reason], _first(wrong))


async def fetch(url: str) -> Stored:
    """What the sandbox at `url` holds, read from its pages under /sandbox/."""
    stored = Stored()
    async with aiohttp.ClientSession(url) as session:

        async def get(path: str) -> dict[str, Any]:
            async with session.get(f"/sandbox/{path}") as answer:
                found: dict[str, Any] = await answer.json()
                return found

        profiles, events, violations = (
            (await get("profiles"))["data"],
            (await get("events"))["data"],
            await get("violations"),
        )
    who: dict[str, str] = {}
    for profile in profiles:
        attributes = profile["attributes"]
        name = attributes["external_id"] or attributes["email"] or profile["id"]
        who[profile["id"]] = name
        stored.profiles[name] = attributes
    for event in events:
        key = (event["metric"], event["unique_id"])
        held = (who.get(event["profile_id"]), event["value"])
        stored.events.setdefault(key, []).append(held)
    stored.throttled = violations["throttled"]
    stored.overlaps = violations["count"]
    return stored


def read_dead_letters(bootstrap: str, topic: str) -> dict[bytes, list[str]]:
    """Keys and reasons in the dead-letter topic, read from its beginning to its end."""
    found: dict[bytes, list[str]] = {}
    for message in messages(bootstrap, topic, "proof"):
        headers = dict(message.headers() or [])
        reason = headers.get("klaviyo.reason") or b""
        found.setdefault(message.key() or b"", []).append(
            reason if isinstance(reason, str) else reason.decode()
        )
    return found


def _differs(wanted: dict[str, Any], held: dict[str, Any]) -> bool:
    properties = held.get("properties") or {}
    return any(
        any(properties.get(key) != value for key, value in wanted_value.items())
        if name == "properties"
        else held.get(name) != wanted_value
        for name, wanted_value in wanted.items()
    )


def _first(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(names)[:3])
