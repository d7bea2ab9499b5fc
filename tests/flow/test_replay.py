"""Sending again leaves Klaviyo as it is, ends, and can be interrupted anywhere."""

import json
import random
import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline.demo.shop import Made, Shop
from tests.flow.cli import call, interrupted
from tests.flow.resend import RECORDS, fault, held, named, order
from tests.flow.rig import Rig, until


@pytest.mark.kafka
@pytest.mark.timeout(600)
async def test_replay_changes_nothing_however_it_is_interrupted(rig: Rig) -> None:
    shop = Shop(seed=3, bad=False)
    await rig.send(
        shop.day(customers=RECORDS // 5, orders=RECORDS // 2, at_least=RECORDS)
    )
    async with rig.service() as service:
        await until(lambda: rig.accepted > 0)  # a new broker has its group by then
        await rig.drained(within=300)
        assert await service.terminate() == 0
    before = held(rig)
    chance = random.Random(5)
    for topic in (rig.customers, rig.orders):
        arguments = ("replay", "--topic", topic)
        for number in (signal.SIGINT, signal.SIGKILL, signal.SIGTERM):
            await interrupted(rig, number, chance.randint(1, 20), *arguments)
        ended = await call(rig, *arguments)
        assert ended.code == 0, ended.err
        assert held(rig) == before
    assert rig.sandbox.state.events.duplicates > 0  # they did arrive again
    assert not await rig.read_dead_letters(0)


@pytest.mark.kafka
@pytest.mark.timeout(90)
async def test_an_interrupted_replay_goes_on_where_it_stopped(rig: Rig) -> None:
    await rig.send(named(number, f"C-{number}") for number in range(400))
    rig.fault(fault("/api/profile-import", kind="delay", seconds=0.2))
    arguments = ("replay", "--topic", rig.customers)
    first = await interrupted(rig, signal.SIGINT, 60, *arguments)
    assert first.code == 1
    assert "call it again" in first.err
    rig.sandbox.faults.clear()
    second = await call(rig, *arguments)
    assert second.code == 0, second.err
    assert "went on with an interrupted call" in second.out
    sent = [int(each.out.split()[0]) for each in (first, second)]
    assert sent[1] < 400
    third = await call(rig, *arguments)  # it came to its end, so it begins anew
    assert third.out.startswith("400 records")


@pytest.mark.kafka
@pytest.mark.timeout(60)
async def test_the_newest_wins_though_an_old_range_is_sent_again(rig: Rig) -> None:
    await rig.send([named(number) for number in range(10)])
    assert (await call(rig, "replay", "--topic", rig.customers)).code == 0
    number = str(await partition_of(rig, rig.customers, b"C-1"))
    ended = await call(
        rig, "replay", "--topic", rig.customers, "--partition", number, "--to", "3"
    )
    assert ended.code == 0, ended.err
    assert ended.out.startswith("3 records")
    assert rig.profile("C-1")["first_name"] == "n9"


@pytest.mark.kafka
@pytest.mark.timeout(60)
async def test_the_newest_wins_though_it_has_no_time(rig: Rig) -> None:
    """A partition whose records have times does not speak for one whose have none."""
    async with AIOKafkaProducer(bootstrap_servers=rig.bootstrap) as writer:
        for number, timestamp in enumerate((-1, 1_700_000_000_000)):
            made = named(9, f"C-{number}")
            at = {"partition": number, "timestamp_ms": timestamp}
            await writer.send_and_wait(rig.customers, made.value, made.key, **at)
    content = {"id": "O-1", "customer": {"id": "C-0", "first_name": "old"}}
    value = json.dumps({"type": "order.placed", "order": content}).encode()
    await rig.send([Made("shop.orders", b"C-0", value)])
    assert (await call(rig, "replay", "--topic", rig.customers)).out[:2] == "2 "
    assert (await call(rig, "replay", "--topic", rig.orders)).out[:2] == "1 "
    assert rig.profile("C-0")["first_name"] == "n9"
    timed = await call(rig, "replay", "--topic", rig.customers, "--from", "2000-01-01")
    assert timed.code == 2, "one would be left out without a word"
    assert "by its time" in timed.err


@pytest.mark.timeout(60)
async def test_the_newest_wins_in_topics_with_a_mapping(rig: Rig, tmp_path: Path) -> None:
    config = tmp_path / "pipeline.toml"
    config.write_text(f"""
[mapping.crm]
from_topic = "{rig.customers}"
to = "customer.updated"
[mapping.crm.fields]
customer.id = "number"
customer.first_name = "name"
""")
    rows = [json.dumps({"number": "C-1", "name": f"n{n}"}).encode() for n in range(6)]
    await rig.send(Made("shop.customers", b"C-1", row) for row in rows)
    number = str(await partition_of(rig, rig.customers, b"C-1"))
    part = ("replay", "--topic", rig.customers, "--partition", number, "--to", "2")
    ended = await call(rig, "--config", str(config), *part)
    assert ended.out.startswith("2 records: 2 delivered"), ended
    assert rig.profile("C-1")["first_name"] == "n5"


async def partition_of(rig: Rig, topic: str, key: bytes) -> int:
    consumer = Consumer(
        {
            "bootstrap.servers": rig.bootstrap,
            "group.id": f"find-{rig.number}",
            "auto.offset.reset": "earliest",
        }
    )
    try:
        consumer.subscribe([topic])
        while True:
            message = consumer.poll(0.2)
            if message is not None and not message.error() and message.key() == key:
                return int(message.partition() or 0)
    finally:
        consumer.close()


@pytest.mark.kafka
@pytest.mark.timeout(90)
async def test_times_keys_and_what_retention_has_cut(rig: Rig) -> None:
    await rig.send([named(1, "C-1"), named(2, "C-2"), named(3, "C-2")])
    topic = ("--topic", rig.customers)
    assert (await call(rig, "replay", *topic, "--to", "2000-01-01")).out[:2] == "0 "
    assert (await call(rig, "replay", *topic, "--from", "2000-01-01")).out[:2] == "3 "
    assert (await call(rig, "replay", *topic, "--key", "C-2")).out[:2] == "2 "
    nobody = await call(rig, "replay", *topic, "--key", "NOPE")
    assert nobody.code == 0
    assert "nothing matched: that range has no record with the key NOPE" in nobody.err
    number = await partition_of(rig, rig.customers, b"C-2")
    admin = AdminClient({"bootstrap.servers": rig.bootstrap})
    place = TopicPartition(rig.customers, number, 1)
    next(iter(admin.delete_records([place]).values())).result(20)
    part = (*topic, "--partition", str(number))
    cut = await call(rig, "replay", *part, "--from", "0")
    assert cut.code == 1
    assert "retention has deleted it" in cut.err
    assert "--from 1" in cut.err
    assert (await call(rig, "replay", *part, "--from", "999")).code == 2


@pytest.mark.timeout(60)
async def test_bad_input_says_what_to_do(rig: Rig) -> None:
    await rig.send([named(1)])
    topic = ("--topic", rig.customers)
    for arguments, said in (
        (("--topic", "nope"), "does not exist"),
        ((*topic, "--partition", "99"), "has no partition 99"),
        ((*topic, "--from", "5"), "add --partition"),
        ((*topic, "--from", "soon"), "neither an offset"),
        ((*topic, "--from", "2026-02-01", "--to", "2026-01-01"), "exchange them"),
        ((*topic, "--diff"), "--dry-run"),
        (("--topic", rig.dead_letters), "dead-letters replay"),
        (("--topic", f"state-{rig.number}"), "notes of the service"),
    ):
        ended = await call(rig, "replay", *arguments)
        assert ended.code == 2, (arguments, ended)
        assert said in ended.err
        assert "Traceback" not in ended.err


@pytest.mark.kafka
@pytest.mark.timeout(60)
async def test_topics_that_are_missing_are_named_with_what_to_do(rig: Rig) -> None:
    await rig.send([named(1)])
    own = {"topics__create": "false", "topics__state": f"none-{rig.number}"}
    replay = ("replay", "--topic", rig.customers)
    stateless = await call(rig, *replay, **own)
    assert stateless.code == 1
    assert f"{own['topics__state']} cannot be written" in stateless.err
    assert "klaviyo-pipeline topics --create" in stateless.err
    assert not rig.sandbox.state.profiles.by_id
    own = {"topics__create": "false", "topics__dead_letters": f"none-{rig.number}"}
    assert (await call(rig, "topics", "--create", klaviyo__api_key="")).code == 0
    for command in (replay, ("dead-letters", "list"), ("dead-letters", "replay")):
        letterless = await call(rig, *command, **own)
        assert letterless.code == 2, (command, letterless)
        assert f"topic none-{rig.number} does not exist" in letterless.err


@pytest.mark.timeout(60)
async def test_a_backfill_marks_events_and_is_refused_where_they_cannot_be(
    rig: Rig,
) -> None:
    await rig.send([order("O-1"), order("O-2")])
    arguments = ("backfill", "--topic", rig.orders)
    refused = await call(rig, *arguments, klaviyo__api_revision="2026-01-15")
    assert refused.code == 2
    assert "2026-04-15" in refused.err
    assert not rig.events()
    assert (await call(rig, *arguments)).code == 0
    assert [event.backfill for event in rig.sandbox.state.events] == [True, True]


@pytest.mark.timeout(60)
async def test_old_events_are_marked_by_themselves_where_the_rule_is_set(
    rig: Rig,
) -> None:
    now = datetime.now(UTC).isoformat()
    await rig.send([order("O-1", occurred_at="2020-01-01T00:00:00Z")])
    await rig.send([order("O-2", occurred_at=now)])
    rule = {"deliver__backfill_after": "86400"}
    async with rig.service(**rule, klaviyo__api_revision="2026-01-15") as service:
        assert await service.wait() == 2
        assert "2026-04-15 or newer for deliver.backfill_after" in service.output
    assert not rig.events()
    async with rig.service(**rule) as service:
        await rig.drained()
        assert await service.terminate() == 0
    found = {event.unique_id: event.backfill for event in rig.sandbox.state.events}
    assert found == {"O-1": True, "O-2": False}


@pytest.mark.timeout(60)
async def test_a_dry_run_shows_the_requests_and_sends_none(rig: Rig) -> None:
    await rig.send([named(1), order("O-1")])
    assert (await call(rig, "replay", "--topic", rig.customers)).code == 0
    await rig.send([named(2)])
    sent, ended = rig.accepted, await call(rig, "run", "--dry-run", "--diff")
    assert ended.code == 0, ended.err
    assert "POST /api/profile-import\n" in ended.out
    assert '  first_name: "n1" -> "n2"' in ended.out
    assert "POST /api/events\n" in ended.out
    assert rig.accepted == sent
    assert not rig.events()


@pytest.mark.timeout(60)
async def test_a_refused_key_ends_it_with_3(rig: Rig) -> None:
    await rig.send([named(1)])
    rig.fault(fault("/api/accounts", kind="status", status=401))
    ended = await call(rig, "replay", "--topic", rig.customers)
    assert ended.code == 3
    assert "call again" in ended.err


@pytest.mark.timeout(60)
async def test_sync_sends_one_customer_or_order(rig: Rig) -> None:
    await rig.send([named(1, "C-1"), named(2, "C-2"), order("O-1", "C-2"), order("O-10")])
    assert (await call(rig, "sync", "customer", "C-2")).out.startswith("2 records")
    assert {event["unique_id"] for event in rig.events()} == {"O-1"}
    assert (await call(rig, "sync", "order", "O-10")).out.startswith("1 records")
    for what in ("customer", "order"):
        unknown = await call(rig, "sync", what, "C-3")
        assert unknown.code == 1
        assert f"No record of the {what} C-3" in unknown.err


@pytest.mark.timeout(60)
async def test_sync_takes_odd_ids(rig: Rig) -> None:
    odd = ("C/3 \u00fc", "-x", 'a"b,[c', "*")
    await rig.send(named(1, who) for who in odd)
    for who in odd:
        ended = await call(rig, "sync", "customer", "--", who)
        assert ended.out.startswith("1 records: 1 delivered"), (who, ended)


@pytest.mark.timeout(60)
async def test_sync_of_a_profile_that_is_not_there_or_may_not_be_seen(rig: Rig) -> None:
    own = {"topics__profiles": f"profiles-{rig.number}"}
    for who in ("01ABC", "a/b?c=d&e", 'x"),any(id,["y'):
        unknown = await call(rig, "sync", "profile", who, **own)
        assert unknown.code == 1
        assert f"Klaviyo has no profile {who}, " in unknown.err
        assert "sync customer" in unknown.err
    rig.set(revoked_keys=["*"])
    refused = await call(rig, "sync", "profile", "01ABC", **own)
    assert refused.code == 3
    assert "klaviyo.api_key" in refused.err


@pytest.mark.kafka
@pytest.mark.timeout(90)
async def test_an_interrupted_call_that_retention_overtook_says_so_once(rig: Rig) -> None:
    made = [named(number, f"C-{number}") for number in range(400)]
    await rig.send(Made(each.topic, b"one partition", each.value) for each in made)
    rig.fault(fault("/api/profile-import", kind="delay", seconds=0.2))
    arguments = ("replay", "--topic", rig.customers)
    assert (await interrupted(rig, signal.SIGINT, 60, *arguments)).code == 1
    rig.sandbox.faults.clear()
    number = await partition_of(rig, rig.customers, b"one partition")
    admin = AdminClient({"bootstrap.servers": rig.bootstrap})
    place = TopicPartition(rig.customers, number, 300)
    next(iter(admin.delete_records([place]).values())).result(20)
    ended = await call(rig, *arguments)
    assert ended.code == 1
    assert "up to offset 300. Call again to begin anew" in ended.err
    assert (await call(rig, *arguments)).out.startswith("100 records")
