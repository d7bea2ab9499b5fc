"""The way to Klaviyo as the settings describe it."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from pipeline.access import SPREAD, connect
from pipeline.app import App, Only
from pipeline.clock import SYSTEM
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from pipeline.settings import Klaviyo, Reverse, Settings
from tests.virtual_time import virtual


@pytest.mark.parametrize(
    ("enabled", "reverse", "spare", "calls"),
    [
        (True, True, False, 250),
        (True, False, False, 500),
        (False, False, False, 750),
        (True, False, True, 750),
    ],
)
async def test_the_two_directions_have_parts_of_the_reads_of_profiles(
    *, enabled: bool, reverse: bool, spare: bool, calls: int
) -> None:
    settings = Settings(
        klaviyo=Klaviyo(api_key=SecretStr("pk_test")), reverse=Reverse(enabled=enabled)
    )
    metrics = Metrics()
    health = Health(metrics, SYSTEM)
    async with connect(settings, health, metrics, reverse=reverse, spare=spare) as client:
        family = client._limits.family("get_profiles")
        assert [window.limit for window in family._windows.values()][1] == calls


class _Idle:
    """A producer that has nothing to do."""

    def __init__(self, **_: object) -> None: ...
    async def start(self) -> None: ...
    async def stop(self) -> None: ...


def _unsent(
    accounts: Callable[[], Awaitable[Any]],
) -> Callable[..., AbstractAsyncContextManager[Any]]:
    """A way to Klaviyo that ends where the account is asked for."""

    @asynccontextmanager
    async def connect(*_: object, **__: object) -> AsyncIterator[SimpleNamespace]:
        yield SimpleNamespace(accounts=accounts)

    return connect


@pytest.mark.parametrize("only", ["forward", "reverse"])
@virtual
async def test_services_that_start_together_ask_for_the_account_one_by_one(
    only: Only, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Klaviyo tells it once a second; a moment of one's own makes a 429 unlikely."""
    asked: list[float] = []

    async def started(*_: object, **__: object) -> Any:
        asked.append(asyncio.get_running_loop().time())
        raise asyncio.CancelledError  # the rest of the start is not looked at

    monkeypatch.setattr("pipeline.app.connect", _unsent(started))
    monkeypatch.setattr("pipeline.app.Producer", _Idle)
    settings = Settings(klaviyo=Klaviyo(api_key=SecretStr("pk_test")))
    starts = []
    async with AsyncExitStack() as stack:
        for chance in (0.0, 0.5, 0.99):
            app = App(settings, only)
            app._chance = itertools.repeat(chance).__next__
            start = app._forward if only == "forward" else app._reverse
            starts.append(asyncio.create_task(start(stack)))
        await asyncio.gather(*starts, return_exceptions=True)
    assert asked == pytest.approx([0.0, SPREAD / 2, SPREAD * 0.99], abs=0.01)
