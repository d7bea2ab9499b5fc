"""Waits for Klaviyo as a command does: visibly, until it is halted or interrupted.

The service stays and resumes by itself; whoever called a command must mend it and call
again, and the exit code says what.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from pipeline.observe.health import Health
from pipeline.replay.outcome import Halted, Progress, Refused

__all__ = ["LOOK", "connecting", "raise_halt", "shown"]

LOOK: Final = 0.1  # s between two looks at how far it is
T = TypeVar("T")


async def connecting(
    asked: Coroutine[Any, Any, T],
    health: Health,
    stop: asyncio.Event,
    report: Callable[[Progress], None],
) -> T | None:
    """Give the answer; None when `stop` was set before. Raises as `raise_halt`."""
    asking = asyncio.create_task(asked)
    await shown(
        asking, health, report, "connecting", lambda: health.halted or stop.is_set()
    )
    raise_halt(health)
    return None if asking.cancelled() else asking.result()


async def shown(
    asking: "asyncio.Task[Any]",
    health: Health,
    report: Callable[[Progress], None],
    stage: str,
    enough: Callable[[], bool] = lambda: False,
) -> None:
    """Report who is waited for until the task has ended; ends it when `enough`."""
    try:
        while not (asking.done() or enough()):
            waits = "; ".join(health.waits().values())
            report(Progress(stage, 0, 0, 0, waits))
            await asyncio.wait({asking}, timeout=LOOK)
    finally:
        asking.cancel()
        await asyncio.wait({asking})


def raise_halt(health: Health) -> None:
    """Raise `Refused` or `Halted` if something must be mended first."""
    for reason, message in health.halts.items():
        text = f"{message}. Then call again: it goes on where it stopped."
        if reason in {"unauthorized", "forbidden", "needs_authorisation"}:
            raise Refused(text)
        raise Halted(text)
