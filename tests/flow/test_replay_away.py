"""Kafka goes away while a command reads the dead letters that are there already."""

import asyncio

import pytest

from pipeline.demo.broker import Broker
from pipeline.kafka import ranges
from pipeline.replay.letters import Marks
from pipeline.replay.outcome import Progress
from pipeline.replay.selection import Everything
from pipeline.replay.spans import Asked
from pipeline.replay.start import opened
from pipeline.sandbox import Sandbox
from pipeline.settings import load
from tests.flow.cli import environ
from tests.flow.resend import named
from tests.flow.rig import Rig


async def test_it_is_waited_for_visibly_and_can_be_interrupted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ranges, "SILENCE", 0.5)
    read, stop = Marks.load, asyncio.Event()

    def report(progress: Progress) -> None:
        if "no broker answers" in progress.waits:
            stop.set()

    async with Sandbox() as sandbox:
        with Broker() as broker:
            rig = Rig(broker.address, sandbox)
            broker.create([rig.customers, rig.orders])
            await rig.send([named(1)])
            own = {"kafka__topics": rig.orders, "topics__dead_letters": rig.customers}
            settings = load(None, environ(rig, **own))

            async def then_away(marks: Marks) -> None:
                await read(marks)
                broker.__exit__(None, None, None)

            monkeypatch.setattr(Marks, "load", then_away)
            async with opened(settings, report=report, stop=stop) as job:
                async with asyncio.timeout(15):
                    ended = await job.replay([Asked(rig.customers)], Everything(), "all")
        assert ended.interrupted
