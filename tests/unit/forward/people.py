"""A client on a sandbox, and people in it that somebody else made."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from pydantic import SecretStr

from pipeline.access import connect
from pipeline.clock import SYSTEM
from pipeline.klaviyo.client import Client
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from pipeline.sandbox import Sandbox
from pipeline.sandbox.profile import Profile
from pipeline.settings import Klaviyo, Settings

__all__ = ["Kept", "connected", "made"]


@asynccontextmanager
async def connected(revision: str) -> AsyncIterator[tuple[Sandbox, Client]]:
    async with Sandbox(limits=False) as sandbox:
        klaviyo = Klaviyo(
            api_url=sandbox.url, api_key=SecretStr("pk_test"), api_revision=revision
        )
        metrics = Metrics()
        async with connect(
            Settings(klaviyo=klaviyo), Health(metrics, SYSTEM), metrics
        ) as client:
            yield sandbox, client


def made(sandbox: Sandbox, **identifiers: str) -> Profile:
    now = sandbox.state.clock.now()
    return sandbox.state.profiles.create(identifiers, now)


class Kept:
    """The state topic, as a dict; `log` says what happened in which order."""

    def __init__(self, log: list[str] | None = None) -> None:
        self.entries: dict[str, Any] = {}
        self.log = [] if log is None else log

    async def write(self, entries: Mapping[str, bytes | None]) -> None:
        self.log.append("kept")
        self.entries |= entries
