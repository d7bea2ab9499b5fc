"""Each kind of change comes back once, with the right kind; on real Kafka."""

import asyncio

import pytest

from tests.reverse.rig import Reverse

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]


async def test_a_profile_and_its_edit_come_back_once(back: Reverse) -> None:
    ada = back.make("ada", external_id="C-1", properties={"tier": "gold"})
    async with back.service() as service:
        (first,) = await back.wait(1)
        await asyncio.sleep(1.1)  # the grain of `updated`
        back.edit(ada, first_name="Ada", properties={"tier": "silver"})
        found = await back.wait(2)
        assert await service.terminate() == 0
    assert first.kind == "created"
    assert first.key == "C-1"
    assert first.headers["origin"] == b"klaviyo"
    second = found[1]
    assert second.kind == "updated"
    assert second.value["changed"] == ["first_name", "properties.tier"]
    assert second.value["previous"] == {"first_name": "ada", "properties.tier": "gold"}
    assert second.value["profile"]["first_name"] == "Ada"
