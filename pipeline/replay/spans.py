"""From what the user asked for to the offsets of each partition."""

import datetime as dt
from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from pipeline.errors import PipelineError, SettingsError
from pipeline.kafka.admin import Admin
from pipeline.kafka.client import Client
from pipeline.kafka.positions import Bounds
from pipeline.kafka.ranges import Span, look, moments
from pipeline.records import Partition
from pipeline.settings import Kafka

__all__ = ["Asked", "Cut", "Place", "partitions", "place", "spans"]

Place: TypeAlias = int | dt.datetime | None  # an offset, a moment, or as far as it goes


class Cut(PipelineError):
    """Retention has deleted what was asked for."""


class Asked(NamedTuple):
    """A range of one topic, in the user's words."""

    topic: str
    partition: int | None = None
    since: Place = None
    until: Place = None


def place(text: str | None, option: str) -> Place:
    """Read an offset (`1200`) or a time (RFC 3339, or a date). Raises `SettingsError`."""
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(
            f"{option} {text} is neither an offset (1200) nor a time "
            "(2026-11-01T10:00:00Z)."
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


async def partitions(settings: Kafka, topic: str, number: int | None) -> list[Partition]:
    """Give the topic's partitions, or the one asked for. Raises `SettingsError`."""
    found = (await Admin(settings).describe([topic]))[topic]
    if found is None:
        raise SettingsError(
            f"The topic {topic} does not exist, or may not be seen. What is there: "
            "klaviyo-pipeline topics."
        )
    if number is not None and number >= found.partitions:
        raise SettingsError(
            f"{topic} has no partition {number}: it has {found.partitions}, "
            f"0 to {found.partitions - 1}."
        )
    numbers = range(found.partitions) if number is None else [number]
    return [(topic, each) for each in numbers]


async def spans(client: Client, settings: Kafka, asked: Asked) -> dict[Partition, Span]:
    """Give the offsets that were asked for.

    Raises `SettingsError` for what can never be, `Cut` for what is gone.
    """
    wanted = await partitions(settings, asked.topic, asked.partition)
    _check(asked, len(wanted))
    bounds, _ = await look(client, wanted)
    since = await _offsets(client, bounds, asked.since)
    until = await _offsets(client, bounds, asked.until)
    found: dict[Partition, Span] = {}
    for partition, bound in bounds.items():
        at, to = since[partition], until[partition]
        at = bound.beginning if at is None else at
        to = bound.end if to is None else min(to, bound.end)
        if isinstance(asked.since, int):
            _there(partition, at, bound)
        found[partition] = Span(at, max(at, to))
    return found


def _check(asked: Asked, count: int) -> None:
    since, until = asked.since, asked.until
    numbered = isinstance(since, int) or isinstance(until, int)
    if numbered and count > 1:
        raise SettingsError(
            f"{asked.topic} has {count} partitions, and offsets count in each of them: "
            "add --partition, or give times."
        )
    same = type(since) is type(until)
    if since is not None and until is not None and same and since > until:  # type: ignore[operator]  # both are of one kind
        raise SettingsError(f"--from {since} is after --to {until}: exchange them.")


def _there(partition: Partition, at: int, bound: Bounds) -> None:
    name = "{}-{}".format(*partition)
    if bound.beginning <= at <= bound.end:
        return
    if at > bound.end:
        raise SettingsError(
            f"--from {at} is beyond the end of {name}, which holds offsets "
            f"{bound.beginning} to {bound.end - 1}."
        )
    there = (
        f"It holds {bound.beginning} to {bound.end - 1}: --from {bound.beginning} sends "
        "what is left; for the rest let its source write it again."
        if bound.beginning < bound.end
        else "It holds nothing now: let its source write the records again."
    )
    raise Cut(f"{name} no longer has offset {at}: retention has deleted it. {there}")


async def _offsets(
    client: Client, bounds: Mapping[Partition, Bounds], wanted: Place
) -> dict[Partition, int | None]:
    if not isinstance(wanted, dt.datetime):
        return dict.fromkeys(bounds, wanted)
    moment = max(0, int(wanted.timestamp() * 1000))
    return dict(await moments(client, dict.fromkeys(bounds, moment), bounds))
