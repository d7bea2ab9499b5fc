"""Commands as their users run them: a process, its output, a browser that answers."""

import asyncio
import os
import re
import sys
from collections.abc import Callable, Mapping
from typing import Self

import aiohttp

from tests.oauth_user import KEY, decide
from tests.ports import free_port

__all__ = ["Command", "oauth_environ"]


def oauth_environ(bootstrap: str, klaviyo: str, **more: str) -> dict[str, str]:
    """Settings of an OAuth app at the sandbox; `more` as SECTION__FIELD."""
    return {
        "PIPELINE_KAFKA__BOOTSTRAP_SERVERS": bootstrap,
        "PIPELINE_KLAVIYO__API_URL": klaviyo,
        "PIPELINE_KLAVIYO__API_REVISION": "2026-07-15",
        "PIPELINE_KLAVIYO__CLIENT_ID": "sandbox",
        "PIPELINE_KLAVIYO__CLIENT_SECRET": "sandbox",
        "PIPELINE_KLAVIYO__REDIRECT_URL": f"http://localhost:{free_port()}/back",
        "PIPELINE_SECRETS__KEY": KEY,
        "PIPELINE_HTTP__PORT": "0",  # of several at once each needs its own
    } | {f"PIPELINE_{name.upper()}": value for name, value in more.items()}


class Command:
    """`klaviyo-pipeline <arguments>` for the length of the block."""

    def __init__(self, environ: Mapping[str, str], *arguments: str) -> None:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("PIPELINE_")}
        self._environ = {**inherited, "PYTHONUNBUFFERED": "1", **environ}
        self._arguments = arguments
        self.output = ""

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "pipeline",
            *self._arguments,
            env=self._environ,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self.ended()

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while chunk := await self._process.stdout.read(4096):
            self.output += chunk.decode(errors="replace")

    def type(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())

    async def ended(self) -> int:
        """Its exit code."""
        code = await self._process.wait()
        await self._reader
        return code

    async def url(self) -> str:
        """The authorize URL that it prints."""
        async with asyncio.timeout(30):
            while not (
                found := re.search(r"http\S+/oauth/authorize\?\S+\s", self.output)
            ):
                assert self._process.returncode is None, self.output
                await asyncio.sleep(0.05)
        return found[0].strip()

    @classmethod
    async def run(cls, environ: Mapping[str, str], *arguments: str) -> tuple[int, str]:
        """Exit code and output."""
        async with cls(environ, *arguments) as command:
            async with asyncio.timeout(60):
                return await command.ended(), command.output

    @classmethod
    async def login(
        cls,
        environ: Mapping[str, str],
        *arguments: str,
        change: Callable[[str], str] = lambda url: url,
    ) -> tuple[int, str]:
        """Login with a browser that allows the access and follows `change(callback)`."""
        async with cls(environ, "login", "--no-browser", *arguments) as command:
            callback = change(await decide(await command.url()))
            async with aiohttp.ClientSession() as browser, browser.get(callback):
                pass
            async with asyncio.timeout(60):
                return await command.ended(), command.output
