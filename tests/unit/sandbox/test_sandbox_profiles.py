"""Profiles: who is meant, what a write changes, what is refused."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from pipeline.sandbox import HeldClock, Sandbox

Ask = Callable[..., Awaitable[tuple[int, Any, Mapping[str, str]]]]
IMPORT = "/api/profile-import"


def person(
    identifier: str | None = None,
    meta: dict[str, Any] | None = None,
    **attributes: object,
) -> dict[str, Any]:
    data: dict[str, Any] = {"type": "profile", "attributes": attributes}
    if identifier is not None:
        data["id"] = identifier
    if meta is not None:
        data["meta"] = meta
    return {"data": data}


async def imported(ask: Ask, **attributes: Any) -> dict[str, Any]:
    status, answer, _ = await ask("POST", IMPORT, person(**attributes))
    assert status in (200, 201)
    found: dict[str, Any] = answer["data"]
    return found


async def test_import_creates_then_updates(ask: Ask, clock: HeldClock) -> None:
    made = await ask("POST", IMPORT, person(email="a@b.co", first_name="A"))
    assert made[0] == 201
    assert len(made[1]["data"]["id"]) == 26
    assert made[1]["data"]["attributes"]["created"] == "2026-11-23T00:00:00+00:00"
    clock.advance(1.9)
    again = await ask("POST", IMPORT, person(email="A@B.co", last_name="L"))
    assert again[0] == 200
    assert again[1]["data"]["id"] == made[1]["data"]["id"]
    shown = again[1]["data"]["attributes"]
    assert (shown["first_name"], shown["last_name"]) == ("A", "L")
    assert shown["updated"] == "2026-11-23T00:00:01+00:00"
    assert "subscriptions" not in shown


async def test_null_clears_and_absent_leaves(ask: Ask) -> None:
    await imported(
        ask,
        email="a@b.co",
        first_name="A",
        title="T",
        location={"city": "NY", "zip": "1"},
        properties={"x": 1, "y": 2},
    )
    after = await imported(
        ask,
        email="a@b.co",
        first_name=None,
        location={"zip": None, "country": "US"},
        properties={"y": 3},
    )
    shown = after["attributes"]
    assert (shown["first_name"], shown["title"]) == (None, "T")
    place = {
        name: value for name, value in shown["location"].items() if value is not None
    }
    assert place == {"city": "NY", "country": "US"}
    assert shown["properties"] == {"x": 1, "y": 3}


async def test_patch_properties(ask: Ask) -> None:
    await imported(ask, email="a@b.co", properties={"skus": ["1", "2"], "old": 1, "n": 0})
    meta = {
        "patch_properties": {
            "append": {"skus": ["3", "1"], "new": "x"},
            "unappend": {"skus": "2"},
            "unset": ["old"],
        }
    }
    _, answer, _ = await ask("POST", IMPORT, person(meta=meta, email="a@b.co"))
    assert answer["data"]["attributes"]["properties"] == {
        "skus": ["1", "3"],
        "n": 0,
        "new": ["x"],
    }


async def test_a_write_that_changes_nothing_does_not_move_updated(
    ask: Ask, clock: HeldClock
) -> None:
    first = await imported(ask, email="a@b.co", properties={"n": 1})
    clock.advance(5)
    again = await imported(ask, email="a@b.co", properties={"n": 1})
    assert again["attributes"]["updated"] == first["attributes"]["updated"]
    other = await imported(ask, email="a@b.co", properties={"n": True})
    assert other["attributes"]["updated"] != first["attributes"]["updated"]


async def test_the_strongest_identifier_wins_and_the_others_follow(ask: Ask) -> None:
    made = await imported(ask, external_id="C-1", email="old@b.co")
    moved = await imported(ask, external_id="C-1", email="new@b.co")
    assert moved["id"] == made["id"]
    _, found, _ = await ask("GET", '/api/profiles?filter=equals(email,"old@b.co")')
    assert found["data"] == []
    _, found, _ = await ask("GET", '/api/profiles?filter=equals(email,"new@b.co")')
    assert [p["id"] for p in found["data"]] == [made["id"]]


async def test_identifiers_of_two_profiles_conflict(ask: Ask) -> None:
    await imported(ask, external_id="C-1")
    other = await imported(ask, email="a@b.co")
    body = person(external_id="C-1", email="a@b.co")
    status, answer, _ = await ask("POST", IMPORT, body)
    (error,) = answer["errors"]
    assert (status, error["code"]) == (409, "duplicate_profile")
    assert error["meta"] == {"duplicate_profile_id": other["id"]}
    assert error["source"] == {"pointer": "/data/attributes"}


async def test_identifiers_of_two_profiles_merge_when_told_so(
    ask: Ask, sandbox: Sandbox
) -> None:
    sandbox.settings = sandbox.settings.changed({"identity": "merge"})
    strong = await imported(ask, external_id="C-1", first_name="Strong")
    weak = await imported(ask, email="a@b.co", first_name="Weak", last_name="L")
    merged = await imported(ask, external_id="C-1", email="a@b.co")
    assert merged["id"] == strong["id"]
    shown = merged["attributes"]
    assert (shown["first_name"], shown["last_name"]) == ("Strong", "L")
    assert (await ask("GET", f"/api/profiles/{weak['id']}"))[0] == 404
    assert len(sandbox.state.profiles.by_id) == 1


async def test_an_id_must_exist_and_not_clash(ask: Ask) -> None:
    made = await imported(ask, email="a@b.co")
    await imported(ask, email="taken@b.co")
    assert (await ask("POST", IMPORT, person("nobody", email="x@b.co")))[0] == 404
    status, answer, _ = await ask("POST", IMPORT, person(made["id"], email="taken@b.co"))
    assert (status, answer["errors"][0]["code"]) == (404, "not_found")
    assert (await ask("POST", IMPORT, person(made["id"], email="free@b.co")))[0] == 200


async def test_create_is_strict_and_patch_finds_clashes(ask: Ask) -> None:
    _, made, _ = await ask("POST", "/api/profiles", person(email="a@b.co"))
    status, answer, _ = await ask("POST", "/api/profiles", person(email="A@b.co"))
    held = made["data"]["id"]
    assert status == 409
    assert answer["errors"][0]["meta"]["duplicate_profile_id"] == held
    other = await imported(ask, external_id="C-2")
    path = f"/api/profiles/{other['id']}"
    status, answer, _ = await ask("PATCH", path, person(other["id"], email="a@b.co"))
    assert status == 409
    assert answer["errors"][0]["meta"]["duplicate_profile_id"] == held
    status, answer, _ = await ask("PATCH", path, person(other["id"], title="Dr"))
    assert (status, answer["data"]["attributes"]["title"]) == (200, "Dr")
    assert (await ask("PATCH", path, person("other", title="Dr")))[0] == 400


@pytest.mark.parametrize(
    ("attributes", "field"),
    [
        ({"phone_number": "12025550123"}, "phone_number"),
        ({"phone_number": "+1202555012"}, "phone_number"),
        ({"phone_number": "+10025550123"}, "phone_number"),
        ({"phone_number": "+491234567890123456"}, "phone_number"),
        ({"phone_number": "+49 30 123456"}, "phone_number"),
        ({"email": "ada@shop"}, "email"),
        ({"email": "ada shop@b.co"}, "email"),
        ({"email": f"{'a' * 95}@b.co.uk"}, "email"),
        ({"locale": "english"}, "locale"),
        ({"image": "no-url"}, "image"),
    ],
)
async def test_a_bad_value_is_named(
    ask: Ask, attributes: dict[str, Any], field: str
) -> None:
    status, answer, _ = await ask("POST", IMPORT, person(external_id="C-1", **attributes))
    assert status == 400
    assert [e["source"]["pointer"] for e in answer["errors"]] == [
        f"/data/attributes/{field}"
    ]


@pytest.mark.parametrize(
    "attributes",
    [
        {"phone_number": "+12025550123"},
        {"phone_number": "+493012345678"},
        {"email": "ada.l+x@mail.shop.dev"},
        {"external_id": "x", "locale": "en-US", "image": "https://shop.dev/a.png"},
    ],
)
async def test_a_good_value_is_stored(ask: Ask, attributes: dict[str, Any]) -> None:
    shown = (await imported(ask, **attributes))["attributes"]
    assert {name: shown[name] for name in attributes} == attributes


async def test_somebody_must_be_named(ask: Ask, sandbox: Sandbox) -> None:
    status, answer, _ = await ask("POST", IMPORT, person(first_name="A"))
    assert status == 400
    assert "identifiers" in answer["errors"][0]["detail"]
    sandbox.settings = sandbox.settings.changed({"sms_enabled": False})
    assert (await ask("POST", IMPORT, person(phone_number="+12025550123")))[0] == 400


async def test_a_profile_has_100_kb(ask: Ask) -> None:
    big = person(email="a@b.co", properties={"x": "y" * 100_000})
    assert (await ask("POST", IMPORT, big))[0] == 400


async def test_merge_and_erasure(ask: Ask, sandbox: Sandbox) -> None:
    one = await imported(ask, email="a@b.co")
    two = await imported(ask, external_id="C-2", first_name="B")
    body = {
        "data": {
            "type": "profile-merge",
            "id": one["id"],
            "relationships": {
                "profiles": {"data": [{"type": "profile", "id": two["id"]}]}
            },
        }
    }
    assert (await ask("POST", "/api/profile-merge", body))[0] == 201
    assert (await ask("GET", f"/api/profiles/{two['id']}"))[0] == 404
    _, left, _ = await ask("GET", f"/api/profiles/{one['id']}")
    assert left["data"]["attributes"]["external_id"] == "C-2"

    def erase(**attributes: str) -> dict[str, Any]:
        data = {"type": "profile", "attributes": attributes}
        inner = {"profile": {"data": data}}
        return {"data": {"type": "data-privacy-deletion-job", "attributes": inner}}

    path = "/api/data-privacy-deletion-jobs"
    both = erase(email="a@b.co", phone_number="+12025550123")
    assert (await ask("POST", path, both))[0] == 400
    assert (await ask("POST", path, erase(email="a@b.co")))[0] == 202
    assert sandbox.state.deleted == [one["id"]]
    assert (await ask("GET", f"/api/profiles/{one['id']}"))[0] == 404


async def test_secondary_emails_find_the_profile(ask: Ask) -> None:
    made = await imported(ask, email="a@b.co")
    meta = {"patch_identifiers": {"append": {"email": ["second@b.co"]}}}
    await ask("POST", IMPORT, person(meta=meta, email="a@b.co"))
    assert (await imported(ask, email="second@b.co"))["id"] == made["id"]


async def test_null_clears_a_whole_place_and_all_properties(ask: Ask) -> None:
    await imported(ask, email="a@b.co", location={"city": "NY"}, properties={"x": 1})
    after = await imported(ask, email="a@b.co", location=None, properties=None)
    assert set(after["attributes"]["location"].values()) == {None}
    assert after["attributes"]["properties"] == {}
