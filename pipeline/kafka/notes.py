"""The note committed beside an offset: what has ended above it, what was there at first.

Customers do not wait for each other, so records end out of order: far above the first
open one thousands may be settled. Kafka keeps up to 4,096 characters beside each
committed offset; a bitmap there lets the next owner leave out what has ended.

    2;OFFSET;PARTITIONS;BITMAP      bit n of the bitmap, deflated, in base 85:
                                    OFFSET + n has ended; blank if nothing has
    1;OFFSET;BITMAP                 the same where PARTITIONS is 0, or from before it

Without a note, or with one that cannot be read, those records are sent again: harmless
by their unique_ids, only slow. The idea is the offset map of Confluent's parallel
consumer.

PARTITIONS is how many the topic had when the group first began in it, the same beside
each of its offsets: a partition of a higher number came later, and all it holds is new
to the group. 0 if all of them did, or if that is not known.
"""

import base64
import re
import zlib
from collections.abc import Iterable
from typing import Final

__all__ = ["REACH", "decode", "encode", "partitions"]

# Offsets a note covers. Bits that do not deflate make 3,750 characters of them, so that
# it fits Kafka's offset.metadata.max.bytes, 4,096 by default.
REACH: Final = 24_000
_PLAIN: Final = "1"
_COUNTED: Final = "2"
_COUNT: Final = re.compile("[1-9][0-9]{0,9}")  # Kafka numbers them in 31 bits


def encode(offset: int, ended: Iterable[int], partitions: int = 0) -> str:
    """The note to commit with `offset`; blank if it has nothing to say.

    That is when nothing in reach above the offset has ended and `partitions` is 0.
    """
    bits = bytearray(REACH // 8)
    top = -1
    for each in ended:
        n = each - offset
        if 0 <= n < REACH:
            bits[n >> 3] |= 1 << (n & 7)
            top = max(top, n)
    packed = ""
    if top >= 0:
        deflated = zlib.compress(bytes(bits[: (top >> 3) + 1]), 1)
        packed = base64.b85encode(deflated).decode()
    if partitions:
        return f"{_COUNTED};{offset};{partitions};{packed}"
    return f"{_PLAIN};{offset};{packed}" if packed else ""


def partitions(note: str) -> int:
    """How many partitions the topic had when the group first began in it; see above.

    Also if a tool has set another offset and kept the note: that is true all the same.
    """
    return _split(note)[1]


def decode(offset: int, note: str) -> frozenset[int]:
    """The offsets that ended; none if the note was not committed with `offset`."""
    base, _, packed = _split(note)
    if base != str(offset):
        return frozenset()
    try:
        inflate = zlib.decompressobj()
        bits = inflate.decompress(base64.b85decode(packed), REACH // 8)
    except (ValueError, zlib.error):
        return frozenset()
    return frozenset(
        offset + (index << 3) + n
        for index, byte in enumerate(bits)
        if byte
        for n in range(8)
        if byte >> n & 1
    )


def _split(note: str) -> tuple[str, int, str]:
    """Offset, partitions, bitmap; blank and 0 where the note is none of ours."""
    version, _, rest = note.partition(";")
    base, _, packed = rest.partition(";")
    if version == _PLAIN:
        return base, 0, packed
    count, _, packed = packed.partition(";")
    if version == _COUNTED and _COUNT.fullmatch(count):
        return base, int(count), packed
    return "", 0, ""
