"""How much of an account's quota a process takes, over all operations.

Live changes come before what is sent again. That is another process, which takes only
what is spare of the steady window (`Limits(spare=True)`), and of the burst window a part
that the live service leaves it: enough for either, as a minute's calls are far fewer than
sixty seconds' bursts.

Profiles are read in both directions: by the one process that polls, and by all that look
up consent or what has arrived. Neither knows how much the other wants, so a part is fixed
for each, and it is the same whether they are in one process or in several.

Each operation's own bounds are in family.py.
"""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from pipeline.clock import Clock
from pipeline.klaviyo.family import BURST, STEADY, Ceiling, Family
from pipeline.klaviyo.portion import Portion
from pipeline.klaviyo.quotas import QUOTAS

__all__ = ["BESIDE", "LIVE", "POLLER", "Limits"]

LIVE: Final = 0.8  # of a burst window, for the live service; the rest is for replays
_POLLED: Final = 1 / 3  # 250 calls a minute: a page each 0.24 s, and one takes 0.6 s
POLLER: Final = {"get_profiles": _POLLED}  # parts of quotas, for who polls
BESIDE: Final = {"get_profiles": 1 - _POLLED}  # and for all others, if somebody polls
FIRST: Final = frozenset({"create_event", "bulk_create_events"})  # under a ceiling


class Limits:
    """All families of one credential."""

    def __init__(
        self,
        clock: Clock,
        chance: Callable[[], float],
        *,
        share: float = 1.0,
        ceiling: Ceiling | None = None,
        spare: bool = False,
        parts: Mapping[str, float] = {},
    ) -> None:
        """Take a `share` in (0, 1] of the account's quota; `chance` draws from [0, 1).

        `parts`: by operation, what is ours of that share; all, where it says nothing.
        `spare`: a live service comes first, this takes only what that one leaves.
        """
        self._clock = clock
        self._chance = chance
        self._portions: tuple[Portion, ...] = (Portion(share),)
        self._ceiling = ceiling
        self._spare = spare
        self._parts = parts
        self._families: dict[str, Family] = {}

    def family(self, operation: str) -> Family:
        """Return the family of an operation of `QUOTAS`; KeyError for any other."""
        found = self._families.get(operation)
        if found is None:
            found = self._families[operation] = Family(
                QUOTAS[operation],
                self._clock,
                portions=self._of(operation),
                ceiling=self._ceiling,
                chance=self._chance,
                wake_all=self._wake_all,
                burst=1 - LIVE if self._spare else LIVE,
                spare=self._spare,
                first=operation in FIRST,
            )
        return found

    def set_share(self, *portions: Portion) -> None:
        """Use another part of quota and ceiling: as much of them as each of these has.

        A larger share must be given only when the calls of whoever had it before are a
        steady window (60 s) old.
        """
        self._portions = portions
        if self._ceiling is not None:
            self._ceiling.set_share(*portions)
        for operation, family in self._families.items():
            family.set_share(*self._of(operation))

    def quotas(self) -> dict[str, tuple[int, int]]:
        """Return calls per second and per minute by operation, as the account has them.

        Of the operations used so far; announced if an answer said so, else the seed.
        """
        return {
            operation: (family.limits[BURST], family.limits[STEADY])
            for operation, family in self._families.items()
        }

    def _of(self, operation: str) -> tuple[Portion, ...]:
        part = self._parts.get(operation, 1.0)
        return tuple(
            msgspec.structs.replace(portion, whole=portion.whole * part)
            for portion in self._portions
        )

    def _wake_all(self) -> None:
        for family in sorted(self._families.values(), key=lambda each: not each.first):
            family.wake()
