"""What a replay tells: how far it is, what came of it, why it cannot go on."""

from collections.abc import Callable
from typing import ClassVar

import msgspec

from pipeline.errors import PipelineError

__all__ = ["Dry", "Halted", "Progress", "Refused", "Summary"]


class Halted(PipelineError):
    """Something stands in the way that a human must mend; the next call goes on."""


class Refused(PipelineError):
    """Klaviyo refuses the credential."""

    exit_code: ClassVar[int] = 3


class Dry(msgspec.Struct, frozen=True):
    """Send nothing; `show` gets each request, `compare` what a profile would change."""

    show: Callable[[str], None]
    compare: bool = False


class Progress(msgspec.Struct, frozen=True):
    """How far it is, in offsets of the range; `waits` names who is away, and why."""

    stage: str
    read: int
    total: int
    settled: int
    waits: str


class Summary(msgspec.Struct):
    """What came of it. `sent` are records; the counts are their ends."""

    sent: int = 0
    delivered: int = 0
    skipped: int = 0
    dead_lettered: int = 0
    there: int = 0  # of the dead-lettered: not written, as they are letters already
    later: int = 0  # records sent once more so that the newest wins
    cut: int = 0  # dead letters whose value was too large to be kept
    resumed: bool = False
    interrupted: bool = False

    def left(self, count: int) -> None:
        """So many ended at once, as the dead letters they are already."""
        self.sent += count
        self.dead_lettered += count
        self.there += count
