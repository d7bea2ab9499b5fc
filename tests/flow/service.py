"""The built program as its users run it: a process with an environment, signals, HTTP."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import Mapping
from typing import Self

import aiohttp

from tests.ports import free_port

__all__ = ["Service"]


class Service:
    """`klaviyo-pipeline run` against a broker and a Klaviyo, under a test's control."""

    module = "pipeline"
    command: tuple[str, ...] = ("run",)

    def __init__(self, bootstrap: str, klaviyo: str, **more: str) -> None:
        self.port = free_port()
        self.output = ""
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._environ = {
            "PIPELINE_KAFKA__BOOTSTRAP_SERVERS": bootstrap,
            "PIPELINE_KAFKA__START": "earliest",
            "PIPELINE_KAFKA__SESSION_TIMEOUT": "6",
            "PIPELINE_KLAVIYO__API_URL": klaviyo,
            "PIPELINE_KLAVIYO__API_KEY": "pk_test",
            "PIPELINE_KLAVIYO__API_REVISION": "2026-07-15",
            "PIPELINE_PROFILE__DEFAULT_COUNTRY": "US",
            "PIPELINE_HTTP__HOST": "127.0.0.1",
            "PIPELINE_HTTP__PORT": str(self.port),
            "PIPELINE_LOG__FORMAT": "json",
        } | {f"PIPELINE_{name.upper()}": value for name, value in more.items()}

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.running:
            await self.kill()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start it; returns at once."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("PIPELINE_")}
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            self.module,
            *self.command,
            env=inherited | self._environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self._reader = asyncio.create_task(self._read(self._process))

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            self.output += line.decode(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def wait(self) -> int:
        """Its exit code, once it has ended."""
        assert self._process is not None
        assert self._reader is not None
        code = await self._process.wait()
        await self._reader
        return code

    async def kill(self) -> None:
        """kill -9."""
        self.signal(signal.SIGKILL)
        await self.wait()

    async def terminate(self) -> int:
        """SIGTERM, as Kubernetes does; its exit code."""
        self.signal(signal.SIGTERM)
        return await self.wait()

    async def get(self, path: str) -> tuple[int, str]:
        """A page of its HTTP server: status and text; (0, "") when nobody listens."""
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{self.port}{path}") as answer,
            ):
                return answer.status, await answer.text()
        except aiohttp.ClientConnectionError:
            return 0, ""

    async def metric(self, name: str, labels: Mapping[str, str] | None = None) -> float:
        """The sum of a metric's samples that have these labels."""
        status, text = await self.get("/metrics")
        known = f"# TYPE klaviyo_pipeline_{name.removesuffix('_total')}"
        assert not status or known in text, name
        total = 0.0
        for line in text.splitlines():
            found = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
            if found is None or found[1] != f"klaviyo_pipeline_{name}":
                continue
            have = dict(re.findall(r'(\w+)="([^"]*)"', found[2] or ""))
            if (labels or {}).items() <= have.items():
                total += float(found[3])
        return total
