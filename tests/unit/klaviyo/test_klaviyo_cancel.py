"""Cancelled at any await, a call leaves slots, gates, roles, connections in order."""

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any

import pytest

from pipeline.klaviyo.call import Accepted
from tests.unit.klaviyo.rig import EVENT, Reply, Rig, document
from tests.virtual_time import run

TIGHT = {"RateLimit-Limit": "1, 1;w=1, 60;w=60", "RateLimit-Remaining": "59"}


class CutAt:
    """Awaits a coroutine, but cancels its own task at the given suspension."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], suspension: int) -> None:
        self._coroutine = coroutine
        self._left = suspension

    def __await__(self) -> Generator[Any, None, Any]:
        error: BaseException | None = None
        while True:
            try:
                if error is None:
                    waits_for = self._coroutine.send(None)
                else:
                    waits_for = self._coroutine.throw(error)
            except StopIteration as stop:
                return stop.value
            task = asyncio.current_task()
            assert task is not None
            if self._left == 0:
                task.cancel()
            self._left -= 1
            error = None
            try:
                yield waits_for
            except BaseException as thrown:  # noqa: BLE001 - handed on
                error = thrown


VICTIM = b'{"data":{"type":"event","id":"victim"}}'
PAUSE = Reply(429, b"", {"Retry-After": "3"})
SCRIPTS: dict[str, list[Reply]] = {  # what the victim's attempts are answered
    "good": [Reply(delay=1)],
    "outage": [Reply(503), Reply(raw=b""), Reply(delay=1000), Reply(502)],
    "closed gate": [Reply(503)] * 7,
    "paused": [PAUSE, PAUSE, Reply(429)],
    "halted": [Reply(401), Reply(401, delay=1), Reply(503), Reply(401)],
    "not allowed": [document(status=403), document(status=403)],
    "tight": [Reply(503, headers=TIGHT)] * 3,
}


async def _send(rig: Rig, body: bytes, *, ready: bool) -> None:
    permit = None
    if ready:
        await rig.client.ready("create_event")
        permit = await rig.client.acquire("create_event")
    assert isinstance(await rig.client.create_event(body, permit), Accepted)


async def _one(script: str, suspension: int, *, ready: bool, warm: bool) -> bool:
    """Whether the call ended before it could be cut."""
    async with Rig(connections=2) as rig:
        if warm:
            await _send(rig, EVENT, ready=False)  # opens the gate
        replies = list(SCRIPTS[script])
        rig.always = lambda seen: (
            replies.pop(0) if replies and seen.body == VICTIM else Reply()
        )

        async def cut() -> None:
            await CutAt(_send(rig, VICTIM, ready=ready), suspension)

        victim = asyncio.create_task(cut())
        await asyncio.sleep(0.001)
        others = [asyncio.create_task(_send(rig, EVENT, ready=False)) for _ in range(3)]
        [end] = await asyncio.gather(victim, return_exceptions=True)
        assert end is None or isinstance(end, asyncio.CancelledError)
        async with asyncio.timeout(120):
            await asyncio.gather(*others)
            await _send(rig, EVENT, ready=True)
        family = rig.limits.family("create_event")
        assert family._in_flight == 0
        assert family._waiting == 0
        assert not family._turn.locked()
        assert family.closed_for() == 0
        assert rig.session._connections._all._value == 2
        assert not rig.session._halts._probing
        assert not rig.health.halted
        assert rig.health.waits() == {}
        return end is None


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("ready", [False, True])
@pytest.mark.parametrize("script", SCRIPTS)
def test_cancelled_at_every_await(
    script: str,
    ready: bool,
    warm: bool,
) -> None:
    suspension = 0
    while not run(_one(script, suspension, ready=ready, warm=warm)):
        suspension += 1
    assert suspension >= len(SCRIPTS[script])  # or nothing was cut
