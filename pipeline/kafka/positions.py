"""Where to begin to read each partition: a decision that loses nothing silently.

Pure: offsets in, positions or a clear error out. aiokafka's own reset is off, because its
answer to an offset that is missing or was deleted is a silent jump.
"""

from collections.abc import Collection, Mapping
from typing import Literal, TypeAlias

import msgspec

from pipeline.errors import OffsetsLost, OffsetsMissing
from pipeline.kafka import notes
from pipeline.records import Partition

__all__ = ["Bounds", "Places", "decide"]

Start: TypeAlias = Literal["none", "earliest", "latest"]


class Bounds(msgspec.Struct, frozen=True):
    """What the broker knows of one partition; `end` is the next offset to be written."""

    committed: int | None
    beginning: int
    end: int
    note: str = ""  # committed beside the offset


class Places(msgspec.Struct):
    """Where to begin, what the group had no offset for, and what is gone for good."""

    at: dict[Partition, int]
    fresh: dict[Partition, int]  # part of `at`: commit it before anything is read
    lost: dict[Partition, int]  # records skipped, as far as the broker still knows
    ended: dict[Partition, frozenset[int]] = {}  # from `at` on, and not to be read again


def decide(
    bounds: Mapping[Partition, Bounds],
    *,
    group: str,
    start: Start,
    started: Collection[str],
    young: Collection[str],
) -> Places:
    """Where each partition begins.

    `started` are topics for which the group has an offset in some partition: another one
    is new in them and begins at its beginning, as do the topics in `young`, which came
    into being while this process waited for them. Raises `OffsetsMissing` when nobody
    said where else to begin, `OffsetsLost` when retention was faster than we.
    """
    places = Places({}, {}, {})
    missing: set[str] = set()
    for partition, bound in bounds.items():
        topic, at = partition[0], bound.committed
        begin = bound.end if start == "latest" else bound.beginning
        if at is None:
            if topic in started or topic in young:
                begin = bound.beginning
            elif start == "none":
                missing.add(topic)
            places.fresh[partition] = begin
        elif at < bound.beginning:
            places.lost[partition] = begin - at
        elif at > bound.end:  # the topic was made anew; what the old one held is unknown
            places.lost[partition] = begin - bound.beginning
        else:
            begin = at
        places.at[partition] = begin
        places.ended[partition] = notes.decode(begin, bound.note)
    if missing:
        raise OffsetsMissing(
            f"The consumer group {group} has no offsets in {', '.join(sorted(missing))}, "
            "and kafka.start is none. Say once where to begin, later its own offsets "
            "count: PIPELINE_KAFKA__START=earliest klaviyo-pipeline run delivers all the "
            "topics hold, PIPELINE_KAFKA__START=latest only what comes from now on."
        )
    if places.lost and start == "none":
        raise OffsetsLost(
            f"The consumer group {group} cannot go on where it stopped: records were "
            "deleted before they were delivered, or the topic was made anew "
            f"({_gaps(places.lost, bounds)}). Write what is missing to the topic again "
            "if you can, then go on: PIPELINE_KAFKA__START=earliest klaviyo-pipeline run "
            "takes all that is left, PIPELINE_KAFKA__START=latest only what comes now."
        )
    return places


def _gaps(lost: Collection[Partition], bounds: Mapping[Partition, Bounds]) -> str:
    return "; ".join(
        f"{topic}-{number}: committed {bounds[topic, number].committed}, there are "
        f"{bounds[topic, number].beginning} to {bounds[topic, number].end}"
        for topic, number in sorted(lost)
    )
