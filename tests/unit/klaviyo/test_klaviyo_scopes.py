"""Which scopes there are, asked of a Klaviyo that does not answer."""

import asyncio
from typing import cast

import pytest

from pipeline.klaviyo.call import Attempt, Call
from pipeline.klaviyo.scopes import READS, WITHIN, WRITES, Scopes
from pipeline.klaviyo.session import Session
from tests.virtual_time import virtual


class Hung:
    """A session whose calls never end."""

    async def once(self, call: Call) -> Attempt:
        del call
        await asyncio.Event().wait()
        raise AssertionError


@virtual
async def test_all_reads_and_all_writes_have_one_deadline_each() -> None:
    scopes, loop = Scopes(cast("Session", Hung())), asyncio.get_running_loop()
    assert await scopes.readable() == dict.fromkeys(READS)
    assert loop.time() == pytest.approx(WITHIN)
    assert await scopes.writable(WRITES) == dict.fromkeys(WRITES)
    assert loop.time() == pytest.approx(2 * WITHIN)
