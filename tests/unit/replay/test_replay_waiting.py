"""A command that waits says for whom, and ends what it asked for when it is told to."""

import asyncio

import pytest

from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from pipeline.replay.outcome import Progress
from pipeline.replay.waiting import shown
from tests.virtual_time import LoopClock, virtual


class Asked:
    """Something that takes 2 s, of which Kafka is away for one."""

    def __init__(self) -> None:
        self.health = Health(Metrics(), LoopClock())
        self.told: list[Progress] = []

    async def answer(self) -> int:
        self.health.away("kafka", "no broker answers")
        await asyncio.sleep(1)
        self.health.back("kafka")
        await asyncio.sleep(1)
        return 5


@virtual
async def test_who_is_waited_for_is_told_while_it_lasts() -> None:
    asked = Asked()
    answer = asyncio.create_task(asked.answer())
    await shown(answer, asked.health, asked.told.append, "reading")
    assert answer.result() == 5
    waits = [each.waits for each in asked.told]
    assert waits.count("no broker answers") == pytest.approx(10, abs=1)
    assert waits[-1] == ""


@virtual
async def test_what_nobody_waits_for_any_more_is_ended() -> None:
    asked = Asked()
    answer = asyncio.create_task(asked.answer())
    await shown(
        answer, asked.health, asked.told.append, "reading", lambda: len(asked.told) > 2
    )
    assert answer.cancelled()
