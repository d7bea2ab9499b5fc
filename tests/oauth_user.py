"""The user in front of the sandbox's authorize page, and a place to keep tokens."""

import asyncio
from typing import Literal
from urllib.parse import parse_qsl, urlsplit

import aiohttp

__all__ = ["KEY", "OTHER_KEY", "MemoryStore", "decide"]

KEY = "MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA="
OTHER_KEY = "MTExMTExMTExMTExMTExMTExMTExMTExMTExMTExMTE="


async def decide(url: str, decision: Literal["approve", "deny"] = "approve") -> str:
    """Open the authorize URL, press the button; the URL the browser is sent back to."""
    parts = urlsplit(url)
    form = dict(parse_qsl(parts.query)) | {"decision": decision}
    async with aiohttp.ClientSession() as session:
        async with session.get(url) as page:
            assert page.status == 200, await page.text()
        place = f"{parts.scheme}://{parts.netloc}{parts.path}"
        async with session.post(place, data=form, allow_redirects=False) as answer:
            assert answer.status == 302, await answer.text()
            return answer.headers["Location"]


class MemoryStore:
    """As the state topic: one order of writes for all; each takes a turn of the loop."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.written: list[tuple[str, bytes | None]] = []
        self.fails: Exception | None = None

    async def load(self) -> dict[str, bytes]:
        await asyncio.sleep(0.01)
        found = dict(self.values)
        await asyncio.sleep(0.01)
        return found

    async def put(self, key: str, value: bytes | None) -> None:
        await asyncio.sleep(0.01)
        if self.fails is not None:
            raise self.fails
        self.written.append((key, value))
        if value is None:
            self.values.pop(key, None)
        else:
            self.values[key] = value
        await asyncio.sleep(0.01)
