"""Carries selected records through the ordinary flow, to their end.

The flow is that of the service. It is stopped when all that was selected has ended, when
the user asks for it, or when something halts it: nobody waits in front of a command.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping

from pipeline.forward.dead_letters import DeadLetters
from pipeline.forward.flood import Flood
from pipeline.forward.plan import Planner
from pipeline.forward.source import Source
from pipeline.kafka.ranges import Ranges, Span
from pipeline.observe.metrics import counted
from pipeline.records import Partition
from pipeline.replay.outcome import Halted, Progress, Summary
from pipeline.replay.reader import Selected, Settled
from pipeline.replay.selection import Selection
from pipeline.replay.tools import Tools
from pipeline.replay.waiting import LOOK, raise_halt
from pipeline.stages import forward, telling

__all__ = ["Carrier"]


class Carrier:
    """Carries for one job, whose `summary` it adds to."""

    def __init__(self, tools: Tools, summary: Summary) -> None:
        self._tools = tools
        self._summary = summary

    async def carry(
        self,
        stage: str,
        ranges: Mapping[Partition, Span],
        selection: Selection,
        planner: Planner,
        letters: DeadLetters,
        settled: Settled,
        done: Mapping[Partition, int] | None = None,
        *,
        brake: bool = True,
    ) -> Selected:
        """Carry the selected records of these spans through the flow, to their end.

        `brake`: halt when almost nothing can be delivered, as the service does.
        """
        settings, health = self._tools.settings, self._tools.health
        sent = None
        if self._tools.dry is None:
            sent = telling(settings, self._tools.producer, self._tools.klaviyo, health)
        flow = forward(
            settings,
            self._tools.klaviyo,
            planner,
            letters,
            health,
            self._tools.metrics,
            sent=sent,
            # What to do then says whoever ends a command that was halted.
            flood=Flood(settings.deliver.malformed_limit if brake else 0, health, ""),
            writes=self._tools.dry is None,
        )
        reader = Selected(
            Ranges(self._tools.kafka, health),
            ranges,
            selection,
            settled=settled,
            done=done or {},
            seen=planner.plan,
            ready=planner.ready,
        )
        if not reader.left:
            return reader
        source = Source(
            reader,
            flow.checkpoint,
            health,
            buffer_records=settings.deliver.buffer_records,
            buffer_bytes=int(settings.deliver.buffer_bytes),
        )
        flow.assigned(dict.fromkeys(ranges, ()))
        before = self._counts()
        stop = asyncio.Event()
        running = asyncio.create_task(flow.run(reader, source, stop))
        tells = asyncio.create_task(sent.run()) if sent else None
        try:
            while not running.done():
                counts = self._counts() - before
                self._progress(stage, reader, counts)
                if (
                    self._tools.stop.is_set()
                    or health.halted
                    or (reader.exhausted and not flow.checkpoint.records)
                ):
                    stop.set()
                if tells is not None and tells.done():
                    tells.result()  # a bug, and no offset is committed without it
                await asyncio.wait({running}, timeout=LOOK)
            running.result()
        finally:
            running.cancel()
            await asyncio.wait({running})
            if tells is not None:
                tells.cancel()
                await asyncio.wait({tells})
            self._add(reader, self._counts() - before, later=stage == "settling")
        if flow.checkpoint.settled():
            raise Halted(
                f"{settings.topics.state} cannot be written, so what was done is not on "
                "record. Check that the topic exists and may be written, then call "
                "again: what is sent twice changes nothing in Klaviyo."
            )
        raise_halt(health)
        if not reader.exhausted or flow.checkpoint.records:
            self._tools.stop.set()
        return reader

    def _progress(self, stage: str, reader: Selected, counts: "Counter[str]") -> None:
        waits = "; ".join(self._tools.health.waits().values())
        read = reader.total - reader.left
        self._tools.report(Progress(stage, read, reader.total, counts.total(), waits))

    def _counts(self) -> "Counter[str]":
        """Give how many records ended how, so far."""
        return counted(self._tools.metrics.records_settled, "result")

    def _add(self, reader: Selected, ends: "Counter[str]", *, later: bool) -> None:
        if not later:
            self._summary.sent += reader.sent
            self._summary.delivered += ends["delivered"]
            self._summary.skipped += ends["skipped"]
            self._summary.dead_lettered += ends["dead_lettered"]
