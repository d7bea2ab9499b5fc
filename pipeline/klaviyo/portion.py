"""Part of an account's quota in whole calls, so that all replicas' parts add up to it.

A quarter of 150 calls is 37.5. Were each of four replicas to round that for itself, two
calls of each window would be nobody's, or everybody's. So a quota is laid out once over
all partitions, in their order, and a call belongs to the partition it begins in.
"""

from typing import Final

import msgspec

__all__ = ["Portion"]

_EXACT: Final = 1e-9  # a third of 3 is 1, whatever floats make of it


class Portion(msgspec.Struct, frozen=True):
    """`whole` of a quota in (0, 1], and of that these `pieces` of `of` equal ones."""

    whole: float
    pieces: tuple[int, ...] = (0,)
    of: int = 1

    @property
    def size(self) -> float:
        """Part of the account's quota, in (0, 1]."""
        return self.whole * len(self.pieces) / self.of

    def calls(self, calls: float) -> int:
        """Return how many of the account's calls are ours."""
        each = calls * self.whole / self.of
        return sum(
            int(each * (piece + 1) + _EXACT) - int(each * piece + _EXACT)
            for piece in self.pieces
        )
