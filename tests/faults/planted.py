"""The program, with a fault planted in the libraries under it; its own code is as built.

`PLANT_FILE` names a file of JSON that is read again and again:

    clock   seconds by which the wall clock is ahead of the true one
    dns     what every name resolves to; "refused", or "silent" for 15 s
    block   [number, seconds]: each new number blocks the event loop once so long

Beside it, in `<file>.tasks`, stand, each second anew, how many tasks the loop has, and
how many objects were made since the garbage collector last looked for cycles.

`PLANT_DEATH` is `moment:n`: SIGKILL to itself the n-th time it comes to that moment.
"""

import asyncio
import gc
import itertools
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import uvloop
from aiohttp.resolver import ThreadedResolver
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

MOMENTS = ("send", "sent", "answered", "letter", "lettered", "commit", "committed")

RESOLVING = 15.0  # s until a resolver gives up; some take longer, none for ever

_true_time = time.time
_planted: dict[str, Any] = {}
_loop: list[asyncio.AbstractEventLoop] = []


def _watch(file: Path) -> None:
    blocked = 0
    for turn in itertools.count():
        with suppress(OSError, ValueError):  # not there yet, or half written
            _planted.update(json.loads(file.read_text()))
        number, seconds = _planted.get("block", (0, 0))
        if number > blocked and _loop:
            blocked = number
            _loop[0].call_soon_threadsafe(time.sleep, seconds)
        if _loop and turn % 20 == 0:
            _loop[0].call_soon_threadsafe(_count, file.with_suffix(".tasks"))
        time.sleep(0.05)


def _count(file: Path) -> None:
    fresh = file.with_suffix(".counting")
    fresh.write_text(f"{len(asyncio.all_tasks())} {gc.get_count()[0]}")
    fresh.replace(file)


def _clock() -> None:
    time.time = lambda: _true_time() + float(_planted.get("clock", 0))


def _names() -> None:
    resolve = ThreadedResolver.resolve

    async def planted(
        self: ThreadedResolver,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_INET,
    ) -> Any:
        match _planted.get("dns"):
            case None:
                return await resolve(self, host, port, family)
            case "refused":
                raise OSError(socket.EAI_NONAME, "Name or service not known")
            case "silent":
                await asyncio.sleep(RESOLVING)
                raise OSError(socket.EAI_AGAIN, "Temporary failure in name resolution")
            case address:
                return await resolve(self, str(address), port, family)

    ThreadedResolver.resolve = planted  # type: ignore[method-assign]


def _deaths(moment: str, left: int) -> None:
    count = {"left": left}

    def at(here: str) -> None:
        if here == moment:
            count["left"] -= 1
            if count["left"] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    request = aiohttp.ClientSession._request
    send, commit = AIOKafkaProducer.send, AIOKafkaConsumer.commit

    async def sending(self: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        if method != "POST":
            return await request(self, method, *args, **kwargs)
        at("send")
        under_way = asyncio.ensure_future(request(self, method, *args, **kwargs))
        if moment == "sent":
            await asyncio.wait([under_way], timeout=0.01)
            at("sent")
        answer = await under_way
        at("answered")
        return answer

    async def writing(self: Any, *args: Any, **kwargs: Any) -> Any:
        at("letter")
        written = await send(self, *args, **kwargs)
        written.add_done_callback(lambda _: at("lettered"))
        return written

    async def committing(self: Any, *args: Any, **kwargs: Any) -> None:
        at("commit")
        await commit(self, *args, **kwargs)
        at("committed")

    aiohttp.ClientSession._request = sending  # type: ignore[method-assign]
    AIOKafkaProducer.send = writing
    AIOKafkaConsumer.commit = committing


def _run(main: Coroutine[Any, Any, None]) -> None:
    async def with_loop() -> None:
        _loop.append(asyncio.get_running_loop())
        await main

    _uvloop_run(with_loop())


_uvloop_run: Callable[..., None] = uvloop.run


def plant() -> None:
    if file := os.environ.get("PLANT_FILE"):
        _clock()
        _names()
        uvloop.run = _run  # type: ignore[assignment]  # as app.run calls it
        threading.Thread(target=_watch, args=(Path(file),), daemon=True).start()
    if death := os.environ.get("PLANT_DEATH"):
        moment, _, number = death.partition(":")
        _deaths(moment, int(number))


if __name__ == "__main__":
    plant()  # before the program is imported: it keeps time.time
    from pipeline.cli import main

    sys.exit(main())
