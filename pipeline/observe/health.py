"""What state the process is in: the one place that /livez, /readyz and the flow ask.

A *halt* means a human must act (bad credential, dead letters cannot be written): the
flow stops consuming, `/readyz` answers 503, and it ends by itself when the cause is
gone. A *wait* means Klaviyo or Kafka is away: nobody must act, `/readyz` stays 200 but
names it.
"""

from typing import Final, Literal, TypeAlias, get_args

import structlog

from pipeline.clock import Clock
from pipeline.observe.metrics import Metrics

__all__ = ["HALTS", "Halt", "Health", "Phase"]

Halt: TypeAlias = Literal[
    "unauthorized",
    "forbidden",
    "revision_retired",
    "needs_authorisation",
    "malformed_flood",
    "dead_letters_unwritable",
]
HALTS: Final[tuple[Halt, ...]] = get_args(Halt)
Phase: TypeAlias = Literal["starting", "running", "draining"]

BEAT_LIMIT: Final = 60.0  # s without a turn of a loop before /livez says so


class Health:
    """Phase, halts, waits and heartbeats of one process."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self.phase: Phase = "starting"
        self._metrics = metrics
        self._clock = clock
        self._log = structlog.get_logger("health")
        self._halts: dict[Halt, str] = {}
        self._waits: dict[str, str] = {}
        self._beats: dict[str, float] = {}
        for reason in HALTS:
            metrics.halted.labels(reason).set(0)

    @property
    def halted(self) -> bool:
        """Whether the flow must stand still."""
        return bool(self._halts)

    @property
    def halts(self) -> dict[Halt, str]:
        """What the flow stands still for: reason, and what to do about it."""
        return dict(self._halts)

    def halt(self, reason: Halt, message: str) -> None:
        """Stand still; `message` says what is wrong and what to do about it."""
        if reason not in self._halts:
            self._log.error("halted", reason=reason, message=message)
        self._halts[reason] = message
        self._metrics.halted.labels(reason).set(1)

    def resume(self, reason: Halt) -> None:
        """The cause is gone; go on if it was the last one."""
        if self._halts.pop(reason, None) is not None:
            self._log.info("resumed", reason=reason)
            self._metrics.halted.labels(reason).set(0)

    def away(self, what: str, message: str) -> None:
        """Klaviyo or Kafka does not answer; one log line per incident."""
        if what not in self._waits:
            self._log.warning("waiting", what=what, message=message)
        self._waits[what] = message

    def back(self, what: str) -> None:
        """It answers again."""
        if self._waits.pop(what, None) is not None:
            self._log.info("back", what=what)

    def forget(self, what: str) -> None:
        """Nobody waits for it any more, be it back or not."""
        self._waits.pop(what, None)

    def beat(self, loop: str) -> None:
        """A loop turned; one that stops beating for `BEAT_LIMIT` s fails /livez."""
        self._beats[loop] = self._clock.monotonic()

    def ended(self, loop: str) -> None:
        """A loop ended on purpose."""
        self._beats.pop(loop, None)

    def stuck(self) -> list[str]:
        """Loops that have not turned for too long."""
        now = self._clock.monotonic()
        return [
            f"{loop} has not turned for {now - at:.0f} s"
            for loop, at in self._beats.items()
            if now - at > BEAT_LIMIT
        ]

    def reasons(self) -> list[str]:
        """Why not ready: phase and halts, in the words an operator acts on."""
        phase = [] if self.phase == "running" else [self.phase]
        return phase + [f"{reason}: {text}" for reason, text in self._halts.items()]

    def waits(self) -> dict[str, str]:
        """What is away, for the body of /readyz."""
        return dict(self._waits)
