"""What a customer record says about consent and lists, read into one command."""

from typing import Any

import msgspec
import pytest

from schemas.commands import ChangeConsent, Said
from schemas.envelope import decode
from schemas.event import Context, Event, Plan

ADA = {"id": "C-1", "email": "ada@shop.dev", "phone": "+12025550123"}
SAID = "2026-11-01T10:00:00Z"


def planned(*, writes: bool = True, **customer: Any) -> Plan:
    message = {
        "type": "customer.updated",
        "occurred_at": SAID,
        "customer": {**ADA, **customer},
    }
    event = decode(msgspec.json.encode(message), ())
    assert isinstance(event, Event)
    plan = event.commands(Context(default_country="US", consent=writes), 0)
    assert isinstance(plan, Plan)
    return plan


def change(**customer: Any) -> ChangeConsent:
    found = planned(**customer).commands[-1]
    assert isinstance(found, ChangeConsent)
    assert found.said == SAID
    return found


@pytest.mark.parametrize("word", [True, 1, 1.0, "true", "TRUE", "Yes", " y ", "on", "1"])
def test_spellings_of_true(word: object) -> None:
    fields = {"SubscribeProfile": word, "LIST_A": word, "UCLIST_B": word}
    found = change(custom_fields=fields)
    assert found.channels == {"email": Said(subscribed=True)}
    assert found.lists == {"A": "add", "B": "remove"}


@pytest.mark.parametrize("word", [False, 0, "false", "FALSE", "No", "n", "off", "0"])
def test_spellings_of_false(word: object) -> None:
    fields = {"SubscribeProfile": word, "LIST_A": word, "UCLIST_B": word}
    plan = planned(custom_fields=fields)
    found = plan.commands[-1]
    assert isinstance(found, ChangeConsent)
    off = Said(subscribed=False)
    assert found.channels == {"email": off, "sms": off}
    assert found.lists == {}
    assert plan.degraded == ()


@pytest.mark.parametrize("word", ["maybe", 2, -1, [], {}, 0.5])
def test_what_is_neither_is_counted(word: object) -> None:
    plan = planned(custom_fields={"SubscribeProfile": word, "LIST_A": word})
    assert len(plan.commands) == 1
    assert plan.degraded == ("consent", "lists")


@pytest.mark.parametrize("word", [None, "", "  "])
def test_what_is_blank_is_no_instruction(word: object) -> None:
    plan = planned(custom_fields={"SubscribeProfile": word, "LIST_A": word})
    assert len(plan.commands) == 1
    assert plan.degraded == ()


@pytest.mark.parametrize(
    ("customer", "lists"),
    [
        ({"custom_fields": {"LIST_A": 1, "UCLIST_A": 1}}, {"A": "remove"}),
        ({"custom_fields": {"UCLIST_A": 1, "LIST_A": 1}}, {"A": "add"}),
        ({"lists": {"add": ["A"], "remove": ["A"]}}, {"A": "remove"}),
        (
            {"custom_fields": {"UCLIST_A": 1}, "lists": {"add": ["A", "B"]}},
            {"A": "add", "B": "add"},
        ),
        ({"custom_fields": {"LIST_A": 1}, "lists": {"remove": ["A"]}}, {"A": "remove"}),
    ],
)
def test_of_two_words_about_a_list_the_last_one_wins(
    customer: dict[str, Any], lists: dict[str, str]
) -> None:
    assert change(**customer).lists == lists
    assert planned(**customer).degraded == ("lists",)


@pytest.mark.parametrize("typed", [True, False])
def test_of_two_words_about_consent_the_typed_one_wins(*, typed: bool) -> None:
    status = "subscribed" if typed else "unsubscribed"
    customer: dict[str, Any] = {
        "consent": {"email": {"status": status}},
        "custom_fields": {"SubscribeProfile": not typed},
    }
    assert change(**customer).channels["email"].subscribed is typed
    assert planned(**customer).degraded == ("consent",)


def test_the_same_said_twice_is_no_contradiction() -> None:
    customer: dict[str, Any] = {
        "consent": {"email": {"status": "subscribed"}},
        "lists": {"add": ["A", " A "], "remove": []},
        "custom_fields": {"SubscribeProfile": "yes", "LIST_A": "yes"},
    }
    assert planned(**customer).degraded == ()
    assert change(**customer).lists == {"A": "add"}


def test_consent_without_the_channel_is_left_out() -> None:
    nobody: dict[str, Any] = {"email": None, "phone": "12"}
    both = {"email": {"status": "subscribed"}, "sms": {"status": "unsubscribed"}}
    plan = planned(**nobody, consent=both, custom_fields={"SubscribeProfile": True})
    assert len(plan.commands) == 1
    assert set(plan.degraded) == {"phone", "consent"}


@pytest.mark.parametrize(
    ("at", "read"),
    [
        ("2026-10-01T00:00:00+02:00", "2026-09-30T22:00:00Z"),
        ("2026-10-01", "2026-10-01T00:00:00Z"),
        (" ", None),
        (None, None),
    ],
)
def test_the_time_of_a_consent(at: str | None, read: str | None) -> None:
    found = change(consent={"sms": {"status": " Subscribed", "at": at}})
    assert found.channels == {"sms": Said(subscribed=True, at=read)}


@pytest.mark.parametrize(
    "state", [{"status": "subscribed", "at": "soon"}, {"status": "x"}]
)
def test_what_cannot_be_read_of_consent_is_counted(state: dict[str, str]) -> None:
    assert planned(consent={"email": state}).degraded == ("consent",)


def test_never_subscribed_says_nothing() -> None:
    """The reverse direction writes so; a shop may hand it back."""
    plan = planned(consent={"email": {"status": "never_subscribed"}})
    assert (len(plan.commands), plan.degraded, plan.skipped) == (1, (), ())


def test_without_consent_writes_nothing_is_read() -> None:
    plan = planned(
        writes=False,
        consent={"email": {"status": "subscribed", "at": "soon"}},
        custom_fields={"LIST_A": "maybe"},
    )
    assert len(plan.commands) == 1
    assert plan.skipped == ("consent_off",)
    assert plan.degraded == ()
