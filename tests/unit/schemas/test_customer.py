"""What a customer message does to a profile."""

from typing import Any

import orjson
import pytest

from schemas.commands import Identity, UpsertProfile
from schemas.envelope import decode
from schemas.event import Context, Event, Plan, Rejected, Skipped

CONTEXT = Context(default_country="US")


def outcome(
    customer: dict[str, Any], kind: str = "customer.updated"
) -> Plan | Skipped | Rejected:
    event = decode(orjson.dumps({"type": kind, "customer": customer}), ())
    assert isinstance(event, Event)
    return event.commands(CONTEXT, 0)


def planned(**customer: object) -> Plan:
    plan = outcome({"id": "C-1", **customer})
    assert isinstance(plan, Plan)
    return plan


def update(**customer: object) -> UpsertProfile:
    (command,) = planned(**customer).commands
    assert isinstance(command, UpsertProfile)
    return command


@pytest.mark.parametrize("kind", ["customer.created", "customer.updated"])
def test_everything_has_its_place(kind: str) -> None:
    plan = outcome(
        {
            "id": "C-1",
            "email": "Ada@shop.dev",
            "phone": "202 555 0123",
            "first_name": "Ada",
            "last_name": "L",
            "company": "Acme",
            "locale": "en_us",
            "title": "Dr",
            "image_url": "https://shop.dev/a.png",
            "address": {"address1": "1 Main", "city": "NY", "country": "US"},
            "custom_fields": {"tier": "gold", "n": 0.1, "old": None, "deep": {"a": [1]}},
            "nickname": "ignored",
        },
        kind,
    )
    assert plan == Plan(
        [
            UpsertProfile(
                identity=Identity("C-1", "ada@shop.dev", "+12025550123"),
                attributes={
                    "first_name": "Ada",
                    "last_name": "L",
                    "organization": "Acme",
                    "title": "Dr",
                    "locale": "en-US",
                    "image": "https://shop.dev/a.png",
                    "location": {"address1": "1 Main", "city": "NY", "country": "US"},
                },
                properties={"tier": "gold", "n": 0.1, "deep": {"a": [1]}},
                unset=frozenset({"old"}),
            )
        ]
    )


def test_absent_is_left_alone() -> None:
    assert update() == UpsertProfile(Identity("C-1"), {}, {})


def test_null_clears() -> None:
    fields = ("first_name", "last_name", "company", "locale", "title", "image_url")
    command = update(email=None, phone=None, address=None, **dict.fromkeys(fields))
    assert command.identity == Identity("C-1")
    assert command.attributes == {
        **dict.fromkeys(["email", "phone_number", "first_name", "last_name"]),
        **dict.fromkeys(["organization", "locale", "title", "image"]),
        "location": dict.fromkeys(
            ["address1", "address2", "city", "region", "zip", "country"]
        ),
    }


def test_address_goes_key_by_key() -> None:
    assert update(address={"zip": "1", "address2": None}).attributes == {
        "location": {"zip": "1", "address2": None}
    }
    assert update(address={}).attributes == {}


def test_a_bad_email_or_phone_does_not_clear() -> None:
    plan = planned(email="n/a", phone="n/a")
    (command,) = plan.commands
    assert isinstance(command, UpsertProfile)
    assert command == UpsertProfile(Identity("C-1"), {}, {})
    assert plan.degraded == ("email", "phone")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ({"country": "DE"}, "+4915123456789"),
        ({"country": "de"}, "+4915123456789"),
        ({"country": "Germany"}, None),
        ({"country": ""}, None),
        ({"country": None}, None),
        ({}, None),
        (None, None),
    ],
)
def test_the_phone_is_read_where_the_customer_lives(
    address: dict[str, Any] | None, expected: str | None
) -> None:
    assert update(phone="0151 23456789", address=address).identity.phone == expected


def test_the_default_country_stands_in_only_where_none_is_named() -> None:
    """A number read with a wrong country would be somebody else's."""
    assert update(phone="2025550123").identity.phone == "+12025550123"
    assert update(phone="2025550123", address={"country": " "}).identity.phone
    assert update(phone="2025550123", address={"country": "Mars"}).identity.phone is None


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("en", "en"),
        ("EN-us", "en-US"),
        ("zh_hans_cn", "zh-Hans-CN"),
        ("de_CH.UTF-8", "de-CH"),
        ("es-419", "es-419"),
        (" fr-FR ", "fr-FR"),
    ],
)
def test_locales_are_repaired(raw: str, expected: str) -> None:
    plan = planned(locale=raw)
    assert update(locale=raw).attributes == {"locale": expected}
    assert plan.degraded == ()


@pytest.mark.parametrize("raw", ["english", "e", "en-", "12", "en US", "C/POSIX"])
def test_unusable_locales_are_left_out(raw: str) -> None:
    assert update(locale=raw).attributes == {}
    assert planned(locale=raw).degraded == ("locale",)


@pytest.mark.parametrize(
    "raw", ["ftp://x/y", "//cdn/x.png", "/x.png", "x.png", "https://"]
)
def test_only_web_addresses_are_images(raw: str) -> None:
    assert update(image_url=raw).attributes == {}
    assert planned(image_url=raw).degraded == ("image_url",)
    assert update(image_url=" HTTPS://shop.dev/a.png ").attributes == {
        "image": "https://shop.dev/a.png"
    }


@pytest.mark.parametrize("field", ["locale", "image_url", "email", "phone"])
def test_blank_is_absent(field: str) -> None:
    assert planned(**{field: "  "}) == planned()


@pytest.mark.parametrize(
    "part",
    [
        {"consent": {"email": {"status": "subscribed", "at": "2026-10-01T00:00:00Z"}}},
        {"consent": {"sms": {"status": "unsubscribed"}}},
        {"lists": {"add": ["VIP"]}},
        {"lists": {"remove": ["VIP"]}},
        {"custom_fields": {"SubscribeProfile": True}},
        {"custom_fields": {"LIST_VIP": "yes", "UCLIST_Trial": 1}},
    ],
)
def test_consent_is_said_to_be_off_once(part: dict[str, Any]) -> None:
    plan = planned(**part)
    assert plan.commands == [UpsertProfile(Identity("C-1"), {}, {})]
    assert plan.skipped == ("consent_off",)


@pytest.mark.parametrize(
    "part",
    [
        {"consent": None},
        {"consent": {}},
        {"consent": {"email": None}},
        {"consent": {"email": {"at": "2026-10-01T00:00:00Z"}}},
        {"lists": None},
        {"lists": {"add": []}},
        {"custom_fields": {"subscribeprofile": True, "LISTING": 1}},
    ],
)
def test_nothing_asked_is_nothing_skipped(part: dict[str, Any]) -> None:
    assert planned(**part).skipped == ()


def test_custom_fields_that_cannot_be_carried_are_cut() -> None:
    deep: Any = 1
    for _ in range(100):
        deep = [deep]
    fields = {"": 1, "long": "x" * 100_001, "list": ["y", "x" * 100_001], "ok": "x"}
    plan = planned(custom_fields=fields)
    assert plan.commands == [
        UpsertProfile(
            Identity("C-1"),
            {},
            {"long": "x" * 100_000, "list": ["y", "x" * 100_000], "ok": "x"},
        )
    ]
    assert plan.degraded == ("custom_fields",)
    assert planned(custom_fields={"ok": "x"}).degraded == ()
    assert planned(custom_fields={"deep": deep}).degraded == ("custom_fields",)


def test_an_unnamed_custom_field_is_not_unset() -> None:
    assert update(custom_fields={"": None}).unset == frozenset()


def test_a_number_beyond_python_costs_only_itself() -> None:
    event = decode(
        b'{"type":"customer.updated","customer":{"id":"C","custom_fields":{"a":1e400,"b":1}}}',
        (),
    )
    assert isinstance(event, Event)
    plan = event.commands(CONTEXT, 0)
    assert isinstance(plan, Plan)
    assert plan.commands == [UpsertProfile(Identity("C"), {}, {"b": 1})]
    assert plan.degraded == ("custom_fields",)


@pytest.mark.parametrize(
    "customer",
    [
        {},
        {"id": None},
        {"id": " ", "email": "", "phone": " "},
        {"email": "n/a"},
        {"email": None, "phone": None},
        {"phone": "n/a", "first_name": "Ada"},
    ],
)
@pytest.mark.parametrize(
    "kind", ["customer.created", "customer.updated", "customer.deleted"]
)
def test_nobody_is_rejected(kind: str, customer: dict[str, Any]) -> None:
    rejected = outcome(customer, kind)
    assert isinstance(rejected, Rejected)
    assert (rejected.reason, rejected.stage, rejected.path) == (
        *("no_identifier", "plan"),
        "$.customer",
    )


def test_deletes_are_ignored() -> None:
    assert outcome({"email": "a@b.dev"}, "customer.deleted") == Skipped("deletes_ignored")


def test_profiles_do_not_need_events_to_be_on() -> None:
    event = decode(b'{"type":"customer.updated","customer":{"id":"C"}}', ())
    assert isinstance(event, Event)
    assert isinstance(event.commands(Context(generate_events=False), 0), Plan)
