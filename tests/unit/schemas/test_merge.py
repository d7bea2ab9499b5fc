"""Two waiting updates of one profile become one that does the same."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.commands import Identity, UpsertProfile

ADA = Identity("C-1", "ada@shop.dev", "+12025550123")
NAMES = st.sampled_from(["a", "b", "c"])
VALUES = st.sampled_from([None, "x", "y"])


def applied(profile: dict[str, Any], update: UpsertProfile) -> dict[str, Any]:
    """What Klaviyo makes of it: absent stays, null clears, the rest goes key by key."""
    result = {**profile, "location": dict(profile["location"])}
    for attribute, value in update.attributes.items():
        if attribute == "location":
            result["location"].update(value)
        else:
            result[attribute] = value
    who = update.identity
    told = {
        "external_id": who.external_id,
        "email": who.email,
        "phone_number": who.phone,
    }
    result.update({k: v for k, v in told.items() if v is not None})
    kept = {k: v for k, v in profile["properties"].items() if k not in update.unset}
    result["properties"] = {**kept, **update.properties}
    return result


@st.composite
def updates(draw: st.DrawFn, kind: str) -> UpsertProfile:
    """Updates of one customer, whose strongest identifier is of that kind."""
    emails, phones = (
        st.sampled_from([None, "a@b.dev", "c@d.dev"]),
        st.sampled_from([None, "+1", "+2"]),
    )
    match kind:
        case "id":
            who = Identity("C-1", draw(emails), draw(phones))
        case "email":
            who = Identity(None, "a@b.dev", draw(phones))
        case _:
            who = Identity(None, None, "+1")
    attributes: dict[str, Any] = draw(
        st.dictionaries(st.sampled_from(["first_name", "title", "image"]), VALUES)
    )
    if draw(st.booleans()):
        attributes["location"] = draw(
            st.dictionaries(st.sampled_from(["city", "zip"]), VALUES, min_size=1)
        )
    if who.email is None and draw(st.booleans()):
        attributes["email"] = None
    if who.phone is None and draw(st.booleans()):
        attributes["phone_number"] = None
    properties = draw(st.dictionaries(NAMES, st.integers(0, 3)))
    unset = draw(st.frozensets(NAMES)) - properties.keys()
    return UpsertProfile(who, attributes, properties, unset)


@pytest.mark.parametrize("kind", ["id", "email", "phone"])
@given(data=st.data())
def test_merged_does_what_both_did(kind: str, data: st.DataObject) -> None:
    first, then = data.draw(updates(kind)), data.draw(updates(kind))
    profile = {
        "location": {"city": "NY", "zip": "1"},
        "properties": {"a": 9, "b": 9},
        "first_name": "Old",
        "email": "old@b.dev",
        "phone_number": "+9",
    }
    before = repr((first, then))
    merged = first.merged(then)
    assert merged is not None
    assert applied(profile, merged) == applied(applied(profile, first), then)
    assert repr((first, then)) == before
    assert not merged.unset & merged.properties.keys()
    assert merged.identity.names()[0] == first.identity.names()[0]
    assert merged.identity.email is None or "email" not in merged.attributes


@given(data=st.data())
def test_merging_is_associative(data: st.DataObject) -> None:
    """It does not matter in which company an update waited."""
    one, two, three = (data.draw(updates("id")) for _ in range(3))
    left, right = one.merged(two), two.merged(three)
    assert left is not None
    assert right is not None
    assert left.merged(three) == one.merged(right)


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        (ADA, Identity("C-1"), True),
        (Identity("C-1"), Identity("C-1", "new@shop.dev"), True),
        (ADA, Identity("C-2", "ada@shop.dev", "+12025550123"), False),
        (ADA, Identity(None, "ada@shop.dev"), False),
        (Identity(None, "ada@shop.dev"), ADA, False),
        (Identity(None, "a@b.dev"), Identity(None, "a@b.dev", "+1"), True),
        (Identity(None, "a@b.dev"), Identity(None, "c@d.dev"), False),
        (Identity(None, "a@b.dev", "+1"), Identity(None, None, "+1"), False),
        (Identity(None, None, "+1"), Identity(None, None, "+1"), True),
        (Identity(None, None, "+1"), Identity(None, None, "+2"), False),
        (Identity("+1"), Identity(None, None, "+1"), False),
    ],
)
def test_only_updates_of_the_same_customer_merge(
    one: Identity, other: Identity, *, together: bool
) -> None:
    merged = UpsertProfile(one, {}, {}).merged(UpsertProfile(other, {}, {}))
    assert (merged is not None) is together


def test_a_cleared_field_stays_cleared_unless_set_later() -> None:
    cleared = UpsertProfile(
        Identity("C-1"), {"email": None, "title": None}, {}, frozenset({"a"})
    )
    silent = UpsertProfile(Identity("C-1"), {"first_name": "Ada"}, {})
    told = UpsertProfile(Identity("C-1", "a@b.dev"), {"title": "Dr"}, {"a": 1})
    assert cleared.merged(silent) == UpsertProfile(
        Identity("C-1"),
        {"email": None, "title": None, "first_name": "Ada"},
        {},
        frozenset({"a"}),
    )
    assert cleared.merged(told) == told
    assert told.merged(cleared) == UpsertProfile(
        Identity("C-1"), {"title": None, "email": None}, {}, frozenset({"a"})
    )
