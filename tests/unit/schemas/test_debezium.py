"""Change rows of a table: bare, in Connect's envelope, deletes, tombstones."""

import json
from typing import Any

import pytest

from pipeline.demo import foreign
from schemas.envelope import decode
from schemas.event import Context, Plan, Skipped
from schemas.events.customer_deleted import CustomerDeleted
from schemas.mapping import NO_MAPPINGS, Mapped
from tests.shops import ROW, change, mappings

TOPIC = "crm.public.customers"
BURIED = """
[mapping.gone]
from_topic = "crm"
to = "customer.deleted"
tombstones = true
[mapping.gone.fields]
customer.id = "text(id || @)"
[mapping.rows]
from_topic = "crm"
to = "customer.updated"
[mapping.rows.fields]
customer.id = "text(id)"
"""


def read(message: object, *, mapped: bool = True) -> Any:
    of = foreign.mappings() if mapped else NO_MAPPINGS
    return decode(json.dumps(message).encode(), (), b'{"id":1}', of.of(TOPIC))


@pytest.mark.parametrize("op", ["c", "u", "r"])
@pytest.mark.parametrize("enveloped", [True, False])
def test_rows(op: str, enveloped: bool) -> None:
    row: dict[str, Any] = change(op, None, ROW)
    made = read({"schema": {"type": "struct"}, "payload": row} if enveloped else row)
    assert isinstance(made, Mapped)
    planned = made.commands(Context(), 0)
    assert isinstance(planned, Plan)
    (update,) = planned.commands
    assert update.identity.names() == ("i:1004", "e:anne@shop.dev")
    assert made.event.occurred_at == "2026-11-01T10:00:00Z"


@pytest.mark.parametrize("enveloped", [True, False])
def test_deletes(enveloped: bool) -> None:
    """A delete's row may hold the key alone, as Postgres sends it by default."""
    row: dict[str, Any] = change("d", {"id": 1004}, None)
    made = read({"schema": None, "payload": row} if enveloped else row)
    assert isinstance(made.event, CustomerDeleted)
    assert made.event.customer.id == "1004"


@pytest.mark.parametrize("op", ["t", "m"])
def test_what_changes_no_row_is_skipped(op: str) -> None:
    assert read(change(op, None, None)) == Skipped("unknown_type")


def test_without_a_mapping_rows_are_skipped() -> None:
    assert read(change("u", ROW, ROW), mapped=False) == Skipped("unknown_type")


def test_tombstones_are_skipped() -> None:
    of = foreign.mappings().of(TOPIC)
    assert decode(None, (), b'{"id":1}', of) == Skipped("tombstone")
    assert read({"schema": None, "payload": None}) == Skipped("tombstone")


@pytest.mark.parametrize(
    "key", [b'{"id":7}', b'{"schema":{},"payload":{"id":7}}', b"7", b'"7"']
)
def test_tombstones_by_their_key(key: bytes) -> None:
    made = decode(None, (), key, mappings(BURIED).of("crm"))
    assert isinstance(made, Mapped)
    assert isinstance(made.event, CustomerDeleted)
    assert made.event.customer.id == "7"


def test_a_tombstones_key_may_be_plain_text_or_missing() -> None:
    of = mappings(BURIED).of("crm")
    made = decode(None, (), b"C-7", of)
    assert isinstance(made, Mapped)
    assert isinstance(made.event, CustomerDeleted)
    assert made.event.customer.id == "C-7"
    assert decode(None, (), None, of) == Skipped("tombstone")


def test_flattened_rows_are_messages_as_any_other() -> None:
    made = decode(b'{"id":7,"op":"t"}', (), None, mappings(BURIED).of("crm"))
    assert isinstance(made, Mapped)
    assert made.mapping.name == "rows"
