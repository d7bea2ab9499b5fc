"""A scenario: one fault, what must hold all the same, and how to bring it about."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from tests.faults.world import World

__all__ = ["INVARIANTS", "SCENARIOS", "NotRun", "Scenario", "fault"]

INVARIANTS: Final = {
    "I1": "no gap: below a committed offset all is delivered, dead-lettered or skipped",
    "I2": "order: of one customer there is one request in flight, in the topic's order",
    "I3": "quota: all replicas together stay within Klaviyo's windows",
    "I4": "repeats: a crash sends again what was not committed, under the same unique_id",
    "I5": "dead letters: no commit because of one that the broker has not acknowledged",
    "I6": "stop: from SIGTERM to the exit within the grace period, whatever is down",
    "I7": "memory: bounded, whatever the lag and whatever the sizes",
    "I8": "back: every change is published, the cursor passes none, our writes stay out",
    "I9": "progress: once the fault is over, work goes on without a human",
}

Play: TypeAlias = Callable[["World"], Awaitable[str]]


class NotRun(Exception):
    """The fault cannot be brought about here; the text says why."""


@dataclass(frozen=True)
class Scenario:
    """`play` returns what was seen, raises AssertionError when the invariant broke."""

    number: int
    name: str
    what: str
    invariant: str  # in words, or keys of INVARIANTS
    play: Play
    quick: bool = False  # also one of `make test`


SCENARIOS: Final[dict[int, Scenario]] = {}
"""By the number of the fault."""


def fault(
    number: int, what: str, invariant: str, *, quick: bool = False
) -> Callable[[Play], Play]:
    """Enter a scenario under its number; its name is that of the function."""

    def enter(play: Play) -> Play:
        assert number not in SCENARIOS, f"two scenarios of number {number}"
        name = getattr(play, "__name__", "").replace("_", "-")
        SCENARIOS[number] = Scenario(number, name, what, invariant, play, quick)
        return play

    return enter
