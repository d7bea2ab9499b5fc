"""The world of the reverse direction, on a real broker."""

from collections.abc import AsyncIterator

import pytest

from pipeline.sandbox import Sandbox
from tests.brokers.apache import Apache
from tests.reverse.rig import Reverse


@pytest.fixture
async def back(kafka: Apache) -> AsyncIterator[Reverse]:
    async with Sandbox(limits=False) as sandbox:
        yield Reverse(kafka.bootstrap, sandbox)
