"""A scenario: one fault, what must hold all the same, and how to bring it about."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from tests.faults.world import World

__all__ = ["SCENARIOS", "NotRun", "Scenario", "fault"]

Play: TypeAlias = Callable[["World"], Awaitable[str]]


class NotRun(Exception):
    """The fault cannot be brought about here; the text says why."""


@dataclass(frozen=True)
class Scenario:
    """`play` returns what was seen, raises AssertionError when the invariant broke."""

    number: int
    name: str
    what: str
    invariant: str
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
