"""A TCP proxy whose way can be cut, swallow, slow down and break off."""

import asyncio
import socket
import struct
from collections.abc import Awaitable
from contextlib import suppress
from typing import Self

__all__ = ["Proxy"]

PACE = 4.0  # bytes a second of a slow answer: no header ends within 30 s
_CHUNK = 65536  # bytes


class Proxy:
    """Leads connections to `target`, for the length of the block."""

    def __init__(self, target: str, listen: str = "127.0.0.1:0") -> None:
        self._target = target
        self._listen = listen
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.connections = 0  # taken so far
        self.broken = 0  # broken off so far
        self.slow = 0  # so many of the next answers come at `PACE` only
        self.break_after: int | None = None  # bytes of the next answer, then RST; once
        self.stale_after: float | None = None  # s idle; the next bytes are answered RST

    async def __aenter__(self) -> Self:
        await self.mend()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._flowing.set()
        await self.cut()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    @property
    def address(self) -> str:
        return self._listen

    async def cut(self) -> None:
        """Reset all connections and refuse new ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in [*self._writers]:
            _reset(writer)

    async def mend(self) -> None:
        """Listen (again), at the same address."""
        host, _, port = self._listen.rpartition(":")
        self._server = await asyncio.start_server(self._serve, host, int(port))
        self._listen = f"{host}:{self._server.sockets[0].getsockname()[1]}"

    def swallow(self) -> None:
        """A black hole: connections stand, nothing comes through, nobody is told."""
        self._flowing.clear()

    def flow(self) -> None:
        """The end of `swallow`; what was on the way arrives."""
        self._flowing.set()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.connections += 1
        self._writers.add(writer)
        await self._flowing.wait()
        host, _, port = self._target.rpartition(":")
        try:
            back, forth = await asyncio.open_connection(host, int(port))
        except OSError:
            self._end(writer)
            return
        self._writers.add(forth)
        idle = _Idle()
        pumps = (self._ask(reader, forth, writer, idle), self._answer(back, writer, idle))
        for pump in pumps:
            task = asyncio.create_task(self._until_broken(pump, writer, forth))
            self._pumps.add(task)
            task.add_done_callback(self._pumps.discard)

    async def _until_broken(
        self, pump: Awaitable[None], *ends: asyncio.StreamWriter
    ) -> None:
        try:
            await pump
        except OSError:
            pass
        finally:
            for end in ends:
                self._end(end)

    async def _ask(
        self,
        reader: asyncio.StreamReader,
        forth: asyncio.StreamWriter,
        writer: asyncio.StreamWriter,
        idle: "_Idle",
    ) -> None:
        while data := await reader.read(_CHUNK):
            if self.stale_after is not None and idle.seconds() > self.stale_after:
                self.broken += 1
                _reset(writer)
                return
            idle.touch()
            await self._flowing.wait()
            forth.write(data)
            await forth.drain()

    async def _answer(
        self, back: asyncio.StreamReader, writer: asyncio.StreamWriter, idle: "_Idle"
    ) -> None:
        while data := await back.read(_CHUNK):
            idle.touch()
            await self._flowing.wait()
            if (most := self.break_after) is not None:
                self.break_after = None
                self.broken += 1
                writer.write(data[:most])
                await writer.drain()
                await asyncio.sleep(0.02)  # let it arrive before the reset does
                _reset(writer)
                return
            if self.slow:
                self.slow -= 1
                for byte in data:
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await asyncio.sleep(1 / PACE)
            else:
                writer.write(data)
                await writer.drain()

    def _end(self, writer: asyncio.StreamWriter) -> None:
        self._writers.discard(writer)
        writer.close()


class _Idle:
    """How long a connection has carried nothing."""

    def __init__(self) -> None:
        self._now = asyncio.get_running_loop().time
        self._at = self._now()

    def seconds(self) -> float:
        return self._now() - self._at

    def touch(self) -> None:
        self._at = self._now()


def _reset(writer: asyncio.StreamWriter) -> None:
    """RST, nothing flushed."""
    peer = writer.get_extra_info("socket")
    with suppress(OSError):  # it is closed already
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
