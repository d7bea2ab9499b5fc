"""Whatever the planner makes of a record, Klaviyo takes it: singly and in bulk.

Records here are as bad as the right JSON types allow: too long, too deep, too many, out
of time. The sandbox judges, for the revisions people ask for, by the official structure
and by the documented limits.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.sandbox.account import Account, Asked
from pipeline.sandbox.clock import HeldClock
from pipeline.sandbox.settings import Settings
from pipeline.sandbox.validate import loads
from pipeline.sandbox.wire import Refused
from schemas import bulk_events, bulk_profiles
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
from schemas.event import Context, Event, Plan, Rejected
from schemas.weight import lighter

NOW = 1_795_392_000.0  # s; 2026-11-23
RECORD = 1_795_391_000_000  # ms
FEW = 4  # commands looked at: an order of thousands of lines has thousands
REVISIONS = ("2025-01-15", "2026-07-15")

WORD = st.text(max_size=8)
LONG = st.builds(
    lambda word, times: word * times,
    st.text(min_size=1, max_size=3),
    st.sampled_from([1, 999, 5_001, 33_400, 101_000]),
)
NUMBER = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)


def deep(value: Any, levels: int) -> Any:
    for level in range(levels):
        value = {"in": value} if level % 2 else [value]
    return value


ANYTHING = st.one_of(
    st.none() | st.booleans() | NUMBER | WORD | LONG,
    st.builds(deep, LONG | NUMBER, st.integers(0, 14)),
    st.builds(lambda v, times: [v] * times, WORD | NUMBER, st.integers(0, 4_005)),
    st.dictionaries(WORD, WORD | NUMBER, max_size=4),
)
OWN = st.builds(
    lambda own, more: {**{f"p{n}": n for n in range(more)}, **own},
    st.dictionaries(WORD, ANYTHING, max_size=5),
    st.sampled_from([0, 0, 290, 399, 450]),
)
TIME = st.none() | st.sampled_from(
    ["2026-11-01T10:00:00Z", "1999-12-31T23:59:59Z", "2027-12-01T00:00:00Z", "x", ""]
)
TEXT = st.none() | WORD | LONG
PERSON = st.fixed_dictionaries(
    {"id": st.text(min_size=1, max_size=12).filter(str.strip)},
    optional={
        "email": st.sampled_from(["ada@shop.dev", "a..b@shop.dev", "@", "Ü@shop.dev", ""])
        | st.emails(),
        "phone": st.sampled_from(["+12025550123", "+1202555012", "0", "+49 30 901820"]),
        "first_name": TEXT,
        "last_name": TEXT,
    },
)
PLACE = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("address1", "city", "zip", "country"), TEXT)
)
CUSTOMER = st.builds(
    lambda person, more: {**person, **more},
    PERSON,
    st.fixed_dictionaries(
        {},
        optional={
            "locale": st.sampled_from(["en-US", "de_DE.UTF-8", "english", "x" * 300]),
            "image_url": st.sampled_from(["HTTPS://shop.dev/a", "http://", "//a", "ü"]),
            "title": TEXT,
            "company": TEXT,
            "address": st.none() | PLACE,
            "custom_fields": OWN,
        },
    ),
)
AMOUNT = st.none() | st.sampled_from(["1e40", "n/a", "12.30", "-0", 10**30, 1e-300, 7])
LINE = st.fixed_dictionaries(
    {},
    optional={
        "id": WORD | st.just("x" * 400),
        "name": TEXT,
        "quantity": AMOUNT,
        "price": AMOUNT,
        "categories": st.lists(WORD, max_size=2),
        "properties": OWN,
    },
)
ORDER = st.fixed_dictionaries(
    {"id": st.sampled_from(["O-1", "O" * 300]), "customer": PERSON},
    optional={
        "total": AMOUNT,
        "currency": st.sampled_from(["usd", "EURO", ""]),
        "discount_codes": st.lists(LONG, max_size=2),
        "lines": st.lists(LINE, max_size=3),
        "properties": OWN,
    },
)


class Klaviyo:
    """A sandbox that is asked without a network."""

    def __init__(self, revision: str) -> None:
        self.revision = revision
        self.account = Account(
            HeldClock(NOW), Settings(limits=False, identity="merge"), 1
        )

    def post(self, path: str, body: bytes) -> None:
        """Raise `Refused` for what Klaviyo does not take."""
        value, fault = loads(body)
        headers = {
            "Authorization": "Klaviyo-API-Key pk_test",
            "Content-Type": "application/vnd.api+json",
            "revision": self.revision,
        }
        asked = Asked("POST", path, headers, {}, "http://klaviyo", body, value, fault)
        self.account.answer(asked, self.account.admit(asked), 1)


def commands(message: dict[str, Any], revision: str) -> list[Command]:
    context = Context(
        default_country="US", most_properties=wire.most_properties(revision)
    )
    event = decode(json.dumps(message).encode(), ())
    assert isinstance(event, Event)
    planned = event.commands(context, RECORD)
    assert isinstance(planned, Plan | Rejected)
    return planned.commands if isinstance(planned, Plan) else []


def requests(command: Command, revision: str) -> Iterator[tuple[str, bytes]]:
    """All the ways in which a command may go out."""
    match command:
        case UpsertProfile():
            if (found := lighter(command, revision)) is not None:
                command, lost = found
                assert lost
            yield "/api/profile-import", wire.profile_import(command, revision)
            if bulk_profiles.able(command):
                rows = [wire.profile(command, revision)]
                yield "/api/profile-bulk-import-jobs", bulk_profiles.body(rows)
        case CreateEvent():
            yield "/api/events", wire.event(command, revision)
            person, row = bulk_events.person(command), bulk_events.rows([command])
            yield "/api/event-bulk-create-jobs", bulk_events.body([person], [row])
        case ChangeConsent() | SuppressProfile() | EraseProfile():
            raise AssertionError("asked for by nobody here")


def accepted(message: dict[str, Any], revision: str) -> None:
    klaviyo = Klaviyo(revision)
    for command in commands(message, revision)[:FEW]:
        for path, body in requests(command, revision):
            try:
                klaviyo.post(path, body)
            except Refused as refused:
                told = [(one.pointer, one.detail) for one in refused.problems]
                pytest.fail(f"{path} at {revision}: {refused.status} {told}")
    # What is accepted and then dropped without a word counts as refused.
    assert not klaviyo.account.state.losses
    assert all(not job.failed for job in klaviyo.account.state.imports.values())


BAD = settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@BAD
@given(customer=CUSTOMER, revision=st.sampled_from(REVISIONS))
def test_profiles_are_accepted(customer: dict[str, Any], revision: str) -> None:
    accepted({"type": "customer.updated", "customer": customer}, revision)


@BAD
@given(
    kind=st.sampled_from(["placed", "fulfilled", "cancelled", "refunded"]),
    order=ORDER,
    time=TIME,
    revision=st.sampled_from(REVISIONS),
)
def test_events_are_accepted(
    kind: str, order: dict[str, Any], time: str | None, revision: str
) -> None:
    message = {"type": f"order.{kind}", "occurred_at": time, "order": order}
    accepted(message, revision)


@pytest.mark.parametrize("revision", REVISIONS)
def test_the_largest_of_everything_is_accepted(revision: str) -> None:
    own = {f"p{n}": ["x" * 90_000] * 4 for n in range(16)} | {"deep": deep(1, 50)}
    order = {
        "id": "O" * 400,
        "customer": {
            "id": "C-1",
            "first_name": "\u0001" * 16_000,  # 96 KB as JSON
            "last_name": "ü" * 5_000,
        },
        "lines": [{"id": str(n), "name": "y" * 300} for n in range(4_200)],
        "properties": own,
    }
    time = "2031-01-01T00:00:00Z"
    accepted({"type": "order.placed", "occurred_at": time, "order": order}, revision)
    customer = {
        "id": "C-1",
        "title": "z" * 60_000,
        "address": {"city": "z" * 60_000},
        "custom_fields": own | {f"q{n}": None for n in range(14_000)},
    }
    accepted({"type": "customer.updated", "customer": customer}, revision)
