"""What a deletion and a tombstone ask for, by deletes.policy."""

import orjson
import pytest

from pipeline.forward.plan import Planner
from pipeline.records import Dead, Record, Skipped
from schemas import privacy
from schemas.commands import Command, EraseProfile, Identity, SuppressProfile
from schemas.event import Context, Plan
from schemas.mapping.declared import read

ADA = Identity("C-1", "ada@shop.dev")


def planned(
    policy: str, key: bytes | None, value: bytes | None, **more: bool
) -> Plan | Skipped | Dead:
    context = Context(deletes=policy, **more)  # type: ignore[arg-type]
    return Planner(context).plan(Record("shop.customers", 0, 1, 0, key, value))


def deleted(**customer: str) -> bytes:
    return orjson.dumps({"type": "customer.deleted", "customer": customer})


@pytest.mark.parametrize(
    ("policy", "command"),
    [("suppress", SuppressProfile(ADA)), ("erase", EraseProfile(ADA))],
)
def test_a_deletion(policy: str, command: Command) -> None:
    value = deleted(id="C-1", email="Ada@shop.dev")
    assert planned(policy, b"C-1", value) == Plan([command])
    assert planned(policy, b"C-1", value, backfill=True) == Plan([command])
    assert planned("ignore", b"C-1", value) == Skipped("deletes_ignored")


@pytest.mark.parametrize(
    ("policy", "command"),
    [
        ("suppress", SuppressProfile(Identity("C-1"))),
        ("erase", EraseProfile(Identity("C-1"))),
    ],
)
def test_a_tombstone_is_about_its_key(policy: str, command: Command) -> None:
    for key in (b"C-1", b" C-1 ", b'"C-1"'):
        assert planned(policy, key, None) == Plan([command])
    assert planned("ignore", b"C-1", None) == Skipped("tombstone")


@pytest.mark.parametrize("policy", ["suppress", "erase"])
@pytest.mark.parametrize(
    "key", [None, b"", b" ", b"\xff", b'{"id":1}', b'["a"]', b'"a', b"\0\0\0\0\1C-1"]
)
def test_a_tombstone_of_nobody_is_a_fault(policy: str, key: bytes | None) -> None:
    outcome = planned(policy, key, None)
    assert isinstance(outcome, Dead)
    assert outcome.reason == "no_identifier"
    assert planned("ignore", key, None) == Skipped("tombstone")


def test_a_tombstone_behind_a_row_that_a_mapping_reads_is_none() -> None:
    """Debezium writes one behind each delete; its key is a row's, not a customer's."""
    table = {"from_topic": "db.customers", "to": "customer.updated"}
    fields = {"fields": {"customer": {"id": "text(id)"}}}
    mappings, faults = read({"rows": table | fields})
    assert not faults
    planner = Planner(Context(deletes="erase"), mappings)
    record = Record("db.customers", 0, 1, 0, b"7", None)
    assert planner.plan(record) == Skipped("tombstone")
    other = Record("shop.customers", 0, 1, 0, b"C-1", None)
    assert planner.plan(other) == Plan([EraseProfile(Identity("C-1"))])


@pytest.mark.parametrize("policy", ["ignore", "suppress", "erase"])
def test_a_deletion_of_nobody_is_a_fault(policy: str) -> None:
    outcome = planned(policy, None, deleted(email="n/a"))
    assert isinstance(outcome, Dead)
    assert outcome.reason == "no_identifier"


def test_an_erasure_has_exactly_one_identifier() -> None:
    data = orjson.loads(privacy.deletion("01H"))["data"]["attributes"]["profile"]["data"]
    assert data == {"type": "profile", "id": "01H", "attributes": {}}
