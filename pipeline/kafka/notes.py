"""What has ended above the committed offset, as the note that is committed with it.

Customers do not wait for each other, so records end out of order: far above the first
open one thousands may be settled. Kafka keeps up to 4,096 characters beside each
committed offset; a bitmap there lets the next owner leave out what has ended.

    1;OFFSET;BITMAP     bit n of the bitmap, deflated, in base 85: OFFSET + n has ended

Without a note, or with one that cannot be read, those records are sent again: harmless
by their unique_ids, only slow. The idea is the offset map of Confluent's parallel
consumer.
"""

import base64
import zlib
from collections.abc import Iterable
from typing import Final

__all__ = ["REACH", "decode", "encode"]

# Offsets a note covers. Bits that do not deflate make 3,750 characters of them, so that
# it fits Kafka's offset.metadata.max.bytes, 4,096 by default.
REACH: Final = 24_000
_VERSION: Final = "1"


def encode(offset: int, ended: Iterable[int]) -> str:
    """The note to commit with `offset`; blank if nothing in reach above it has ended."""
    bits = bytearray(REACH // 8)
    top = -1
    for each in ended:
        n = each - offset
        if 0 <= n < REACH:
            bits[n >> 3] |= 1 << (n & 7)
            top = max(top, n)
    if top < 0:
        return ""
    packed = zlib.compress(bytes(bits[: (top >> 3) + 1]), 1)
    return f"{_VERSION};{offset};{base64.b85encode(packed).decode()}"


def decode(offset: int, note: str) -> frozenset[int]:
    """The offsets that ended; none if the note was not committed with `offset`."""
    version, _, rest = note.partition(";")
    base, _, packed = rest.partition(";")
    if version != _VERSION or base != str(offset):
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
