"""Commands as request bodies by the revision served; and what a refusal leaves."""

from typing import Any

import msgspec
import orjson
import pytest
from msgspec import Raw

from schemas import bulk_events, klaviyo
from schemas.commands import Command, CreateEvent, Identity, UpsertProfile

ADA = Identity("C-1", "ada@shop.dev", "+12025550123")
NEWEST = "2026-07-15"


def profile(**changes: object) -> UpsertProfile:
    fields: dict[str, Any] = {
        "identity": ADA,
        "attributes": {
            "title": "Dr",
            "locale": "en-US",
            "location": {"zip": "1", "city": None},
        },
        "properties": {"tier": "gold", "a/b": 1},
        "unset": frozenset({"z", "old", "b"}),
    }
    fields.update(changes)
    return UpsertProfile(**fields)


def event(**changes: object) -> CreateEvent:
    fields: dict[str, Any] = {
        "identity": ADA,
        "metric": "Placed Order",
        "unique_id": "O-1",
        "time": "2026-11-01T10:00:00Z",
        "properties": Raw(b'{"OrderId":"O-1"}'),
        "profile": {"first_name": "Ada"},
        "value": Raw(b"35.50"),
        "currency": "USD",
    }
    fields.update(changes)
    return CreateEvent(**fields)


def test_profile_import() -> None:
    assert orjson.loads(klaviyo.profile_import(profile(), NEWEST)) == {
        "data": {
            "type": "profile",
            "attributes": {
                "external_id": "C-1",
                "email": "ada@shop.dev",
                "phone_number": "+12025550123",
                "title": "Dr",
                "locale": "en-US",
                "location": {"zip": "1", "city": None},
                "properties": {"tier": "gold", "a/b": 1},
            },
            "meta": {"patch_properties": {"unset": ["b", "old", "z"]}},
        }
    }


def test_empty_parts_are_not_sent() -> None:
    bare = UpsertProfile(Identity(email="a@b.dev"), {}, {})
    assert orjson.loads(klaviyo.profile_import(bare, NEWEST)) == {
        "data": {"type": "profile", "attributes": {"email": "a@b.dev"}}
    }


def test_cleared_identifiers_are_null() -> None:
    cleared = UpsertProfile(Identity("C-1"), {"email": None, "phone_number": None}, {})
    assert orjson.loads(klaviyo.profile_import(cleared, NEWEST))["data"][
        "attributes"
    ] == {
        "external_id": "C-1",
        "email": None,
        "phone_number": None,
    }


@pytest.mark.parametrize(
    ("revision", "known"),
    [
        (klaviyo.OLDEST_SPOKEN, False),
        ("2024-06-15", False),
        ("2024-07-15", True),
        ("2025-01-15", True),
        (NEWEST, True),
        ("2026-10-15", True),
    ],
)
def test_fields_a_revision_does_not_know_are_not_sent(
    revision: str, *, known: bool
) -> None:
    attributes = orjson.loads(klaviyo.profile_import(profile(), revision))["data"][
        "attributes"
    ]
    assert ("locale" in attributes) is known
    assert "title" in attributes


def test_the_order_of_fields_does_not_matter_to_the_bytes() -> None:
    one = profile()
    other = profile(
        attributes=dict(reversed(one.attributes.items())),
        properties=dict(reversed(one.properties.items())),
        unset=frozenset(sorted(one.unset, reverse=True)),
    )
    assert klaviyo.profile_import(one, NEWEST) == klaviyo.profile_import(other, NEWEST)


def test_event() -> None:
    body = klaviyo.event(event(), NEWEST)
    assert b'"value":35.50,' in body
    assert orjson.loads(body) == {
        "data": {
            "type": "event",
            "attributes": {
                "properties": {"OrderId": "O-1"},
                "time": "2026-11-01T10:00:00Z",
                "unique_id": "O-1",
                "metric": {
                    "data": {"type": "metric", "attributes": {"name": "Placed Order"}}
                },
                "profile": {
                    "data": {
                        "type": "profile",
                        "attributes": {
                            "external_id": "C-1",
                            "email": "ada@shop.dev",
                            "phone_number": "+12025550123",
                            "first_name": "Ada",
                        },
                    }
                },
                "value": 35.5,
                "value_currency": "USD",
            },
        }
    }


def test_an_event_without_value() -> None:
    attributes = orjson.loads(klaviyo.event(event(value=None, currency=None), NEWEST))
    assert not {"value", "value_currency"} & attributes["data"]["attributes"].keys()


P = "/data/attributes/"
WHO = "/data/attributes/profile/data/attributes/"
FREE = "custom_fields"
PLAIN = {"title": "Dr", "locale": "en-US"}
NO_PHONE = Identity("C-1", "ada@shop.dev")
NO_EMAIL = Identity("C-1", None, "+12025550123")


@pytest.mark.parametrize(
    ("command", "pointer", "rest", "field"),
    [
        (profile(), P + "phone_number", {"identity": NO_PHONE}, "phone"),
        (profile(), P + "email", {"identity": NO_EMAIL}, "email"),
        (profile(attributes={"title": "Dr"}), P + "title", {"attributes": {}}, "title"),
        (
            profile(),
            P + "location/zip",
            {"attributes": {**PLAIN, "location": {"city": None}}},
            "address",
        ),
        (profile(), P + "location", {"attributes": PLAIN}, "address"),
        (
            profile(attributes={"location": {"zip": "1"}}),
            P + "location/zip",
            {"attributes": {}},
            "address",
        ),
        (
            profile(attributes={"email": None}, identity=Identity("C-1")),
            P + "email",
            {"attributes": {}},
            "email",
        ),
        (profile(), P + "properties/a~1b", {"properties": {"tier": "gold"}}, FREE),
        (profile(), P + "properties/tier/0", {"properties": {"a/b": 1}}, FREE),
        (profile(), P + "properties", {"properties": {}}, FREE),
        (profile(), "/data/meta/patch_properties/unset", {"unset": frozenset()}, FREE),
        (event(), WHO + "phone_number", {"identity": NO_PHONE}, "phone"),
        (event(), WHO + "first_name", {"profile": {}}, "first_name"),
        (
            event(),
            P + "properties/OrderId",
            {"properties": Raw(b'{"Truncated":["OrderId"]}')},
            "properties",
        ),
        (
            event(properties=Raw(b'{"OrderId":"O-1","a":1,"b":2}')),
            P + "properties",
            {"properties": Raw(b'{"OrderId":"O-1","a":1,"Truncated":["b"]}')},
            "properties",
        ),
        (  # what was cut before is still said
            event(properties=Raw(b'{"OrderId":"O-1","a":1,"Truncated":["old"]}')),
            P + "properties/a",
            {"properties": Raw(b'{"OrderId":"O-1","Truncated":["old","a"]}')},
            "properties",
        ),
        (  # one of that name of the user's own is no list of ours
            event(properties=Raw(b'{"OrderId":"O-1","a":1,"Truncated":true}')),
            P + "properties/a",
            {"properties": Raw(b'{"OrderId":"O-1","Truncated":["a"]}')},
            "properties",
        ),
        (event(), P + "time", {"time": msgspec.UNSET}, "occurred_at"),
        (event(), P + "value", {"value": None}, "total"),
        (event(), P + "value_currency", {"currency": None}, "currency"),
    ],
)
def test_what_is_left_without_a_refused_field(
    command: Command, pointer: str, rest: dict[str, Any], field: str
) -> None:
    make: Any = profile if isinstance(command, UpsertProfile) else event
    expected = make(
        **{**{k: getattr(command, k) for k in command.__struct_fields__}, **rest}
    )
    assert klaviyo.without(command, pointer) == (expected, field)


@pytest.mark.parametrize(
    ("command", "pointer"),
    [
        (profile(), "/data/attributes/external_id"),
        (profile(), "/data/attributes/image"),
        (profile(), "/data/attributes"),
        (profile(), "/data"),
        (profile(), ""),
        (profile(), "/data/attributes/properties/other"),
        (profile(properties={}), "/data/attributes/properties"),
        (profile(unset=frozenset()), "/data/meta/patch_properties/unset"),
        (profile(identity=Identity(None, "a@b.dev")), "/data/attributes/email"),
        (event(), "/data/attributes/metric/data/attributes/name"),
        (event(time=msgspec.UNSET), "/data/attributes/time"),
        (event(), "/data/attributes/properties"),
        (
            event(properties=Raw(b'{"OrderId":"O-1","Truncated":["b"]}')),
            "/data/attributes/properties",
        ),
        (event(), "/data/attributes/properties/Other"),
        (event(), "/data/attributes/unique_id"),
        (event(value=None), "/data/attributes/value"),
        (event(identity=Identity(None, None, "+1")), WHO + "phone_number"),
        (event(), WHO + "external_id"),
        (event(), WHO + "last_name"),
    ],
)
def test_what_cannot_be_left_out(command: Command, pointer: str) -> None:
    assert klaviyo.without(command, pointer) is None


def test_backfill_stands_in_both_bodies_only_when_it_is_true() -> None:
    usual = CreateEvent(
        Identity(external_id="C-1"),
        "Placed Order",
        "O-1",
        "2026-01-01T00:00:00Z",
        msgspec.Raw(b"{}"),
        {},
    )
    history = msgspec.structs.replace(usual, backfill=True)
    for revision in (klaviyo.BACKFILL_SINCE, "2026-07-15"):
        assert b"backfill" not in klaviyo.event(usual, revision)
        body = msgspec.json.decode(klaviyo.event(history, revision))
        assert body["data"]["attributes"]["backfill"] is True
    assert b"backfill" not in bulk_events.rows([usual])
    row = msgspec.json.decode(bulk_events.rows([history]))
    assert row["attributes"]["backfill"] is True
    assert bulk_events.person(usual) == bulk_events.person(history)
