"""Sending again leaves Klaviyo as it is, ends, and can be interrupted anywhere."""

import asyncio
import json
import os
import random
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline.demo.shop import Made, Shop
from tests.flow.cli import call, interrupted, killed
from tests.flow.rig import Rig, until

RECORDS = int(os.environ.get("REPLAY_RECORDS", "1500"))
REFUSAL = {
    "errors": [
        {
            "id": "1",
            "status": 400,
            "code": "invalid",
            "title": "Invalid input.",
            "detail": "not welcome",
            "source": {"pointer": "/data"},
        }
    ]
}


async def listed(rig: Rig) -> dict[str, list[str]]:
    """Per reason: how many dead letters are open, replayed, discarded."""
    lines = (await call(rig, "dead-letters", "list")).out.splitlines()[1:]
    return {line.split()[0]: line.split()[1:] for line in lines}


def fault(path: str, times: int | None = None, **action: Any) -> dict[str, Any]:
    return {"match": {"path": path, "times": times}, "action": action}


def held(rig: Rig) -> tuple[dict[str, Any], list[str]]:
    """What Klaviyo holds, without the times of its own."""
    profiles = {
        str(profile.identifiers): {
            "fields": profile.fields,
            "location": profile.location,
            "properties": profile.properties,
        }
        for profile in rig.sandbox.state.profiles
    }
    events = sorted(json.dumps(each, sort_keys=True) for each in rig.events())
    return json.loads(json.dumps(profiles)), events


def named(number: int, who: str = "C-1") -> Made:
    value = {
        "type": "customer.updated",
        "customer": {"id": who, "first_name": f"n{number}"},
    }
    return Made("shop.customers", who.encode(), json.dumps(value).encode())


def order(name: str, who: str = "C-1", **more: Any) -> Made:
    content = {"id": name, "customer": {"id": who}}
    value = {"type": "order.placed", "order": content, **more}
    return Made("shop.orders", who.encode(), json.dumps(value).encode())


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
    ):
        ended = await call(rig, "replay", *arguments)
        assert ended.code == 2, (arguments, ended)
        assert said in ended.err
        assert "Traceback" not in ended.err


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
    unknown = await call(rig, "sync", "customer", "C-3")
    assert unknown.code == 1
    assert "No record of the customer C-3" in unknown.err


def refused_customer(number: int) -> Made:
    value = {"type": "customer.updated", "customer": {"id": f"C-{number}", "email": 5}}
    return Made("shop.customers", b"%d" % number, json.dumps(value).encode())


@pytest.mark.timeout(90)
async def test_letters_are_listed_replayed_once_and_keep_their_history(rig: Rig) -> None:
    await rig.send([refused_customer(1), named(2, "C-2")])
    rig.fault(fault("/api/profile-import", 1, kind="status", status=400, body=REFUSAL))
    assert (await call(rig, "replay", "--topic", rig.customers)).code == 0
    listed = await call(rig, "dead-letters", "list")
    assert [line.split() for line in listed.out.splitlines()[1:]] == [
        ["refused", "1", "0", "0"],
        ["schema", "1", "0", "0"],
    ]
    assert (await call(rig, "dead-letters", "replay")).out.startswith(
        "2 records: 1 delivered, 0 skipped, 1 dead-lettered"
    )
    assert rig.profile("C-2")["first_name"] == "n2"
    again = await call(rig, "dead-letters", "replay", "--reason", "refused")
    assert again.out.startswith("0 records")
    letters = await rig.read_dead_letters(3)
    found: list[dict[str, Any]] = [dict(letter.headers() or ()) for letter in letters]
    (last,) = [each for each in found if "klaviyo.history" in each]
    assert last["__connect.errors.topic"].decode() == rig.customers
    history = msgspec.json.decode(last["klaviyo.history"])
    assert [each["reason"] for each in history] == ["schema"]
    listed = await call(rig, "dead-letters", "list", "--each")
    (line,) = listed.out.splitlines()[1:]
    shown = await call(rig, "dead-letters", "show", line.split()[0])
    assert "failed before" in shown.out
    assert "C-1" not in shown.out
    valued = await call(rig, "dead-letters", "show", line.split()[0], "--value")
    assert "C-1" in valued.out


@pytest.mark.timeout(90)
async def test_a_record_that_is_a_dead_letter_does_not_become_one_again(rig: Rig) -> None:
    await rig.send([refused_customer(1), refused_customer(2)])
    topic = ("replay", "--topic", rig.customers)
    assert "2 dead-lettered\n" in (await call(rig, *topic)).out
    again = await call(rig, *topic)
    assert "2 dead-lettered (2 of them were dead letters already)" in again.out
    name = (await call(rig, "dead-letters", "list", "--each")).out.splitlines()[1].split()
    await call(rig, "dead-letters", "discard", name[0], "--why", "test data")
    assert "(2 of them" in (await call(rig, *topic)).out
    assert len(await rig.read_dead_letters(2)) == 2


@pytest.mark.timeout(90)
async def test_a_letter_with_a_successor_is_not_sent_again(rig: Rig) -> None:
    """A call that was killed may have written the new letter, and not the mark."""
    await rig.send([refused_customer(1)])
    await call(rig, "replay", "--topic", rig.customers)
    await call(rig, "dead-letters", "replay")
    own = {"topics__state": "without-marks"}
    listed = await call(rig, "dead-letters", "list", **own)
    assert listed.out.splitlines()[1].split() == ["schema", "2", "0", "0"]
    ended = await call(rig, "dead-letters", "replay", **own)
    assert ended.out.startswith("1 records"), ended.out


@pytest.mark.kafka
@pytest.mark.timeout(90)
async def test_the_newest_wins_though_the_replay_of_letters_was_killed(rig: Rig) -> None:
    await rig.send([named(1), named(1, "C-2")])
    topic = ("replay", "--topic", rig.customers)
    for who in ("C-1", "C-2"):
        refusal = fault("/api/profile-import", 1, kind="status", status=400, body=REFUSAL)
        rig.fault(refusal)
        assert "1 dead-lettered" in (await call(rig, *topic, "--key", who)).out
    await rig.send([named(9), named(9, "C-2")])
    assert (await call(rig, *topic)).code == 0

    def names() -> list[Any]:
        return sorted(rig.profile(who)["first_name"] for who in ("C-1", "C-2"))

    assert names() == ["n9", "n9"]
    second = {"path": "/api/profile-import", "after": 1}
    rig.fault({"match": second, "action": {"kind": "delay", "seconds": 25}})
    async with killed(rig, "dead-letters", "replay"), asyncio.timeout(20):
        while (await listed(rig))["refused"] != ["1", "1", "0"]:
            pass  # until the first is sent, and marked
    assert names() == ["n1", "n9"]  # the old one, for the moment
    rig.sandbox.faults.clear()
    ended = await call(rig, "dead-letters", "replay")
    assert ended.code == 0, ended.err
    assert names() == ["n9", "n9"]
    assert await listed(rig) == {"refused": ["0", "2", "0"]}


@pytest.mark.timeout(60)
async def test_a_discard_needs_a_reason_and_is_recorded(rig: Rig) -> None:
    await rig.send([refused_customer(1)])
    assert (await call(rig, "replay", "--topic", rig.customers)).code == 0
    assert (await call(rig, "dead-letters", "discard", "--all")).code == 2
    assert (await call(rig, "dead-letters", "discard", "--why", " ", "--all")).code == 2
    assert (await call(rig, "dead-letters", "discard", "--why", "test data")).code == 2
    name = (await call(rig, "dead-letters", "list", "--each")).out.splitlines()[1].split()
    done = await call(rig, "dead-letters", "discard", name[0], "--why", "test data")
    assert done.out == "1 discarded\n"
    shown = await call(rig, "dead-letters", "show", name[0])
    assert "discarded" in shown.out
    assert "test data" in shown.out
    assert (await call(rig, "dead-letters", "replay")).out.startswith("0 records")
    again = await call(rig, "dead-letters", "replay", name[0])
    assert (again.code, again.out) == (
        0,
        f"{name[0]} is discarded already; nothing was sent.\n",
    )
    for command in ("show", "replay"):
        missing = await call(rig, "dead-letters", command, "0:999")
        assert missing.code == 1
        assert "no dead letter 0:999" in missing.err
    unknown = await call(rig, "dead-letters", "list", "--reason", "nonsense")
    assert unknown.code == 2
    assert "identity_conflict" in unknown.err


@pytest.mark.kafka
@pytest.mark.timeout(600)
async def test_letters_interrupted_anywhere_are_all_sent_in_the_end(rig: Rig) -> None:
    count = RECORDS
    await rig.send([order("O-0")])  # the topic they came from
    producer = Producer({"bootstrap.servers": rig.bootstrap})
    for number in range(count):
        made = order(f"O-{number}", f"C-{number % 50}")
        told = {"topic": rig.orders, "partition": "0", "offset": str(number)}
        headers: dict[str, str | bytes | None] = {"klaviyo.reason": "refused"}
        headers |= {f"__connect.errors.{name}": text for name, text in told.items()}
        producer.produce(rig.dead_letters, made.value, made.key, headers=headers)
        producer.poll(0)
    assert producer.flush(30) == 0
    chance = random.Random(7)
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGINT):
        after = chance.randint(1, max(2, count // 1000))  # requests of up to 1,000 events
        await interrupted(rig, number, after, "dead-letters", "replay")
    ended = await call(rig, "dead-letters", "replay")
    assert ended.code == 0, ended.err
    assert len(rig.events()) == count
    before = held(rig)
    assert (await call(rig, "dead-letters", "replay")).out.startswith("0 records")
    assert held(rig) == before
    listed = await call(rig, "dead-letters", "list")
    assert listed.out.splitlines()[1].split() == ["refused", "0", str(count), "0"]


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
