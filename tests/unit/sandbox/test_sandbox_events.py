"""Events: what is recorded, once, and what is refused whole."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from pipeline.sandbox import HeldClock, Sandbox

Ask = Callable[..., Awaitable[tuple[int, Any, Mapping[str, str]]]]
EVENTS, BULK = "/api/events", "/api/event-bulk-create-jobs"
TOP = "/data/attributes/events-bulk-create/data"


def happening(**attributes: object) -> dict[str, Any]:
    metric = {"type": "metric", "attributes": {"name": attributes.pop("metric", "Order")}}
    return {"properties": {}, "metric": {"data": metric}, **attributes}


def event(person: dict[str, Any] | None = None, **attributes: object) -> dict[str, Any]:
    data = {"type": "profile", "attributes": person or {"email": "a@b.co"}}
    inner = {**happening(**attributes), "profile": {"data": data}}
    return {"data": {"type": "event", "attributes": inner}}


def bulk(*groups: tuple[dict[str, Any], list[dict[str, Any]]]) -> dict[str, Any]:
    entries = [
        {
            "type": "event-bulk-create",
            "attributes": {
                "profile": {"data": {"type": "profile", "attributes": person}},
                "events": {"data": [{"type": "event", "attributes": e} for e in events]},
            },
        }
        for person, events in groups
    ]
    inner = {"events-bulk-create": {"data": entries}}
    return {"data": {"type": "event-bulk-create-job", "attributes": inner}}


async def recorded(ask: Ask) -> list[dict[str, Any]]:
    _, answer, _ = await ask("GET", "/sandbox/events")
    found: list[dict[str, Any]] = answer["data"]
    return found


async def test_an_event_is_accepted_without_a_word(ask: Ask) -> None:
    body = event(
        {"email": "a@b.co", "first_name": "A"},
        unique_id="O-1",
        value=35.5,
        value_currency="USD",
        time="2026-11-01T10:00:00.9+01:00",
        properties={"OrderId": "O-1", "zero": 0},
    )
    status, answer, _ = await ask("POST", EVENTS, body)
    assert (status, answer) == (202, None)
    (found,) = await recorded(ask)
    assert (found["metric"], found["unique_id"], found["value"]) == ("Order", "O-1", 35.5)
    assert found["time"] == 1_793_523_600
    assert found["properties"] == {"OrderId": "O-1", "zero": 0}
    _, listed, _ = await ask("GET", f"{EVENTS}?include=metric,profile")
    (shown,) = listed["data"]
    # 0 counts as not set, the value is read as $value.
    assert shown["attributes"]["event_properties"] == {
        "OrderId": "O-1",
        "$event_id": "O-1",
        "$value": 35.5,
        "$value_currency": "USD",
    }
    assert shown["attributes"]["datetime"] == "2026-11-01T09:00:00+00:00"
    metric, profile = listed["included"]
    assert metric["attributes"]["name"] == "Order"
    assert profile["attributes"]["first_name"] == "A"


async def test_the_first_of_a_unique_id_wins(ask: Ask) -> None:
    await ask("POST", EVENTS, event(unique_id="1", value=1))
    await ask("POST", EVENTS, event(unique_id="1", value=2))
    await ask("POST", EVENTS, event(unique_id="1", metric="Other"))
    await ask("POST", EVENTS, event({"email": "b@b.co"}, unique_id="1"))
    found = [(e["metric"], e["value"]) for e in await recorded(ask)]
    assert found == [("Order", 1), ("Other", None), ("Order", None)]
    _, violations, _ = await ask("GET", "/sandbox/violations")
    assert violations["duplicates_sent"] == 1
    assert violations["repeated"][0][2] == "1"


async def test_without_unique_id_one_event_a_second(ask: Ask, clock: HeldClock) -> None:
    await ask("POST", EVENTS, event())
    clock.advance(0.5)
    await ask("POST", EVENTS, event())
    clock.advance(0.5)
    await ask("POST", EVENTS, event())
    assert len(await recorded(ask)) == 2


async def test_an_event_moves_updated_and_last_event_date(
    ask: Ask, clock: HeldClock
) -> None:
    await ask("POST", EVENTS, event(time="2026-11-01T10:00:00Z"))
    clock.advance(3)
    await ask("POST", EVENTS, event(time="2026-10-01T10:00:00Z"))
    _, answer, _ = await ask("GET", "/api/profiles")
    shown = answer["data"][0]["attributes"]
    assert shown["updated"] == "2026-11-23T00:00:03+00:00"
    assert shown["last_event_date"] == "2026-11-01T10:00:00+00:00"


@pytest.mark.parametrize(
    ("attributes", "field"),
    [
        ({"value": "35.50"}, "value"),
        ({"value_currency": "usd"}, "value_currency"),
        ({"time": "yesterday"}, "time"),
        ({"time": 1_700_000_000}, "time"),
        ({"time": "2028-01-01T00:00:00Z"}, "time"),
        ({"time": "1989-12-31T23:59:59Z"}, "time"),
        ({"time": ""}, "time"),
        ({"unique_id": ""}, "unique_id"),
        ({"unique_id": "x" * 256}, "unique_id"),
        ({"metric": "x" * 128}, "metric/data/attributes/name"),
        ({"metric": ""}, "metric/data/attributes/name"),
        ({"properties": {str(i): i for i in range(401)}}, "properties"),
        ({"properties": {"x": "y" * 100_001}}, "properties"),
        ({"properties": {"x": [0] * 4001}}, "properties"),
        ({"properties": {"x": 2**63}}, "properties"),
    ],
)
async def test_a_bad_event_is_refused(
    ask: Ask, attributes: dict[str, Any], field: str
) -> None:
    status, answer, _ = await ask("POST", EVENTS, event(**attributes))
    assert status == 400
    pointers = [e["source"]["pointer"] for e in answer["errors"]]
    assert pointers == [f"/data/attributes/{field}"]
    assert await recorded(ask) == []


@pytest.mark.parametrize(("depth", "status"), [(10, 202), (11, 400)])
async def test_properties_nest_ten_deep(ask: Ask, depth: int, status: int) -> None:
    value: Any = 1
    for _ in range(depth - 1):
        value = {"x": value}
    assert (await ask("POST", EVENTS, event(properties={"x": value})))[0] == status


@pytest.mark.parametrize(
    ("revision", "time", "count", "status"),
    [
        ("2026-07-15", "1991-01-01T00:00:00Z", 400, 202),
        ("2026-04-15", "1991-01-01T00:00:00Z", 1, 400),
        ("2025-04-15", "2001-01-01T00:00:00Z", 400, 202),
        ("2025-01-15", "2001-01-01T00:00:00Z", 301, 400),
    ],
)
async def test_limits_depend_on_the_revision(
    ask: Ask, revision: str, time: str, count: int, status: int
) -> None:
    body = event(time=time, properties={str(i): i for i in range(count)})
    assert (await ask("POST", EVENTS, body, revision=revision))[0] == status


async def test_test_domains_are_accepted_and_dropped(ask: Ask, sandbox: Sandbox) -> None:
    assert (await ask("POST", EVENTS, event({"email": "x@example.com"})))[0] == 202
    assert await recorded(ask) == []
    assert [loss["reason"] for loss in sandbox.state.losses] == ["test_domain"]


async def test_chosen_events_are_accepted_and_lost(ask: Ask, sandbox: Sandbox) -> None:
    assert (await ask("PUT", "/sandbox/settings", {"lost_events": ["O-1"]}))[0] == 200
    for unique_id in ("O-1", "O-2"):
        assert (await ask("POST", EVENTS, event(unique_id=unique_id)))[0] == 202
    assert [found["unique_id"] for found in await recorded(ask)] == ["O-2"]
    assert [loss["reason"] for loss in sandbox.state.losses] == ["lost_event"]


async def test_a_bad_phone_counts_only_without_an_email(
    ask: Ask, sandbox: Sandbox
) -> None:
    status, answer, _ = await ask("POST", EVENTS, event({"phone_number": "+1"}))
    assert status == 400
    pointer = "/data/attributes/profile/data/attributes/phone_number"
    assert answer["errors"][0]["source"]["pointer"] == pointer
    beside = {"phone_number": "+1", "email": "a@b.co"}
    assert (await ask("POST", EVENTS, event(beside)))[0] == 202
    (profile,) = sandbox.state.profiles
    assert profile.identifiers == {"email": "a@b.co"}


async def test_a_bulk_request_is_accepted_whole(ask: Ask) -> None:
    body = bulk(
        ({"email": "a@b.co"}, [happening(unique_id="1"), happening(unique_id="2")]),
        ({"external_id": "C-2"}, [happening(unique_id="1")]),
    )
    status, answer, _ = await ask("POST", BULK, body)
    assert (status, answer) == (202, None)
    assert len(await recorded(ask)) == 3
    _, log, _ = await ask("GET", "/sandbox/requests")
    assert log["data"][0]["rows"] == 3


async def test_a_bulk_request_is_refused_whole(ask: Ask) -> None:
    body = bulk(
        ({"email": "a@b.co"}, [happening(unique_id="1")]),
        ({"email": "bad"}, [happening(unique_id="2", time="x"), happening()]),
    )
    status, answer, _ = await ask("POST", BULK, body)
    assert status == 400
    assert [e["source"]["pointer"] for e in answer["errors"]] == [
        f"{TOP}/1/attributes/profile/data/attributes/email",
        f"{TOP}/1/attributes/events/data/0/attributes/time",
    ]
    assert await recorded(ask) == []


async def test_a_repeated_unique_id_refuses_a_bulk_request(
    ask: Ask, sandbox: Sandbox
) -> None:
    body = bulk(
        ({"email": "a@b.co"}, [happening(unique_id="1")]),
        ({"email": "a@b.co"}, [happening(unique_id="1", metric="Other")]),
        ({"email": "a@b.co"}, [happening(unique_id="1")]),
    )
    status, answer, _ = await ask("POST", BULK, body, revision="2025-01-15")
    assert status == 400
    (error,) = answer["errors"]
    pointer = f"{TOP}/2/attributes/events/data/0/attributes/unique_id"
    assert error["source"]["pointer"] == pointer
    # Before 2025-01-15 the repeat was discarded afterwards.
    sandbox.settings = sandbox.settings.changed({"today": "2024-12-01"})
    assert (await ask("POST", BULK, body, revision="2024-10-15"))[0] == 202
    assert len(await recorded(ask)) == 2


async def test_a_bulk_request_has_a_thousand_events(ask: Ask) -> None:
    many = [happening(unique_id=str(i)) for i in range(1001)]
    assert (await ask("POST", BULK, bulk(({"email": "a@b.co"}, many))))[0] == 400
    assert (await ask("POST", BULK, bulk(({"email": "a@b.co"}, many[1:]))))[0] == 202
    assert (await ask("POST", BULK, bulk()))[0] == 400


async def test_events_may_arrive_late(
    ask: Ask, sandbox: Sandbox, clock: HeldClock
) -> None:
    sandbox.settings = sandbox.settings.changed({"event_delay": 30})
    await ask("POST", EVENTS, event())
    assert await recorded(ask) == []
    clock.advance(30)
    assert len(await recorded(ask)) == 1


async def test_events_can_be_kept_small(ask: Ask, sandbox: Sandbox) -> None:
    sandbox.settings = sandbox.settings.changed({"keep_events": 1})
    for name in "12":
        await ask("POST", EVENTS, event(unique_id=name, properties={"x": 1}))
    assert [e["properties"] for e in await recorded(ask)] == [{"x": 1}, {}]


async def test_merged_profiles_keep_their_events(ask: Ask, sandbox: Sandbox) -> None:
    sandbox.settings = sandbox.settings.changed({"identity": "merge"})
    await ask("POST", EVENTS, event({"email": "a@b.co"}, unique_id="1"))
    await ask("POST", EVENTS, event({"external_id": "C-1"}, unique_id="2"))
    both = event({"email": "a@b.co", "external_id": "C-1"}, unique_id="3")
    await ask("POST", EVENTS, both)
    (profile,) = sandbox.state.profiles
    assert {e["profile_id"] for e in await recorded(ask)} == {profile.id}
    assert sandbox.state.events.count == 3
