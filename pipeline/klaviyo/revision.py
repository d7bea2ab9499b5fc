"""Which revision of the API is asked for, and which one Klaviyo really serves.

A revision is stable for one year, deprecated for another, then retired: a retired one is
answered by the next oldest that lives ("falls forward"), or with 410 if the call opts
out. Every answer names the revision that served it in X-Klaviyo-Api-Revision. Source:
Klaviyo, "API versioning and deprecation policy".
"""

import datetime as dt
import re
from typing import Final, Literal, TypeAlias

import structlog

from pipeline.clock import Clock
from pipeline.observe.metrics import Metrics

__all__ = ["NEWEST", "RELEASED", "Revision", "Stage"]

Stage: TypeAlias = Literal["stable", "deprecated", "retired"]

RELEASED: Final = (
    "2023-10-15",
    "2023-12-15",
    "2024-02-15",
    "2024-05-15",
    "2024-06-15",
    "2024-07-15",
    "2024-10-15",
    "2025-01-15",
    "2025-04-15",
    "2025-07-15",
    "2025-10-15",
    "2026-01-15",
    "2026-04-15",
    "2026-07-15",
    "2026-10-15",
)
NEWEST: Final = RELEASED[-1]
MILESTONES: Final = (12, 18, 23)  # months of a life of 24 at which we speak up
_LOOK: Final = 3600.0  # s between looks at the calendar
_FORM: Final = re.compile(r"\d{4}-\d{2}-\d{2}(\.pre)?")


class Revision:
    """The revision asked for and the one served; speaks up once when they differ."""

    def __init__(
        self, asked: str, *, strict: bool, metrics: Metrics, clock: Clock
    ) -> None:
        """`strict` rather halts than falls forward."""
        self.asked = asked
        self.strict = strict
        self.known = False  # whether an answer has said what is served
        self._metrics = metrics
        self._clock = clock
        self._log = structlog.get_logger("revision")
        self._header = ""
        self._warned: set[str] = set()
        self._served = self._expected()
        self._looked = float("-inf")  # Unix s
        self._reached = 0  # the milestone that was spoken of

    @property
    def served(self) -> str:
        """What the last answer said; before the first one what the policy leads to."""
        return self._served

    def stage(self, revision: str) -> Stage:
        """Return where in its life a revision is today."""
        today = self._today()
        if today < _years_after(revision, 1):
            return "stable"
        return "deprecated" if today < self.retires(revision) else "retired"

    def retires(self, revision: str) -> str:
        """Return the day, YYYY-MM-DD, from which a revision is not served any more."""
        return _years_after(revision, 2)

    def milestone(self, revision: str) -> int:
        """Return the last of `MILESTONES` that a revision has passed, 0 before them."""
        today = self._today()
        passed = [m for m in MILESTONES if today >= _months_after(revision, m)]
        return passed[-1] if passed else 0

    def observe(self, header: str | None) -> None:
        """Take in the X-Klaviyo-Api-Revision of an answer."""
        self._watch()
        if header is None or header == self._header:
            return
        self._header = header
        if not _FORM.fullmatch(header):  # not to become a label or a decision
            return
        if header != self._served and self.known:
            self._metrics.served_revision.remove(self._served)
        self._metrics.served_revision.labels(header).set(1)
        changed = self.known and header != self._served
        self._served, self.known = header, True
        if (changed or header != self.asked) and header not in self._warned:
            self._warned.add(header)
            self._log.warning(
                "another revision is served than asked for"
                if header != self.asked
                else "the revision asked for is served again",
                asked=self.asked,
                served=header,
                stage=self.stage(self.asked),
                advice=f"set klaviyo.api_revision; {NEWEST} is the newest we know",
            )

    def _watch(self) -> None:
        """Say, as the months pass, that the revision asked for nears its end."""
        now = self._clock.now()
        if now - self._looked < _LOOK:
            return
        self._looked = now
        if self.asked.endswith(".pre"):  # its end is not announced
            return
        retires = self.retires(self.asked)
        end = dt.datetime.fromisoformat(retires).replace(tzinfo=dt.UTC)
        self._metrics.revision_retires.set(end.timestamp())
        reached = self.milestone(self.asked)
        if reached > self._reached and self.stage(self.asked) != "retired":
            self._log.warning(
                "the revision asked for nears its end",
                asked=self.asked,
                months_old=reached,
                retires=retires,
                advice=f"set klaviyo.api_revision; {NEWEST} is the newest we know",
            )
        self._reached = reached

    def _expected(self) -> str:
        if self.strict or self.asked not in RELEASED:
            return self.asked
        alive = (
            each
            for each in RELEASED
            if each >= self.asked and self.stage(each) != "retired"
        )
        return next(alive, NEWEST)

    def _today(self) -> str:
        return dt.datetime.fromtimestamp(self._clock.now(), dt.UTC).date().isoformat()


def _years_after(revision: str, years: int) -> str:
    return _months_after(revision, 12 * years)


def _months_after(revision: str, months: int) -> str:
    """Compared as text, so that a 30th of February does no harm."""
    year, month = divmod(int(revision[:4]) * 12 + int(revision[5:7]) - 1 + months, 12)
    return f"{year}-{month + 1:02}{revision[7:10]}"
