"""Requests about consent and lists fit Klaviyo's official document of each revision."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.sandbox.structure.load import REVISIONS, validator
from schemas import subscriptions
from schemas.subscriptions import Row

SUBSCRIBE = "POST /api/profile-subscription-bulk-create-jobs"
UNSUBSCRIBE = "POST /api/profile-subscription-bulk-delete-jobs"
ADDRESSES = {"email": "ada@shop.dev", "sms": "+12025550123"}
ROW = "/data/attributes/profiles/data/3/attributes"
LIST_REQUIRED = "2023-10-15"  # the only one in which a subscription needs a list

CHANNELS = st.lists(st.sampled_from(["email", "sms"]), min_size=1, unique=True)
ROWS = st.lists(CHANNELS, min_size=1, max_size=3)


def faults(operation: str, body: bytes, revision: str) -> list[str]:
    structure = validator(revision, operation)
    assert structure is not None, f"{operation} takes no body at {revision}"
    return [str(error) for error in structure.iter_errors(orjson.loads(body))]


def rows_of(channels: list[list[Any]], at: str | None = None) -> list[Row]:
    return [
        Row(
            {name: ADDRESSES[name] for name in each},
            dict.fromkeys(each, at) if at else {},
        )
        for each in channels
    ]


@settings(max_examples=100)
@given(
    channels=ROWS,
    group=st.none() | st.just("LiStId"),
    history=st.booleans(),
    revision=st.sampled_from(REVISIONS),
)
def test_subscribe(
    channels: list[list[Any]], group: str | None, revision: str, *, history: bool
) -> None:
    history = history and subscriptions.historical(revision)
    group = "LiStId" if revision == LIST_REQUIRED else group
    rows = rows_of(channels, "2026-10-01T00:00:00Z" if history else None)
    body = subscriptions.subscribe(rows, group, source="the shop", history=history)
    assert not faults(SUBSCRIBE, body, revision)


@settings(max_examples=50)
@given(channels=ROWS, revision=st.sampled_from(REVISIONS))
def test_unsubscribe(channels: list[list[Any]], revision: str) -> None:
    body = subscriptions.unsubscribe(rows_of(channels), revision)
    assert not faults(UNSUBSCRIBE, body, revision)
    assert "relationships" not in orjson.loads(body)["data"], "from a list alone: never"


@pytest.mark.parametrize("revision", REVISIONS)
def test_lists(revision: str) -> None:
    members = subscriptions.members(["01J", "01K"])
    path = "/api/lists/{id}/relationships/profiles"
    assert not faults(f"POST {path}", members, revision)
    assert not faults(f"DELETE {path}", members, revision)
    assert not faults("POST /api/lists", subscriptions.new_list("VIP"), revision)


@pytest.mark.parametrize(
    ("revision", "most", "historical"),
    [
        ("2023-10-15", 100, False),
        ("2024-06-15", 100, False),
        ("2024-07-15", 1_000, True),
        ("2025-01-15", 1_000, True),
        ("2026-07-15", 1_000, True),
    ],
)
def test_what_a_job_may_hold(revision: str, most: int, *, historical: bool) -> None:
    assert subscriptions.subscribed(revision) == most
    assert subscriptions.historical(revision) is historical


@pytest.mark.parametrize(
    ("pointer", "place"),
    [
        ("/data/attributes/profiles/data/7/attributes/email", (7, "email", False)),
        ("/data/attributes/profiles/data/0/attributes/phone_number", (0, "sms", False)),
        (
            f"{ROW}/subscriptions/sms/marketing/consented_at",
            (3, "sms", True),
        ),
        ("/data/attributes/profiles/data/3/attributes", (3, None, False)),
        ("/data/12/id", (12, None, False)),
    ],
)
def test_what_a_pointer_names(pointer: str, place: tuple[Any, ...]) -> None:
    found = subscriptions.place(pointer)
    assert found is not None
    assert (found.row, found.channel, found.time) == place


@pytest.mark.parametrize("pointer", ["", "/data", "/data/relationships/list/data/id"])
def test_what_names_no_row(pointer: str) -> None:
    assert subscriptions.place(pointer) is None
