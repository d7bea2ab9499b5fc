"""An event that is older than the rule says is history; nothing else is."""

import json
from typing import Any

import pytest

from pipeline.forward.plan import Planner
from pipeline.records import Record
from schemas.commands import CreateEvent
from schemas.event import Context, Plan

NOW = 1_795_392_000.0  # 2026-11-23T00:00:00Z
DAY = 86_400.0


class Held:
    def now(self) -> float:
        return NOW

    def monotonic(self) -> float:
        return 0.0


def marks(
    message: dict[str, Any], after: float | None, *, all_of_it: bool = False
) -> Any:
    """Of each event the record makes, whether it is history."""
    context = Context(backfill=all_of_it, backfill_after=after)
    value = json.dumps(message).encode()
    # The record itself is of now: what counts is the event's own time.
    record = Record("t", 0, 0, int(NOW * 1000), b"k", value)
    plan = Planner(context, clock=Held()).plan(record)
    assert isinstance(plan, Plan)
    return {c.backfill for c in plan.commands if isinstance(c, CreateEvent)}


def order(at: str) -> dict[str, Any]:
    lines = [{"id": "1", "quantity": 1, "price": "1.00"}]
    body = {"id": "O", "total": "1.00", "customer": {"id": "C"}, "lines": lines}
    return {"type": "order.placed", "occurred_at": at, "order": body}


@pytest.mark.parametrize(
    ("at", "history"),
    [
        ("2026-11-22T00:00:00Z", False),  # not more than a day ago
        ("2026-11-21T23:59:59Z", True),
        ("2026-11-21T23:59:59.999999Z", True),
        ("2026-11-22T00:30:00+01:00", True),  # the same moment, another zone
        ("2026-11-21T23:30:00-01:00", False),
        ("2026-12-24T00:00:00Z", False),
        ("2001-01-01T00:00:00Z", True),
        ("nonsense", False),  # the record's own time stands in
    ],
)
def test_what_happened_longer_ago_is_history(at: str, history: bool) -> None:
    assert marks(order(at), DAY) == {history}


def test_without_the_rule_nothing_is_history_however_old() -> None:
    assert marks(order("2001-01-01T00:00:00Z"), None) == {False}


def test_a_backfill_marks_all_whatever_the_rule_says() -> None:
    assert marks(order("2026-11-22T23:59:00Z"), DAY, all_of_it=True) == {True}


def test_a_profile_is_state_and_has_no_history() -> None:
    message = {"type": "customer.updated", "customer": {"id": "C", "first_name": "A"}}
    assert marks({**message, "occurred_at": "2001-01-01T00:00:00Z"}, DAY) == set()
