"""The account: profiles, events, lists, jobs, and what is still to happen to them."""

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.sandbox.clock import Clock
from pipeline.sandbox.events import Events
from pipeline.sandbox.ids import Ids
from pipeline.sandbox.profile import Profile
from pipeline.sandbox.profiles import Profiles
from pipeline.sandbox.settings import Settings
from pipeline.sandbox.wire import Json

__all__ = ["Import", "List", "State"]

_LOSSES_KEPT = 10_000


@dataclass(slots=True)
class List:
    """A list; times in Unix seconds."""

    id: str
    name: str
    created: int
    updated: int
    opt_in: str
    members: dict[str, int] = field(default_factory=dict)  # profile id: joined at


@dataclass(slots=True)
class Import:
    """A bulk import job; times in Unix seconds."""

    id: str
    total: int
    created: float
    rows: list[Json]
    lists: list[str]
    status: str = "queued"
    completed: int = 0
    failed: int = 0
    started_at: float | None = None
    completed_at: float | None = None
    errors: list[Json] = field(default_factory=list)
    on_complete: Callable[[], None] = lambda: None


class State:
    """Everything the account holds. All changes happen between two awaits."""

    def __init__(self, clock: Clock, settings: Settings, seed: int = 0) -> None:
        """Start with an empty account."""
        self.clock = clock
        self.settings = settings
        self.ids = Ids(clock, seed)
        self.profiles = Profiles(self.ids, self._moved, self._touched)
        self.events = Events(self.ids)
        self.lists: dict[str, List] = {}
        self.imports: dict[str, Import] = {}
        self.deleted: list[str] = []  # ids of profiles erased for privacy
        # By channel and identifier the last subscribe job: when, and to which list.
        self.subscribed: dict[tuple[str, str], tuple[float, str | None]] = {}
        self.repeats = 0  # subscribe jobs against the advice of one in 30 minutes
        self.losses: deque[Json] = deque(maxlen=_LOSSES_KEPT)
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def _moved(self, source: str, target: str) -> None:
        self.events.move(source, target)
        for group in self.lists.values():
            joined = group.members.pop(source, None)
            if joined is not None and target:
                group.members.setdefault(target, joined)

    def _touched(self, profile: Profile) -> None:
        updated = profile.updated

        def listed() -> None:
            profile.listed = max(updated, profile.listed or 0)
            self.profiles.version += 1

        self.later(self.settings.index_delay, listed)

    def later(self, delay: float, act: Callable[[], None]) -> None:
        """Let `act` happen in `delay` seconds; without delay now."""
        if delay <= 0:
            act()
            return
        due = self.clock.monotonic() + delay
        heapq.heappush(self._due, (due, next(self._order), act))

    def catch_up(self) -> None:
        """Let everything happen that is due. Called before each request is served."""
        while self._due and self._due[0][0] <= self.clock.monotonic():
            heapq.heappop(self._due)[2]()

    def lose(self, reason: str, **what: object) -> None:
        """Note something that was accepted and then silently dropped."""
        self.losses.append({"reason": reason, **what})
