"""A sandbox whose time stands still, and a way to ask it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from io import BytesIO
from typing import Any

import orjson
import pytest
from aiohttp import ClientSession

from pipeline.sandbox import HeldClock, Sandbox

Ask = Callable[..., Awaitable[tuple[int, Any, Mapping[str, str]]]]


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
async def sandbox(clock: HeldClock) -> AsyncIterator[Sandbox]:
    async def sleep(seconds: float) -> None:
        clock.advance(seconds)
        await asyncio.sleep(0)

    async with Sandbox(clock=clock, sleep=sleep) as running:
        yield running


@pytest.fixture
async def ask(sandbox: Sandbox) -> AsyncIterator[Ask]:
    """`await ask("POST", path, body, revision=...)` gives status, JSON and headers."""
    async with ClientSession() as session:

        async def call(
            method: str,
            path: str,
            body: object = None,
            *,
            revision: str | None = "2026-07-15",
            headers: Mapping[str, str] | None = None,
        ) -> tuple[int, Any, Mapping[str, str]]:
            sent = {
                "Authorization": "Klaviyo-API-Key pk_test",
                "Content-Type": "application/vnd.api+json",
                **({} if revision is None else {"revision": revision}),
                **(headers or {}),
            }
            data = body if isinstance(body, bytes) else orjson.dumps(body)
            async with session.request(
                method,
                sandbox.url + path,
                data=None if body is None else BytesIO(data),
                headers={name: value for name, value in sent.items() if value},
            ) as response:
                raw = await response.read()
                return (
                    response.status,
                    orjson.loads(raw) if raw else None,
                    response.headers,
                )

        yield call
