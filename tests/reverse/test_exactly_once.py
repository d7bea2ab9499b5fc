"""Exactly once, whatever dies when: what a reader of committed records sees."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.sandbox.profile import Profile
from tests.flow.rig import until
from tests.reverse.dying import PHASES
from tests.reverse.rig import Reverse, Said

# In each phase of one transaction after the other: 20 are all of the first four.
DEATHS = int(os.environ.get("REVERSE_DEATHS", "10"))

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(900)]


class Editor:
    """A marketer who never stops, and who knows what must come back."""

    def __init__(self, back: Reverse, count: int) -> None:
        self.people = [back.make(f"p{number}") for number in range(count)]
        self.made: dict[str, list[str]] = {p.id: [] for p in self.people}
        self._back = back

    def edit(self, profile: Profile, text: str) -> None:
        self._back.edit(profile, title=text)
        self.made[profile.id].append(text)

    def ledger(self, found: list[Said]) -> str:
        """Check that nothing is missing, twice, or out of order; say it in one line."""
        by = self._back.once(found)
        previous = lost = 0
        for profile in self.people:
            said = by[profile.id]
            assert said[0].kind == "created"
            now = said[0].value["profile"].get("title")
            for each in said[1:]:
                # Each message goes on where the one before it ended.
                assert each.value["previous"]["title"] == now
                now = each.value["profile"]["title"]
                previous += 1
            if self.made[profile.id]:
                lost += now != self.made[profile.id][-1]
        assert lost == 0
        return f"{len(found)} messages, {previous} edits in unbroken chains, 0 lost"


async def test_a_death_in_every_phase(back: Reverse, say: Callable[[str], None]) -> None:
    editor = Editor(back, 250)
    deaths = 0
    for number in (1, 3, 2, 4)[: DEATHS // len(PHASES)]:
        for phase in PHASES:
            service = back.dying(f"{phase}:{number}")
            await service.start()
            editing = asyncio.create_task(edits(editor, f"{phase}{number}"))
            code = await asyncio.wait_for(service.wait(), 60)
            editing.cancel()
            await asyncio.gather(editing, return_exceptions=True)
            assert code == -signal.SIGKILL, service.output
            deaths += 1
    async with back.service() as service:
        await back.next_second()
        for profile in editor.people:
            editor.edit(profile, "last")
        await until_last(back, editor)
        assert await service.terminate() == 0
    say(f"after {deaths} deaths: {editor.ledger(await back.read())}")


async def test_a_zombie_that_wakes_in_its_transaction(
    back: Reverse, say: Callable[[str], None]
) -> None:
    editor = Editor(back, 250)
    zombie = back.dying("sent:2", by="STOP")
    await zombie.start()
    status = Path(f"/proc/{zombie.pid}/status")
    await until(lambda: "State:\tT" in status.read_text(), what="it sleeps", within=60)
    async with back.service() as other:
        await back.wait(250, within=60)
        await back.next_second()
        for profile in editor.people:
            editor.edit(profile, "while it slept")
        await until_last(back, editor)
        zombie.signal(signal.SIGCONT)
        await back.next_second()
        for profile in editor.people:
            editor.edit(profile, "last")
        await until_last(back, editor)
        await until(lambda: "standby" in zombie.output, what="it has noticed")
        assert zombie.running
        # The one that is left takes over.
        assert await other.terminate() == 0
        await back.next_second()
        for profile in editor.people:
            editor.edit(profile, "after all")
        await until_last(back, editor)
    assert await zombie.terminate() == 0
    say(f"zombie woken: {editor.ledger(await back.read())}")


async def test_two_at_once(back: Reverse, say: Callable[[str], None]) -> None:
    editor = Editor(back, 120)
    async with back.service() as one, back.service() as other:
        await edits(editor, "x", 240)
        await back.next_second()
        for profile in editor.people:
            editor.edit(profile, "last")
        await until_last(back, editor)
        assert await one.terminate() == 0
        assert await other.terminate() == 0
    say(f"two at once: {editor.ledger(await back.read())}")


async def edits(editor: Editor, text: str, count: int = 10_000) -> None:
    for number in range(count):
        await asyncio.sleep(0.05)  # 20 a second: some in each poll
        profile = editor.people[number * 7 % len(editor.people)]
        editor.edit(profile, f"{text} {number}")


async def until_last(back: Reverse, editor: Editor) -> None:
    async with asyncio.timeout(60):
        while True:
            by: dict[str, str | None] = {}
            for each in await back.read():
                by[each.who] = each.value["profile"].get("title")
            if all(by.get(p.id) == editor.made[p.id][-1] for p in editor.people):
                return
            await asyncio.sleep(0.3)
