"""Our place in the group against a client that plays every misfortune."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping

import pytest
from aiokafka.errors import GroupAuthorizationFailedError

from pipeline.errors import KafkaUnreachable
from pipeline.kafka import membership as module
from pipeline.kafka.membership import Membership
from pipeline.kafka.positions import Bounds
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from pipeline.records import Partition
from pipeline.settings import Kafka

ONE = ("orders", 0)


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def monotonic(self) -> float:
        return self.time

    now = monotonic


class Broker:
    """What all clients of a test find."""

    def __init__(self) -> None:
        self.topics = {"orders"}
        self.up = True
        self.offsets: Exception | None = None  # why they cannot be asked for
        self.committed: int | None = None
        self.beginning = 0
        self.full = False  # commits are refused
        self.clients: list[Stub] = []


class Stub:
    """A client that answers as the test says and writes down what is asked of it."""

    broker: Broker
    log: list[str]

    def __init__(self, settings: Kafka) -> None:
        self.broker.clients.append(self)
        self.settings = settings
        self.joined = True
        self.lost = False
        self.ended: str | None = None
        self.error: Exception | None = None
        self.listener: module._Listener | None = None

    async def open(self) -> None:
        if not self.broker.up:
            raise KafkaUnreachable("nobody listens")

    async def topics(self, exclude: Collection[str]) -> frozenset[str]:
        del exclude
        return frozenset(self.broker.topics)

    def subscribe(self, topics: Collection[str], listener: module._Listener) -> None:
        self.log.append(f"subscribed {sorted(topics)}")
        self.listener = listener

    async def bounds(
        self, partitions: Collection[Partition]
    ) -> tuple[dict[Partition, Bounds], dict[str, int]]:
        await asyncio.sleep(0)
        if self.broker.offsets is not None:
            raise self.broker.offsets
        committed = self.broker.committed
        return {
            each: Bounds(committed, self.broker.beginning, 9, "", 3)
            for each in partitions
        }, {}

    async def commit(self, offsets: Mapping[Partition, tuple[int, str]]) -> None:
        if self.broker.full:
            raise GroupAuthorizationFailedError("g")
        self.log.append(f"committed {dict(offsets)}")

    def seek(self, positions: Mapping[Partition, int]) -> None:
        self.log.append(f"sought {dict(positions)}")

    async def reachable(self, within: float) -> bool:
        del within
        return self.broker.up

    def gone(self, topics: Collection[str]) -> frozenset[str]:
        return frozenset(topics) - self.broker.topics

    def trouble(self) -> Exception | None:
        return self.error

    def dead(self) -> str | None:
        return self.ended

    async def close(self) -> None:
        self.log.append("closed")


class Rig:
    def __init__(self, start: str) -> None:
        self.clock, self.metrics, self.broker = Clock(), Metrics(), Broker()
        self.health = Health(self.metrics, self.clock)
        self.log: list[str] = []
        self.when_revoked: Callable[[], Awaitable[None]] | None = None
        self.when_assigned: Callable[[], None] = lambda: None
        Stub.broker, Stub.log = self.broker, self.log
        self.member = Membership(
            settings=Kafka.model_validate(
                {"group": "g", "topics": ("orders",), "start": start}
            ),
            metrics=self.metrics,
            health=self.health,
            clock=self.clock,
            on_assigned=self.assigned,
            on_revoked=self.revoked,
            exclude=(),
        )

    def assigned(self, partitions: Collection[Partition]) -> None:
        self.when_assigned()
        self.log.append(f"assigned {sorted(partitions)}")

    async def revoked(self) -> None:
        if self.when_revoked is not None:
            await self.when_revoked()
        self.log.append("revoked")

    @property
    def client(self) -> Stub:
        return self.broker.clients[-1]

    async def give(self, *partitions: Partition) -> None:
        """The group assigns; returns when the epoch has begun, or cannot."""
        assert self.client.listener is not None
        self.member.given(self.client, partitions)  # type: ignore[arg-type]
        assert self.member._placing is not None
        await asyncio.wait([self.member._placing], timeout=5)

    async def look(self) -> None:
        await self.member._look_after()


@pytest.fixture
async def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setattr(module, "Client", Stub)
    monkeypatch.setattr(module, "WATCH_EVERY", 3600.0)
    monkeypatch.setattr(module, "AGAIN", 0.0)
    made = Rig("earliest")
    await made.member.start()
    assert made.member._watching is not None
    made.member._watching.cancel()  # the tests look themselves
    await asyncio.wait([made.member._watching])
    return made


async def test_a_place_without_an_offset_is_committed_before_it_is_read(rig: Rig) -> None:
    await rig.give(ONE)
    assert rig.log == [
        "subscribed ['orders']",
        f"committed {{{ONE}: (0, '2;0;3;')}}",
        f"sought {{{ONE}: 0}}",
        f"assigned [{ONE}]",
    ]


async def test_a_known_place_is_not_committed_again(rig: Rig) -> None:
    rig.broker.committed = 4
    await rig.give(ONE)
    assert rig.log[1:] == [f"sought {{{ONE}: 4}}", f"assigned [{ONE}]"]


def lost(rig: Rig) -> float:
    found: float = rig.metrics.records_lost.labels("orders")._value.get()
    return found


async def test_what_retention_took_is_counted_and_the_new_place_committed(
    rig: Rig,
) -> None:
    """Else each start until the first commit would count it again."""
    rig.broker.committed, rig.broker.beginning = 2, 5
    await rig.give(ONE)
    assert rig.log[1:] == [
        f"committed {{{ONE}: (5, '2;5;3;')}}",
        f"sought {{{ONE}: 5}}",
        f"assigned [{ONE}]",
    ]
    assert lost(rig) == 3


async def test_a_loss_is_counted_once_however_often_its_commit_is_tried(rig: Rig) -> None:
    rig.broker.committed, rig.broker.beginning, rig.broker.full = 2, 5, True
    rig.member.given(rig.client, [ONE])  # type: ignore[arg-type]
    async with asyncio.timeout(5):
        while "offsets" not in rig.health.waits():
            await asyncio.sleep(0)
    assert lost(rig) == 3, "also if another becomes the owner now, who sees no loss"
    rig.broker.full = False
    assert rig.member._placing is not None
    await rig.member._placing
    assert lost(rig) == 3
    assert rig.member.epoch == 1


async def test_a_member_may_get_nothing(rig: Rig) -> None:
    await rig.give()
    assert rig.member.epoch == 1
    assert rig.log[-1] == "assigned []"


async def test_what_cannot_be_learnt_is_asked_again_and_named(rig: Rig) -> None:
    rig.broker.offsets = GroupAuthorizationFailedError("g")
    rig.member.given(rig.client, [ONE])  # type: ignore[arg-type]
    async with asyncio.timeout(5):
        while "offsets" not in rig.health.waits():
            await asyncio.sleep(0)
    assert rig.member.epoch == 0
    rig.broker.offsets = None
    assert rig.member._placing is not None
    await rig.member._placing
    assert rig.health.waits() == {}
    assert rig.member.epoch == 1


async def test_a_client_that_never_gets_over_its_own_state_is_made_anew(rig: Rig) -> None:
    rig.broker.offsets = AssertionError("no such state")
    await rig.give(ONE)
    assert "no such state" in rig.health.waits()["offsets"]
    rig.broker.offsets = None
    await rig.look()
    assert len(rig.broker.clients) == 2
    await rig.give(ONE)
    assert rig.health.waits() == {}


async def test_a_revoke_while_the_place_is_looked_for_begins_no_epoch(rig: Rig) -> None:
    rig.member.given(rig.client, [ONE])  # type: ignore[arg-type]
    await rig.member.revoked(rig.client)  # type: ignore[arg-type]
    await asyncio.sleep(0)
    assert rig.log == ["subscribed ['orders']"], "nothing given, nothing taken back"


async def test_a_flow_that_fails_at_a_revoke_loses_its_partitions_all_the_same(
    rig: Rig,
) -> None:
    async def fail() -> None:
        raise RuntimeError("a bug")

    await rig.give(ONE)
    rig.when_revoked = fail
    await rig.member.revoked(rig.client)  # type: ignore[arg-type]
    assert rig.member.assigned == frozenset()


async def test_a_member_the_group_went_on_without_ends_nothing(rig: Rig) -> None:
    """Others own the partitions already: what it would send now would be of yesterday."""
    cut_short = []

    async def drain() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cut_short.append(True)
            raise

    await rig.give(ONE)
    rig.when_revoked = drain
    rig.client.lost = True
    async with asyncio.timeout(5):
        await rig.member.revoked(rig.client)  # type: ignore[arg-type]
    assert cut_short
    assert rig.member.assigned == frozenset()


async def test_a_task_that_died_inside_costs_the_client_not_the_process(rig: Rig) -> None:
    await rig.give(ONE)
    rig.client.ended = "fetch"
    await rig.look()
    assert rig.log[-3:] == ["revoked", "closed", "subscribed ['orders']"]
    assert len(rig.broker.clients) == 2
    await rig.give(ONE)
    assert rig.member.epoch == 2


async def test_a_join_that_is_stuck_for_two_minutes_is_begun_anew(rig: Rig) -> None:
    rig.client.joined = False
    for _ in range(2):
        rig.clock.time += module.JOIN_LIMIT / 2
        await rig.look()
        assert len(rig.broker.clients) == 1
    rig.clock.time += 1
    await rig.look()
    assert len(rig.broker.clients) == 2


async def test_an_outage_is_not_a_stuck_join(rig: Rig) -> None:
    """A new client would find nobody either, but begins at bootstrap_servers again."""
    rig.client.joined = False
    rig.broker.up = False
    rig.clock.time += module.JOIN_LIMIT / 2 - 61
    await rig.look()
    assert "kafka" in rig.health.waits()
    rig.clock.time += module.UNREACHABLE_LIMIT + 61
    await rig.look()
    assert rig.member.client is None
    clients = len(rig.broker.clients)
    await rig.look()
    assert len(rig.broker.clients) == clients, "not at once again"
    rig.broker.up = True
    rig.clock.time += module.REOPEN_LIMIT
    await rig.look()
    assert rig.member.client is rig.client
    assert rig.health.waits() == {}


async def test_what_keeps_us_out_of_the_group_is_named(rig: Rig) -> None:
    rig.client.joined = False
    rig.client.error = GroupAuthorizationFailedError("g")
    await rig.look()
    assert "GroupAuthorizationFailedError" in rig.health.waits()["group"]
    rig.client.error, rig.client.joined = None, True
    await rig.look()
    assert rig.health.waits() == {}


async def test_a_bug_at_the_beginning_of_an_epoch_is_not_silence(rig: Rig) -> None:
    def fail() -> None:
        raise RuntimeError("a bug")

    rig.when_assigned = fail
    await rig.give(ONE)
    await rig.look()
    assert len(rig.broker.clients) == 2


async def test_a_client_made_anew_is_given_its_time_to_join(rig: Rig) -> None:
    """The assignment that failed was of the one before; the look comes before its own."""
    rig.broker.offsets = AssertionError("no such state")
    await rig.give(ONE)
    rig.broker.offsets = None
    for _ in range(5):
        await rig.look()
    assert len(rig.broker.clients) == 2
    await rig.give(ONE)
    await rig.look()
    assert len(rig.broker.clients) == 2
    assert rig.member.epoch == 1


async def test_a_topic_that_is_deleted_is_named_until_it_is_there_again(rig: Rig) -> None:
    await rig.give(ONE)
    rig.broker.topics.clear()
    await rig.look()
    assert "create it" in rig.health.waits()["topic orders"]
    rig.broker.topics.add("orders")
    await rig.look()
    assert rig.health.waits() == {}


async def test_new_topics_are_joined_after_the_old_ones_are_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Subscribing ends the assignment, and a commit needs one."""
    monkeypatch.setattr(module, "Client", Stub)
    monkeypatch.setattr(module, "WATCH_EVERY", 3600.0)
    rig = Rig("earliest")
    rig.member._settings = Kafka(group="g", topics=("^",), start="earliest")
    await rig.member.start()
    await rig.give(ONE)
    rig.broker.topics.add("refunds")
    await rig.look()
    assert rig.log[-2:] == ["revoked", "subscribed ['orders', 'refunds']"]
    await rig.member.stop()


async def test_stopping_in_the_middle_of_a_repair_closes_every_client(rig: Rig) -> None:
    await rig.give(ONE)
    blocked = asyncio.Event()
    rig.when_revoked = blocked.wait  # type: ignore[assignment]
    rig.member._watching = asyncio.create_task(rig.member._watch())
    rig.member.mend("a test")
    for _ in range(20):
        await asyncio.sleep(0)
    assert rig.member._releasing.locked(), "it waits for the flow"
    async with asyncio.timeout(5):
        await rig.member.stop()
    assert rig.log.count("closed") == len(rig.broker.clients)
    assert asyncio.all_tasks() == {asyncio.current_task()}
