"""What we wrote does not come back; what others wrote right after does."""

import asyncio
import json
import os

import pytest

from pipeline.demo.shop import Made
from tests.flow.rig import Rig, until
from tests.flow.service import Service
from tests.reverse.rig import Reverse

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

CUSTOMERS = int(os.environ.get("REVERSE_WRITES", "10000"))


async def test_our_writes_stay_and_a_marketers_edit_comes_back(back: Reverse) -> None:
    rig = Rig(back.bootstrap, back.sandbox)
    await rig.create_topics()
    service = both(rig, back)
    async with service:
        await rig.send(written(number) for number in range(CUSTOMERS))
        await rig.drained(within=200)
        await suppressed(service, CUSTOMERS)
        assert await back.read() == []
        # Again, with other values; and somebody edits within a second of our write.
        await back.next_second()
        await rig.customer(id="C-7", first_name="Grace", address={"city": "LA"})
        await rig.drained()
        (profile,) = back.sandbox.state.profiles.resolve({"external_id": "C-7"})
        assert profile.fields["first_name"] == "Grace"
        back.edit(profile, last_name="Hopper")
        (edit,) = await back.wait(1)
        # The value we sent once, set by somebody else later, is news.
        await back.next_second()
        back.edit(profile, first_name="Ada")
        await back.wait(2)
        await back.next_second()
        back.edit(profile, first_name="Grace")
        found = await back.wait(3)
        assert await service.terminate() == 0
    assert edit.kind == "updated"
    assert edit.value["changed"] == ["last_name"]
    assert [each.value["changed"] for each in found[1:]] == [["first_name"]] * 2


async def test_a_death_before_it_was_told_lets_nothing_come_back(back: Reverse) -> None:
    rig = Rig(back.bootstrap, back.sandbox)
    await rig.create_topics()
    # Longer than the dead one is a member, and its successor takes to start and tell.
    service = both(rig, back, reverse__settle="40")
    dying = both(rig, back, reverse__settle="40")
    dying.module = "tests.reverse.dying"
    dying._environ |= {"FALL": "telling:0"}
    await rig.send(written(number) for number in range(50))
    held = back.sandbox.state.profiles.by_id
    async with dying:
        await until(lambda: len(held) == 50, what="all to be written")
        await asyncio.sleep(3)  # several times offsets could be committed
        await dying.kill()
    async with service:
        await rig.drained()
        await suppressed(service, 50)
        assert await back.read() == []
        assert await service.terminate() == 0


async def test_a_write_whose_answer_was_lost_does_not_come_back(back: Reverse) -> None:
    rig = Rig(back.bootstrap, back.sandbox)
    await rig.create_topics()
    service = both(rig, back, reverse__settle="3")
    write = {"method": "POST", "path": "/api/profile-import"}
    rig.fault(
        {"match": write | {"times": 1}, "action": {"kind": "reset_after"}},
        {"match": write, "action": {"kind": "status", "status": 503}},
    )
    async with service:
        await rig.send([written(1)])
        await suppressed(service, 1)  # seen by the poller while we still try to write
        rig.fault()
        await rig.drained()
        await asyncio.sleep(5)  # what was written at last is looked at as well
        assert await back.read() == []
        assert await service.terminate() == 0


def written(number: int) -> Made:
    customer = {
        "id": f"C-{number}",
        "email": f"Ada{number}@Shop.dev ",
        "phone": None if number else "(202) 555-0123",
        "first_name": " Ada ",
        "custom_fields": {"score": 1.0, "born": "2000-01-01T00:00:00+00:00"},
        "address": {"city": "NY", "country": "US"},
    }
    message = {"type": "customer.updated", "customer": customer}
    return Made("shop.customers", f"C-{number}".encode(), json.dumps(message).encode())


def both(rig: Rig, back: Reverse, **settle: str) -> Service:
    settings = back.service()._environ
    wanted = ("PIPELINE_TOPICS__", "PIPELINE_REVERSE__")
    more = {
        name.removeprefix("PIPELINE_").lower(): value
        for name, value in settings.items()
        if name.startswith(wanted)
    }
    own = {"reverse__enabled": "true", "reverse__settle": "2"}
    return rig.service(**more | own | settle)


async def suppressed(service: Service, count: int) -> None:
    async with asyncio.timeout(120):
        while await service.metric("reverse_echoes_suppressed_total") < count:
            await asyncio.sleep(0.2)
