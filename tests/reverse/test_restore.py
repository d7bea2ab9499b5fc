"""The poller without its state: it says so, and goes on from where it is told."""

import asyncio
from datetime import UTC, datetime

import pytest

from tests.brokers.apache import Apache
from tests.flow.rig import until
from tests.reverse.rig import Reverse

MOVED = (
    "published_total",
    "cursor_timestamp_seconds",
    "last_success_timestamp_seconds",
)

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]


async def test_a_lost_cursor_is_not_taken_for_a_first_start(
    kafka: Apache, back: Reverse
) -> None:
    back.make("ada")
    async with back.service() as service:
        await back.wait(1)
        async with asyncio.timeout(30):
            for moved in MOVED:
                while await service.metric(f"reverse_{moved}") == 0:
                    await asyncio.sleep(0.1)
        assert await service.terminate() == 0
    await asyncio.to_thread(kafka.lose, back.state)
    await back.next_second()
    since = datetime.fromtimestamp(back.sandbox.state.clock.now(), UTC)
    await back.next_second()
    bea = back.make("bea")
    async with back.service(reverse__start="now") as service:
        assert await asyncio.wait_for(service.wait(), 30) == 2
    assert "PIPELINE_REVERSE__START=" in service.output
    start = since.strftime("%Y-%m-%dT%H:%M:%SZ")
    async with back.service(reverse__start=start, reverse__overlap="0") as service:
        found = await back.wait(2)
        await until(lambda: '"polling"' in service.output, what="polls")
        assert await service.terminate() == 0
    assert [each.kind for each in back.once(found)[bea.id]] == ["created"]
    assert len(found) == 2, "what was published before is not published again"
    # From now on as ever.
    async with back.service(reverse__start="now") as service:
        back.edit(bea, title="Dr")
        found = await back.wait(3)
        assert await service.terminate() == 0
    assert [each.kind for each in back.once(found)[bea.id]] == ["created", "updated"]
