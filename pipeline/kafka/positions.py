"""Where to begin to read each partition: a decision that loses nothing silently.

Pure: offsets in, positions or a clear error out. aiokafka's own reset is off, because its
answer to an offset that is missing or was deleted is a silent jump.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Literal, TypeAlias

import msgspec

from pipeline.errors import OffsetsLost, OffsetsMissing
from pipeline.kafka import notes
from pipeline.records import Partition

__all__ = ["Bounds", "Places", "begun", "decide"]

Start: TypeAlias = Literal["none", "earliest", "latest"]


class Bounds(msgspec.Struct, frozen=True):
    """What the broker knows of one partition; `end` is the next offset to be written."""

    committed: int | None
    beginning: int
    end: int
    note: str = ""  # committed beside the offset
    partitions: int = 0  # the topic has by now


class Places(msgspec.Struct):
    """Where to begin, what the group had no offset for, and what is gone for good.

    `first` is for the notes of all commits: how many partitions each topic had when the
    group first began in it, 0 if all of them came later or that is not known.
    """

    at: dict[Partition, int]
    fresh: dict[Partition, int]  # part of `at`: commit it before anything is read
    lost: dict[Partition, int]  # records skipped, as far as the broker still knows
    ended: dict[Partition, frozenset[int]] = {}  # from `at` on, and not to be read again
    first: dict[str, int] = {}


def begun(
    committed: Iterable[tuple[str, str]], partitions: Mapping[str, int]
) -> dict[str, int]:
    """The topics the group has begun in, with how many partitions each had then.

    `committed` are topic and note of every offset of the group in them, `partitions` how
    many the topics have by now: one made anew with fewer can only have begun with those.
    0 where no note says.
    """
    found: dict[str, int] = {}
    for topic, note in committed:
        first = min(notes.partitions(note), partitions[topic])
        found[topic] = max(first, found.get(topic, 0))
    return found


def decide(
    bounds: Mapping[Partition, Bounds],
    *,
    group: str,
    start: Start,
    started: Mapping[str, int],
    young: Collection[str],
) -> Places:
    """Where each partition begins.

    `started` are the topics the group has an offset in, see `begun`. A partition without
    an offset

    - begins at its beginning if it came later, as do the topics in `young`, which came
      into being while this process waited for them;
    - begins where `start` says if it was there then: members that begin together commit
      one after the other, and the first commit must not make the others' history new;
    - likewise if the topic is not started; only that can raise `OffsetsMissing`. In a
      started one `none` means its beginning: the group runs, who said once where it
      begins is not asked again, and of the two answers that one loses nothing.

    `OffsetsMissing`: nobody said where to begin. `OffsetsLost`: retention was faster than
    we.
    """
    places = Places({}, {}, {})
    for (topic, _), bound in bounds.items():
        there = 0 if topic in young else bound.partitions
        places.first[topic] = started.get(topic, there)
    missing: set[str] = set()
    for partition, bound in bounds.items():
        (topic, number), at = partition, bound.committed
        begin = bound.end if start == "latest" else bound.beginning
        if at is None:
            new = topic in young or (topic in started and number >= started[topic])
            if new or (topic in started and start == "none"):
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
