"""What is lost with the state topic or the group's offsets, and how one goes on."""

import asyncio
from typing import Any

import pytest
from confluent_kafka import Producer

from pipeline.demo.shop import Shop
from tests.brokers.apache import Apache
from tests.flow.resend import held
from tests.flow.rig import Rig, until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]


async def run(rig: Rig, **more: str) -> None:
    """One life of the service: until everything is settled."""
    settings = {"topics__state": f"state-{rig.number}", "kafka__start": "none"} | more
    async with rig.service(**settings) as service:
        await until(lambda: '"assigned"' in service.output, what="an assignment")
        await rig.drained()
        assert await service.terminate() == 0


def stored(rig: Rig) -> tuple[Any, int, int]:
    """What Klaviyo holds, how many events, and how many it was sent again."""
    events = rig.sandbox.state.events
    keys = {(event.metric, event.unique_id) for event in events}
    assert len(keys) == len(list(events)), "stored twice"
    return held(rig), len(keys), events.duplicates


async def test_without_the_state_topic_nothing_is_sent_again(
    kafka: Apache, rig: Rig
) -> None:
    shop = Shop(seed=3, bad=False)
    await rig.send(shop.day(customers=20, orders=40))
    await run(rig, kafka__start="earliest")
    before = rig.accepted
    await asyncio.to_thread(kafka.lose, f"state-{rig.number}")
    await run(rig)
    assert rig.accepted == before
    await rig.send(shop.day(customers=20, orders=60))
    await run(rig)
    assert rig.accepted > before
    assert stored(rig)[1:] == (len(shop.events), shop.resent)


async def test_without_offsets_all_is_read_again_and_nothing_arrives_twice(
    kafka: Apache, rig: Rig
) -> None:
    shop = Shop(seed=3, bad=False)
    await rig.send(shop.day(customers=20, orders=40))
    await run(rig, kafka__start="earliest")
    profiles, events, again = stored(rig)
    group = f"klaviyo-test-{rig.number}"
    await asyncio.to_thread(kafka.lose, f"state-{rig.number}", group=group)
    async with rig.service(kafka__start="none") as service:
        assert await service.wait() == 2, "it does not guess"
        assert "kafka.start" in service.output
    await run(rig, kafka__start="earliest")
    after = stored(rig)
    assert after[:2] == (profiles, events)
    assert after[2] >= again + events, "Klaviyo was asked, and knew them"


async def test_state_of_a_release_too_new_ends_it(rig: Rig) -> None:
    """A job's entry that asks for something unknown here must not be passed over."""
    state, key = f"state-{rig.number}", f"test-{rig.number}/jobs/{rig.customers}/0/x"
    producer = Producer({"bootstrap.servers": rig.bootstrap})
    producer.produce(state, b'{"v3":{}}', key, headers=[("format", b"3")])
    await asyncio.to_thread(producer.flush, 10)
    async with rig.service(topics__state=state) as service:
        assert await asyncio.wait_for(service.wait(), 60) == 2
    assert "holds records of format 3, written by a newer release" in service.output
