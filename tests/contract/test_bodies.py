"""Every body we can make fits Klaviyo's official document of the revision served.

The structures under pipeline/sandbox/structure are derived from the official documents
and stricter than them: a field that a document does not name is refused.
"""

import os
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.sandbox.structure import derive
from pipeline.sandbox.structure.load import REVISIONS, operations, validator
from schemas import bulk_events, privacy
from schemas import klaviyo as wire
from schemas.commands import (
    ChangeConsent,
    Command,
    CreateEvent,
    EraseProfile,
    SuppressProfile,
    UpsertProfile,
)
from schemas.envelope import decode
from schemas.event import Context, Event, Plan
from schemas.registry import EVENT_TYPES

SPOKEN = [revision for revision in REVISIONS if revision >= wire.OLDEST_SPOKEN]
TEXT = st.text(max_size=12)
MAYBE = st.none() | TEXT
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
MONEY = st.none() | st.decimals(-1000, 1000, places=2).map(str) | st.just("n/a")
ADDRESS = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("address1", "city", "region", "zip", "country"), MAYBE),
)
CUSTOMER = st.fixed_dictionaries(
    {"id": st.text(min_size=1, max_size=12)},
    optional={
        "email": st.sampled_from(["ada@shop.dev", " Ada@Shop.DEV", "no", None]),
        "phone": st.sampled_from(["+12025550123", "202 555 0123", "x", None]),
        "first_name": MAYBE,
        "last_name": MAYBE,
        "company": MAYBE,
        "locale": st.sampled_from(["en-US", "en_GB", "??", None]),
        "title": MAYBE,
        "image_url": st.sampled_from(["https://shop.dev/a.png", "ftp://x", None]),
        "address": st.none() | ADDRESS,
        "custom_fields": st.dictionaries(TEXT, JSON, max_size=4),
    },
)
LINE = st.fixed_dictionaries(
    {},
    optional={
        "id": TEXT,
        "product_id": TEXT,
        "sku": TEXT,
        "name": TEXT,
        "quantity": st.integers(0, 9),
        "price": MONEY,
        "total": MONEY,
        "brand": TEXT,
        "categories": st.lists(TEXT, max_size=3),
        "properties": st.dictionaries(TEXT, JSON, max_size=2),
    },
)
ORDER = st.fixed_dictionaries(
    {"id": st.text("abcO-1", min_size=1, max_size=300), "customer": CUSTOMER},
    optional={
        "number": TEXT,
        "currency": st.sampled_from(["USD", "eur", "dollars"]),
        "total": MONEY,
        "discount_codes": st.lists(TEXT, max_size=2),
        "billing_address": ADDRESS,
        "lines": st.lists(LINE, max_size=3),
        "properties": st.dictionaries(TEXT, JSON, max_size=3),
    },
)


def commands(message: dict[str, Any]) -> list[Command]:
    event = decode(orjson.dumps(message), ())
    if not isinstance(event, Event):
        return []
    planned = event.commands(Context(default_country="US"), 1_780_000_000_000)
    return planned.commands if isinstance(planned, Plan) else []


def faults(command: Command, revision: str, *, bulk: bool = False) -> list[str]:
    operation, body = "", b""
    match command:
        case UpsertProfile():
            operation, body = (
                "POST /api/profile-import",
                wire.profile_import(command, revision),
            )
        case CreateEvent() if bulk:
            operation = "POST /api/event-bulk-create-jobs"
            body = bulk_events.body(
                [bulk_events.person(command)], [bulk_events.rows([command])]
            )
        case CreateEvent():
            operation, body = "POST /api/events", wire.event(command, revision)
        case SuppressProfile():
            operation = "POST /api/profile-suppression-bulk-create-jobs"
            body = privacy.suppression([command.identity.email or ""])
        case EraseProfile():
            operation = "POST /api/data-privacy-deletion-jobs"
            body = privacy.deletion("01ARZ3NDEKTSV4RRFFQ69G5FAV")
        case ChangeConsent():
            raise AssertionError("only with consent.writes")
    return misfits(operation, body, revision)


def misfits(operation: str, body: bytes, revision: str) -> list[str]:
    structure = validator(revision, operation)
    assert structure is not None, f"{operation} takes no body at {revision}"
    return [str(error) for error in structure.iter_errors(orjson.loads(body))]


@settings(max_examples=150)
@given(
    kind=st.sampled_from(["customer.created", "customer.updated"]),
    customer=CUSTOMER,
    revision=st.sampled_from(SPOKEN),
)
def test_profile_bodies_fit(kind: str, customer: dict[str, Any], revision: str) -> None:
    for command in commands({"type": kind, "customer": customer}):
        assert not faults(command, revision)


@settings(max_examples=150)
@given(
    kind=st.sampled_from(
        ["order.placed", "order.fulfilled", "order.cancelled", "order.refunded"]
    ),
    order=ORDER,
    revision=st.sampled_from(SPOKEN),
)
def test_event_bodies_fit(kind: str, order: dict[str, Any], revision: str) -> None:
    for command in commands({"type": kind, "order": order}):
        assert not faults(command, revision)


@pytest.mark.parametrize("revision", SPOKEN)
@pytest.mark.parametrize("name", sorted(EVENT_TYPES))
def test_every_example_fits_every_revision(name: str, revision: str) -> None:
    for example in EVENT_TYPES[name].examples:
        for command in commands(orjson.loads(example)):
            assert not faults(command, revision)


@pytest.mark.parametrize("revision", REVISIONS)
def test_the_ends_of_customers_and_merges_fit_every_revision(revision: str) -> None:
    """These bodies are the same in all, the oldest included."""
    bodies = {
        "data-privacy-deletion-jobs": privacy.deletion("01H"),
        "profile-suppression-bulk-create-jobs": privacy.suppression(
            [f"c{n}@shop.dev" for n in range(privacy.LARGEST)]
        ),
        "profile-merge": privacy.merge("01H", "01J"),
    }
    for path, body in bodies.items():
        assert not misfits(f"POST /api/{path}", body, revision)


@pytest.mark.parametrize(
    ("revision", "bulk"),
    [(revision, False) for revision in SPOKEN]
    + [(revision, True) for revision in SPOKEN if revision >= bulk_events.SINCE],
)
def test_history_fits_where_it_is_known_and_nowhere_else(
    revision: str, bulk: bool
) -> None:
    """An older revision refuses it: better a refusal than a message to a customer."""
    example = next(iter(EVENT_TYPES["order.placed"].examples))
    for command in commands(orjson.loads(example)):
        if isinstance(command, CreateEvent):
            command.backfill = True
            known = not faults(command, revision, bulk=bulk)
            assert known == (revision >= wire.BACKFILL_SINCE)


def test_a_field_that_no_document_names_is_seen() -> None:
    """The net has no hole: this suite can fail."""
    (command,) = commands({"type": "customer.created", "customer": {"id": "C"}})
    assert isinstance(command, UpsertProfile)
    command.attributes["nickname"] = "x"
    assert all(faults(command, revision) for revision in SPOKEN)


@pytest.mark.skipif(
    "KLAVIYO_OPENAPI" not in os.environ,
    reason="KLAVIYO_OPENAPI names no folder of official documents to derive from",
)
def test_the_structures_are_those_of_the_official_documents() -> None:
    folder = Path(os.environ["KLAVIYO_OPENAPI"])
    for revision in REVISIONS:
        document = orjson.loads((folder / f"{revision}.json").read_bytes())
        fresh = {o["name"]: o for o in derive.derive(document)["operations"]}
        assert {o.name for o in operations(revision).values()} == set(fresh)
