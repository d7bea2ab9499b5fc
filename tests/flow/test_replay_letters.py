"""Dead letters are sent again once, whatever interrupts that."""

import asyncio
import json
import random
import signal
from typing import Any

import msgspec
import pytest
from confluent_kafka import Producer

from pipeline.demo.shop import Made
from pipeline.kafka.state import State
from pipeline.settings import Kafka
from tests.flow.cli import call, interrupted, killed
from tests.flow.resend import RECORDS, fault, held, named, order
from tests.flow.rig import Rig

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
    first = await call(rig, "dead-letters", "show", "0:0", "--value")
    assert "header" not in first.out  # it came with none, and has no history yet
    shown = await call(rig, "dead-letters", "show", line.split()[0])
    assert "failed before" in shown.out
    assert "C-1" not in shown.out
    valued = await call(rig, "dead-letters", "show", line.split()[0], "--value")
    assert "C-1" in valued.out
    assert "header klaviyo.history: [" in valued.out


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


@pytest.mark.timeout(60)
async def test_the_newest_wins_where_a_broker_finds_nothing_by_time(rig: Rig) -> None:
    """As the embedded one, which is all that a first try has."""
    await rig.send([named(1), named(9, "C-2")])
    rig.fault(fault("/api/profile-import", 1, kind="status", status=400, body=REFUSAL))
    topic = ("replay", "--topic", rig.customers)
    assert "1 dead-lettered" in (await call(rig, *topic, "--key", "C-1")).out
    await rig.send([named(9)])
    assert (await call(rig, *topic, "--key", "C-1")).code == 0
    assert (await call(rig, "dead-letters", "replay")).out.startswith("1 records: 1 del")
    assert rig.profile("C-1")["first_name"] == "n9"
    dated = await call(rig, *topic, "--from", "2000-01-01")
    assert dated.code == 2
    assert "by its time" in dated.err
    assert "the embedded one does not" in dated.err


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
    for words in (("replay",), ("discard", "--why", "x")):
        other = await call(rig, "dead-letters", *words, name[0], "--reason", "refused")
        assert other.code == 0
        assert f"{name[0]} has the reason schema, not refused" in other.out
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
    put_away = await call(rig, "dead-letters", "discard", name[0], "--why", "again")
    assert (put_away.code, put_away.out) == (0, f"{name[0]} is discarded already.\n")
    assert "test data" in (await call(rig, "dead-letters", "show", name[0])).out
    for command in ("show", "replay", "discard"):
        why = ("--why", "x") if command == "discard" else ()
        missing = await call(rig, "dead-letters", command, "0:999", *why)
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


@pytest.mark.timeout(120)
async def test_calls_at_once_change_nothing_and_the_marks_stay_true(rig: Rig) -> None:
    """Two replays of one range, two of its letters, and a discard in between."""
    await rig.send([named(0, "C-0"), *(named(n, f"C-{n % 40}") for n in range(80))])
    refusal = fault("/api/profile-import", 9, kind="status", status=400, body=REFUSAL)
    rig.fault(refusal)
    topic = ("replay", "--topic", rig.customers)
    assert (await call(rig, *topic)).code == 0
    first = await rig.read_dead_letters(1)
    assert first
    rig.fault(fault("/api/profile-import", kind="delay", seconds=0.3))
    letters = ("dead-letters", "replay")
    discard = ("dead-letters", "discard", "--all", "--why", "test data")
    ended = await asyncio.gather(
        *(
            call(rig, *arguments)
            for arguments in (topic, topic, letters, letters, discard)
        )
    )
    assert [each.code for each in ended] == [0] * 5, ended
    rig.sandbox.faults.clear()
    (counts,) = (await listed(rig)).values()
    assert counts[0] == "0", counts
    assert sum(map(int, counts)) == len(first)
    names = {n % 40: f"n{n}" for n in range(80)}
    found = {n: rig.profile(f"C-{n}")["first_name"] for n in range(40)}
    assert found == names


@pytest.mark.timeout(120)
async def test_two_replays_at_once_send_each_letter_once(rig: Rig) -> None:
    """What fails again is one new letter, not one of each call."""
    await rig.send(refused_customer(number) for number in range(30))
    topic = ("replay", "--topic", rig.customers)
    assert "30 dead-lettered" in (await call(rig, *topic)).out
    letters = ("dead-letters", "replay")
    ended = await asyncio.gather(*(call(rig, *letters) for _ in range(2)))
    assert [each.code for each in ended] == [0, 0], ended
    # The second may have been called when the first had written its new ones.
    (counts,) = (await listed(rig)).values()
    assert counts[0] == "30", counts


@pytest.mark.timeout(90)
async def test_a_replay_says_that_another_one_runs_and_outlives_its_death(
    rig: Rig,
) -> None:
    await rig.send([refused_customer(1)])
    assert (await call(rig, "replay", "--topic", rig.customers)).code == 0
    kafka, state = Kafka(bootstrap_servers=rig.bootstrap), f"state-{rig.number}"
    claims = State(kafka, state, f"test-{rig.number}/replaying")
    await claims.put("killed", b"7")
    await claims.close()
    ended = await call(rig, "dead-letters", "replay")
    assert "another dead-letters replay runs" in ended.err
    assert ended.out.startswith("1 records: 0 delivered, 0 skipped, 1 dead-lettered")
    assert await claims.load() == {}


@pytest.mark.timeout(120)
async def test_no_dead_letter_trips_the_brake_a_second_time(rig: Rig) -> None:
    await rig.send(refused_customer(number) for number in range(30))
    topic = ("replay", "--topic", rig.customers)
    assert "30 dead-lettered" in (await call(rig, *topic)).out
    braked = {"deliver__malformed_limit": "10"}
    again = await call(rig, *topic, **braked)
    assert "30 dead-lettered (30 of them were dead letters already)" in again.out
    letters = await call(rig, "dead-letters", "replay", **braked)
    assert letters.out.startswith("30 records: 0 delivered, 0 skipped, 30 dead-lettered")
    shown = await call(rig, "dead-letters", "replay", "--dry-run", **braked)
    assert shown.code == 0, shown.err
    await rig.send(refused_customer(number) for number in range(30, 60))
    news = await call(rig, *topic, **braked)
    assert news.code == 1
    assert "10 records in a row cannot be delivered" in news.err
    assert "Then call again: it goes on where it stopped" in news.err
    assert "restart" not in news.err
