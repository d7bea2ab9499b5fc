"""A command as its users call it, on a rig's topics."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.flow.rig import Rig

__all__ = ["Ended", "call", "environ", "interrupted", "killed"]


@dataclass
class Ended:
    code: int
    out: str
    err: str


def environ(rig: Rig, **more: str) -> dict[str, str]:
    own = {
        "kafka__bootstrap_servers": rig.bootstrap,
        "kafka__topics": f"{rig.customers},{rig.orders}",
        "kafka__start": "earliest",
        "klaviyo__api_url": rig.sandbox.url,
        "klaviyo__api_key": "pk_test",
        "klaviyo__api_revision": "2026-07-15",
        "profile__default_country": "US",
        "subscription__name": f"test {rig.number}",
        "topics__dead_letters": rig.dead_letters,
        "topics__state": f"state-{rig.number}",
        "deliver__malformed_limit": "1000000",
        "http__port": "0",  # of several at once each needs its own
    } | more
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PIPELINE_")}
    return kept | {f"PIPELINE_{name.upper()}": value for name, value in own.items()}


async def _start(rig: Rig, *arguments: str, **more: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "pipeline",
        *arguments,
        env=environ(rig, **more),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def call(rig: Rig, *arguments: str, **more: str) -> Ended:
    process = await _start(rig, *arguments, **more)
    out, err = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


@asynccontextmanager
async def killed(rig: Rig, *arguments: str) -> AsyncIterator[None]:
    """Run it for the length of the block; kill -9 at its end."""
    process = await _start(rig, *arguments)
    try:
        yield
    finally:
        process.kill()
        await process.communicate()


async def interrupted(
    rig: Rig, number: signal.Signals, accepted: int, *arguments: str
) -> Ended:
    """Signal it once Klaviyo has accepted so many more writes, or it has ended before."""
    before = rig.accepted
    process = await _start(rig, *arguments)
    ending = asyncio.create_task(process.communicate())
    while rig.accepted < before + accepted and not ending.done():
        await asyncio.sleep(0.005)
    if not ending.done():
        process.send_signal(number)
    out, err = await ending
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())
