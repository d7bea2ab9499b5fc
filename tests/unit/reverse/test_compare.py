"""What is a change and what an echo, by the content of profiles alone."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as tuned
from hypothesis import strategies as st
from msgspec import Raw

from pipeline.reverse.compare import Compared, compare, gone
from pipeline.reverse.view import View
from schemas.commands import Identity, UpsertProfile
from schemas.profile_content import sent

NOW = 1_795_000_000.0


class World:
    """A view that remembers what a page came to."""

    def __init__(self, view: View) -> None:
        self.view = view

    def see(
        self, *rows: dict[str, Any], origin: Any = "poll", since: int = 0
    ) -> Compared:
        raws = [Raw(json.dumps(row).encode()) for row in rows]
        found = compare(
            self.view,
            raws,
            origin=origin,
            bound=int(NOW),
            since=since,
            polled=0,
            now=NOW,
        )
        self.view.put(found.known.items(), 0)
        return found

    def sent(self, name: str, at: float, *, late: bool = False, **content: Any) -> None:
        value = json.dumps({"late": late, "people": [(name, at, content)]}).encode()
        self.view.sent([(f"x/{name}/{at}", value)])


@pytest.fixture
def world() -> Iterator[World]:
    view = View()
    view.start()
    yield World(view)
    view.close()


def row(who: str = "P1", updated: str = "2026-01-01T00:00:00Z", **given: Any) -> Any:
    return {"type": "profile", "id": who, "attributes": {"updated": updated, **given}}


def said(found: Compared) -> list[tuple[str, list[str]]]:
    return [(c.kind, json.loads(c.value).get("changed", [])) for c in found.changes]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"email": "Ada@Shop.dev "}, {"email": "ada@shop.dev"}),
        ({"phone_number": "+1 202-555-0123"}, {"phone_number": "+12025550123"}),
        ({"title": ""}, {"title": None}),
        ({"properties": {"a": 1.0}}, {"properties": {"a": 1}}),
        (
            {"properties": {"a": {"x": 1, "y": 2}}},
            {"properties": {"a": {"y": 2, "x": 1}}},
        ),
        ({"properties": {"a": []}}, {"properties": {}}),
        (
            {"properties": {"at": "2026-01-01T01:00:00+01:00"}},
            {"properties": {"at": "2026-01-01T00:00:00Z"}},
        ),
        ({"location": {"ip": "1.2.3.4"}}, {"location": {"ip": "5.6.7.8"}}),
        ({"last_event_date": "2026-01-01T00:00:00Z"}, {"last_event_date": None}),
        ({"email": "a@b.dev"}, {}),  # an answer that does not speak of it
        (
            {"subscriptions": {"email": {"marketing": {"consent": "SUBSCRIBED"}}}},
            {"subscriptions": None},
        ),
        (
            {},
            {"subscriptions": {"email": {"marketing": {"consent": "NEVER_SUBSCRIBED"}}}},
        ),
    ],
)
def test_what_means_the_same_is_no_change(
    world: World, before: dict[str, Any], after: dict[str, Any]
) -> None:
    assert said(world.see(row(**before))) == [("created", [])]
    assert said(world.see(row(updated="2026-01-01T00:00:09Z", **after))) == []


@pytest.mark.parametrize(
    ("before", "after", "path"),
    [
        ({"properties": {"a": 1}}, {"properties": {"a": True}}, "properties.a"),
        ({"properties": {"a": 1}}, {"properties": {}}, "properties.a"),
        ({"location": {"city": "NY"}}, {"location": {"city": "LA"}}, "address.city"),
        ({"phone_number": "12"}, {"phone_number": "13"}, "phone"),  # kept from old days
        (
            {"subscriptions": {"sms": {"marketing": {"consent": "SUBSCRIBED"}}}},
            {"subscriptions": {"sms": {"marketing": {"consent": "WHAT"}}}},
            "consent.sms",
        ),
    ],
)
def test_what_differs_is_said_by_its_path(
    world: World, before: dict[str, Any], after: dict[str, Any], path: str
) -> None:
    world.see(row(**before))
    later = row(updated="2026-01-01T00:00:09Z", **after)
    assert said(world.see(later)) == [("updated", [path])]
    assert said(world.see(later)) == []


def test_a_bad_row_costs_itself_only(world: World) -> None:
    found = world.see(row("P1"), {"id": 7}, {"id": "P3", "attributes": None}, row("P4"))
    assert [change.who for change in found.changes] == ["P1", "P4"]
    assert found.malformed == 2


def test_an_older_sight_changes_nothing(world: World) -> None:
    world.see(row(updated="2026-01-01T00:00:09Z", title="new"))
    assert said(world.see(row(title="old"))) == []


def test_a_profile_too_large_for_a_message_loses_its_largest_property(
    world: World,
) -> None:
    found = world.see(row(properties={"small": "x", "huge": "y" * 5_000_000}))
    assert found.lost == 1
    message = json.loads(found.changes[0].value)
    assert message["profile"]["properties"] == {"small": "x"}


def test_a_deleted_profile_is_said_once_and_may_come_back(world: World) -> None:
    world.see(row(title="Dr"))
    found = gone(world.view, ["P1"], NOW)
    world.view.put(found.known.items(), 0)
    assert [change.kind for change in found.changes] == ["deleted"]
    assert gone(world.view, ["P1"], NOW).changes == []
    assert said(world.see(row())) == [("created", [])]


def test_a_sweep_only_remembers_who_was_there_before_us(world: World) -> None:
    since = int(NOW) - 10
    assert said(world.see(row(title="Dr"), origin="sweep", since=since)) == []
    later = row(updated="2026-11-01T00:00:00Z", title="Sir")
    assert said(world.see(later, since=since)) == [("updated", ["title"])]


def test_a_write_of_ours_explains_a_value_once(world: World) -> None:
    at = 1_767_225_600.0  # 2026-01-01T00:00:00Z
    world.sent("e:a@b.dev", at, email="a@b.dev", first_name="Ada")
    found = world.see(row(email="a@b.dev", first_name="Ada"))
    assert (said(found), found.echoes) == ([], 1)
    other = row(updated="2026-01-01T00:00:05Z", email="a@b.dev", first_name="Bea")
    assert said(world.see(other)) == [("updated", ["first_name"])]
    back = row(updated="2026-01-01T00:00:09Z", email="a@b.dev", first_name="Ada")
    assert said(world.see(back)) == [("updated", ["first_name"])]


def test_a_value_that_somebody_overwrote_unseen_is_news_when_it_returns(
    world: World,
) -> None:
    world.see(row(email="a@b.dev", first_name="Eve"))
    world.sent("e:a@b.dev", 1_767_225_601.0, email="a@b.dev", first_name="Ada")
    other = row(updated="2026-01-01T00:00:01Z", email="a@b.dev", first_name="Bea")
    assert said(world.see(other)) == [("updated", ["first_name"])]
    back = row(updated="2026-01-01T00:00:09Z", email="a@b.dev", first_name="Ada")
    assert said(world.see(back)) == [("updated", ["first_name"])]


def test_an_event_may_show_minutes_later_and_is_no_news(world: World) -> None:
    world.see(row(email="a@b.dev", first_name="Eve"))
    world.sent("e:a@b.dev", 1_767_225_601.0, late=True, email="a@b.dev", first_name="Ada")
    moved = row(updated="2026-01-01T00:01:30Z", email="a@b.dev", first_name="Eve")
    assert said(world.see(moved)) == []
    shown = row(updated="2026-01-01T00:05:00Z", email="a@b.dev", first_name="Ada")
    found = world.see(shown)
    assert (said(found), found.echoes) == ([], 1)


def test_a_change_and_back_within_one_second_have_ids_of_their_own(world: World) -> None:
    ids = set()
    for title in ("Dr", "Sir", "Dr"):
        (change,) = world.see(row(title=title)).changes
        ids.add(json.loads(change.value)["id"])
    assert len(ids) == 3


def test_spoilt_records_cost_themselves_only(world: World) -> None:
    world.view.put([("P1", b"{")], 0)
    world.view.sent([("x", b"[]")])
    assert said(world.see(row(email="a@b.dev"))) == [("updated", ["email"])]
    assert said(world.see(row(email="a@b.dev"))) == []


def test_what_was_told_is_forgotten_record_by_record(world: World) -> None:
    world.sent("e:a@b.dev", 1.0, email="a@b.dev")
    world.sent("e:a@b.dev", 5.0, email="a@b.dev", title="Dr")
    assert world.view.told_before(5.0, 10) == ["x/e:a@b.dev/1.0"]
    world.view.sent([("x/e:a@b.dev/1.0", None)])
    assert world.view.told_before(9.0, 10) == ["x/e:a@b.dev/5.0"]
    assert [write.at for write in world.view.writes(["e:a@b.dev"])] == [5.0]


def test_two_writes_before_one_look_are_both_ours(world: World) -> None:
    world.sent("i:C-1", 1.0, external_id="C-1", first_name="Ada", title="Dr")
    world.sent("i:C-1", 2.0, external_id="C-1", title=None)
    found = world.see(row(external_id="C-1", first_name="Ada"))
    assert (said(found), found.echoes) == ([], 1)


def test_an_event_and_an_update_of_one_second_are_both_ours(world: World) -> None:
    world.see(row(email="a@b.dev", first_name="Eve"))
    for late, name in ((False, "Ada"), (True, "Bea")):
        world.sent("e:a@b.dev", 1_767_225_605.0, late=late, first_name=name)
    for updated, name in (("05", "Ada"), ("06", "Bea")):
        shown = row(
            updated=f"2026-01-01T00:00:{updated}Z", email="a@b.dev", first_name=name
        )
        found = world.see(shown)
        assert (said(found), found.echoes) == ([], 1)


def test_what_shows_at_once_hides_nothing_that_shows_later(world: World) -> None:
    at = 1_767_225_605.0  # 2026-01-01T00:00:05Z
    world.see(row(email="a@b.dev", first_name="Ada"))
    world.sent("e:a@b.dev", at, late=True, **{"consent.email": {"status": "subscribed"}})
    world.sent("e:a@b.dev", at + 2, late=True, email="a@b.dev", first_name="Ada")
    moved = row(updated="2026-01-01T00:00:07Z", email="a@b.dev", first_name="Ada")
    assert said(world.see(moved)) == []
    marketing = {"consent": "SUBSCRIBED", "can_receive_email_marketing": True}
    given: Any = {"subscriptions": {"email": {"marketing": marketing}}}
    found = world.see(row(updated="2026-01-01T00:00:45Z", email="a@b.dev", **given))
    assert (said(found), found.echoes) == ([], 1)


def test_others_changes_beside_ours_are_published_alone(world: World) -> None:
    world.sent("e:a@b.dev", 1.0, email="a@b.dev", first_name="Ada")
    found = world.see(row(email="a@b.dev", first_name="Ada", last_name="L"))
    assert said(found) == [("updated", ["last_name"])]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False, width=32)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)
names = st.text(min_size=1, max_size=6)


@tuned(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    properties=st.dictionaries(names, json_values, max_size=5),
    first=st.none() | st.text(max_size=6),
    city=st.none() | st.text(max_size=6),
    spaces=st.booleans(),
)
def test_whatever_we_send_is_no_news_when_it_comes_back(
    world: World,
    properties: dict[str, Any],
    first: str | None,
    city: str | None,
    spaces: bool,
) -> None:
    world.view.start()
    command = UpsertProfile(
        Identity("C-1", "ada@shop.dev", "+12025550123"),
        {"first_name": first, "location": {"city": city}},
        properties,
    )
    world.view.sent(
        [("x", json.dumps({"people": [("i:C-1", 9.0, sent(command))]}).encode())]
    )
    pad = " " if spaces else ""
    back = row(
        external_id="C-1",
        email=f"{pad}Ada@Shop.dev",
        phone_number="+12025550123",
        first_name=first and f"{first}{pad}",
        location={"city": city, "region": None},
        properties=properties,
    )
    found = world.see(back)
    assert (said(found), found.echoes) == ([], 1)
    assert said(world.see(back)) == []
