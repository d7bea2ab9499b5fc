"""The group's coordinator moves: a cluster of two brokers, one of which dies."""

import asyncio
import time
import uuid
from contextlib import ExitStack

from confluent_kafka import Consumer, ElectionType, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.brokers.apache import Apache, find
from tests.faults.scenario import NotRun, fault
from tests.faults.world import World, errors, hold, running
from tests.flow.rig import until

OFFSETS = "__consumer_offsets"
PARTITIONS = 4  # of it, as tests/brokers says


@fault(3, "the coordinator dies and another takes over; then it moves back", "I1 I9")
async def coordinator_moves(world: World) -> str:
    with ExitStack() as stack:
        first, second = await asyncio.to_thread(_pair, stack)
        number = await asyncio.to_thread(_led_by_second, first)
        shifts = world.shift(first, seed=103, number=number, replicas=2)
        async with shifts as shift, shift.service() as service:
            await running(service)
            async with shift.selling(300, 700, a_second=45):
                await until(lambda: shift.accepted > 50, what="load")
                await asyncio.to_thread(second.kill)
                await hold(12, service)
                before = shift.accepted
                await asyncio.to_thread(second.start)
                await hold(8, service)
                assert shift.accepted > before, "nothing delivered under the new one"
                await asyncio.to_thread(_back, first)
                await hold(8, service)
            failed = await service.metric("commit_failures_total")
            await shift.done(service)
            assert not errors(service), errors(service)
            return f"{await shift.balance()}; {failed:.0f} commits tried again"


def _pair(stack: ExitStack) -> tuple[Apache, Apache]:
    first = find()
    if not first.ours:
        raise NotRun("a cluster of our own is needed, not KAFKA_BOOTSTRAP_SERVERS")
    first.more = {
        "offsets.topic.replication.factor": "2",
        "default.replication.factor": "2",
        "auto.leader.rebalance.enable": "false",
    }
    stack.enter_context(first)
    return first, stack.enter_context(first.second())


def _led_by_second(broker: Apache) -> str:
    """Number of a shift whose group the second broker coordinates."""
    where = {"bootstrap.servers": broker.bootstrap}
    eyes = Consumer({**where, "group.id": "first"})
    for _ in range(100):  # asking makes the topic of offsets, some time later
        try:
            eyes.committed([TopicPartition("nothing", 0)], 10)
        except KafkaException:
            time.sleep(0.2)
        else:
            break
    found = eyes.list_topics(OFFSETS, 10).topics[OFFSETS].partitions
    eyes.close()
    while True:
        number = uuid.uuid4().hex[:8]
        if found[_partition(f"klaviyo-test-{number}")].leader == 2:
            return number


def _partition(group: str) -> int:
    """Where Kafka keeps a group's offsets: Java's hash of its name."""
    number = 0
    for letter in group:
        number = (31 * number + ord(letter)) & 0xFFFFFFFF
    return (number & 0x7FFFFFFF) % PARTITIONS


def _back(broker: Apache) -> None:
    """Lead where the topic was led first."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    places = [TopicPartition(OFFSETS, number) for number in range(PARTITIONS)]
    admin.elect_leaders(ElectionType.PREFERRED, places).result(20)
