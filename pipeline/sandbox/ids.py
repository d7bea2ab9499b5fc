"""Identifiers as Klaviyo makes them: ULIDs, short codes, UUIDs."""

import random
import uuid

from pipeline.sandbox.clock import Clock

__all__ = ["Ids"]

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [a + b for a in _CROCKFORD for b in _CROCKFORD]
_SHORT = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"


class Ids:
    """A source of identifiers; the same seed and clock give the same ones."""

    def __init__(self, clock: Clock, seed: int = 0) -> None:
        """Draw from a generator seeded with `seed`."""
        self._clock = clock
        self._random = random.Random(seed)  # noqa: S311 - test data, not secrets

    def ulid(self) -> str:
        """Return a new ULID: 26 characters, sorted by the millisecond it was made."""
        value = int(self._clock.now() * 1000) << 80 | self._random.getrandbits(80)
        return "".join([_PAIRS[value >> shift & 1023] for shift in range(120, -1, -10)])

    def short(self) -> str:
        """Return six characters, as lists and metrics have."""
        return "".join(self._random.choices(_SHORT, k=6))

    def uuid(self) -> str:
        """Return a random UUID."""
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))
