"""Klaviyo or Kafka misbehaves: nothing is missed and nothing said twice."""

import asyncio
from functools import partial

import msgspec
import pytest

from pipeline.demo.broker import Broker
from pipeline.sandbox import Sandbox
from pipeline.sandbox.faults import Rule
from tests.brokers.apache import Apache
from tests.flow.rig import until
from tests.reverse.rig import Back, Reverse

pages = {"method": "GET", "path": "/api/profiles"}


@pytest.mark.kafka
@pytest.mark.timeout(120)
async def test_pages_that_go_wrong_are_asked_for_again(back: Reverse) -> None:
    past = back.sandbox.state.clock.now() - 300
    for number in range(450):
        back.sandbox.state.profiles.create({"email": f"p{number}@shop.dev"}, past)
    foreign = {"data": [], "links": {"next": "http://evil.test/api/profiles?x"}}
    refused = {"errors": [{"detail": "no", "code": "invalid", "status": 400}]}
    actions = [
        {"kind": "truncate"},
        {"kind": "garbage"},
        {"kind": "status", "status": 500},
        {"kind": "status", "status": 400, "body": refused},
        {"kind": "status", "status": 200, "body": foreign},
        {"kind": "reset_before"},
    ]
    rules = [
        {"match": pages | {"after": 2 + 7 * index, "times": 1}, "action": action}
        for index, action in enumerate(actions)
    ]
    back.sandbox.faults.add(*msgspec.convert(rules, list[Rule]))
    async with back.service() as service:
        await until(partial(contains, service, "evil.test"), what="the foreign link")
        found = await back.wait(450, within=60)
        assert await service.terminate() == 0
    assert len(back.once(found)) == 450


@pytest.mark.kafka
@pytest.mark.timeout(180)
async def test_kafka_away_in_the_midst(kafka: Apache) -> None:
    if not kafka.ours:
        pytest.skip("the broker of KAFKA_BOOTSTRAP_SERVERS must not be killed or frozen")
    async with Sandbox(limits=False) as sandbox:
        back = Reverse(kafka.bootstrap, sandbox)
        people = [back.make(f"p{number}") for number in range(120)]
        async with back.service() as service:
            await back.wait(120)
            kafka.kill()
            await back.next_second()
            for profile in people:
                back.edit(profile, title="while Kafka was away")
            await asyncio.sleep(4)  # polls that can publish nothing
            await asyncio.to_thread(kafka.start)
            found = await back.wait(240, within=90)
            assert await service.terminate() == 0
    by = back.once(found)
    assert {tuple(m.kind for m in by[p.id]) for p in people} == {("created", "updated")}


@pytest.mark.timeout(90)
async def test_without_transactions_it_says_so_and_publishes_each_once() -> None:
    async with Sandbox(limits=False) as sandbox:
        with Broker() as broker:
            back = Reverse(broker.address, sandbox)
            ada = back.make("ada")
            for _ in range(2):  # what was published is remembered by the next one
                async with back.service() as service:
                    await back.wait(1)
                    polls = partial(contains, service, '"polling"')
                    await until(polls, what="its turn")
                    await back.pages(10)  # which have nothing new
                    assert await service.terminate() == 0
                assert "keeps no transactions" in service.output
            async with back.service() as service:
                back.edit(ada, title="Dr")
                found = await back.wait(2)
                assert await service.terminate() == 0
    assert [each.kind for each in found] == ["created", "updated"]


@pytest.mark.kafka
@pytest.mark.timeout(120)
async def test_a_corrupt_cursor_stops_with_its_cure(back: Reverse) -> None:
    back.make("ada")
    async with back.service() as service:
        await back.wait(1)
        await service.terminate()
    await back.write_state("reverse/cursor", b"{")
    async with back.service(reverse__start="now") as service:
        assert await asyncio.wait_for(service.wait(), 30) == 2
    assert "PIPELINE_REVERSE__START=" in service.output
    async with back.service(reverse__start="2026-01-01T00:00:00Z") as service:
        back.make("bea")
        found = await back.wait(2)
        assert await service.terminate() == 0
    assert len(back.once(found)) == 2  # ada is not said again


def contains(service: Back, text: str) -> bool:
    return text in service.output
