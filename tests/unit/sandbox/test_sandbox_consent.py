"""Lists and consent: who may be written to, and who says so."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from pipeline.sandbox import HeldClock, Sandbox

Ask = Callable[..., Awaitable[tuple[int, Any, Mapping[str, str]]]]
SUBSCRIBE = "/api/profile-subscription-bulk-create-jobs"
UNSUBSCRIBE = "/api/profile-subscription-bulk-delete-jobs"


def consent(
    *people: dict[str, Any], on: bool = True, group: str | None = None, **more: object
) -> dict[str, Any]:
    profiles = [{"type": "profile", "attributes": person} for person in people]
    kind = "create" if on else "delete"
    data: dict[str, Any] = {
        "type": f"profile-subscription-bulk-{kind}-job",
        "attributes": {"profiles": {"data": profiles}, **more},
    }
    if group is not None:
        data["relationships"] = {"list": {"data": {"type": "list", "id": group}}}
    return {"data": data}


def by_email(
    email: str = "a@b.co", status: str = "SUBSCRIBED", **more: str
) -> dict[str, Any]:
    marketing = {"consent": status, **more}
    return {"email": email, "subscriptions": {"email": {"marketing": marketing}}}


async def made_list(ask: Ask, **more: str) -> str:
    attributes = {"name": "VIP", **more}
    body = {"data": {"type": "list", "attributes": attributes}}
    status, answer, _ = await ask("POST", "/api/lists", body)
    assert status == 201
    identifier: str = answer["data"]["id"]
    return identifier


async def shown(ask: Ask) -> dict[str, Any]:
    _, answer, _ = await ask("GET", "/sandbox/profiles")
    (profile,) = answer["data"]
    found: dict[str, Any] = profile
    return found


async def test_subscribe_then_unsubscribe(ask: Ask, clock: HeldClock) -> None:
    assert (await ask("POST", SUBSCRIBE, consent(by_email())))[:2] == (202, None)
    attributes = (await shown(ask))["attributes"]
    marketing = attributes["subscriptions"]["email"]["marketing"]
    assert marketing["consent"] == "SUBSCRIBED"
    assert marketing["can_receive_email_marketing"] is True
    clock.advance(9)
    off = consent(by_email(status="UNSUBSCRIBED"), on=False)
    assert (await ask("POST", UNSUBSCRIBE, off))[0] == 202
    after = (await shown(ask))["attributes"]
    marketing = after["subscriptions"]["email"]["marketing"]
    assert marketing["consent"] == "UNSUBSCRIBED"
    assert marketing["suppression"][0]["reason"] == "UNSUBSCRIBE"
    assert marketing["can_receive_email_marketing"] is False
    # Unsubscribing does not move `updated`.
    assert after["updated"] == attributes["updated"]
    clock.advance(9)
    await ask("POST", SUBSCRIBE, consent(by_email()))
    marketing = (await shown(ask))["attributes"]["subscriptions"]["email"]["marketing"]
    assert marketing["suppression"] == []


async def test_an_unsubscribe_from_a_list_spares_the_rest_only_for_members(
    ask: Ask, sandbox: Sandbox
) -> None:
    group = await made_list(ask)
    await ask("POST", SUBSCRIBE, consent(by_email(), group=group))
    assert len(sandbox.state.lists[group].members) == 1
    off = consent(by_email(status="UNSUBSCRIBED"), on=False, group=group)
    await ask("POST", UNSUBSCRIBE, off)
    (profile,) = sandbox.state.profiles
    assert profile.consent.channels["email.marketing"].status == "SUBSCRIBED"
    assert list(profile.consent.list_suppressions) == [group]
    await ask("POST", UNSUBSCRIBE, off)
    assert profile.consent.channels["email.marketing"].status == "UNSUBSCRIBED"


async def test_double_opt_in_waits_unless_historical(ask: Ask, sandbox: Sandbox) -> None:
    group = await made_list(ask, opt_in_process="double_opt_in")
    await ask("POST", SUBSCRIBE, consent(by_email(), group=group))
    assert len(sandbox.state.profiles.by_id) == 0
    past = by_email(consented_at="2026-01-01T00:00:00Z")
    body = consent(past, group=group, historical_import=True)
    assert (await ask("POST", SUBSCRIBE, body))[0] == 202
    assert len(sandbox.state.lists[group].members) == 1


@pytest.mark.parametrize(
    ("more", "historical"),
    [
        ({}, True),
        ({"consented_at": "2027-01-01T00:00:00Z"}, True),
        ({"consented_at": "2026-01-01T00:00:00Z"}, False),
    ],
)
async def test_consented_at_belongs_to_historical_imports(
    ask: Ask,
    more: dict[str, str],
    historical: bool,
) -> None:
    body = consent(by_email(**more), historical_import=historical)
    status, answer, _ = await ask("POST", SUBSCRIBE, body)
    assert status == 400
    assert answer["errors"][0]["source"]["pointer"].endswith("/consented_at")


async def test_an_old_consent_does_not_undo_a_newer_unsubscribe(ask: Ask) -> None:
    await ask("POST", SUBSCRIBE, consent(by_email()))
    await ask("POST", UNSUBSCRIBE, consent(by_email(status="UNSUBSCRIBED"), on=False))
    past = by_email(consented_at="2026-01-01T00:00:00Z")
    status, answer, _ = await ask(
        "POST", SUBSCRIBE, consent(past, historical_import=True)
    )
    assert status == 400
    assert answer["errors"][0]["source"]["pointer"].endswith("/consented_at")


async def test_only_consent_goes_into_a_consent_job(ask: Ask) -> None:
    status, answer, _ = await ask(
        "POST", SUBSCRIBE, consent({**by_email(), "first_name": "A"})
    )
    pointer = "/data/attributes/profiles/data/0/attributes/first_name"
    assert (status, answer["errors"][0]["source"]["pointer"]) == (400, pointer)
    assert (await ask("POST", SUBSCRIBE, consent({"email": "a@b.co"})))[0] == 400
    sms = {"subscriptions": {"sms": {"marketing": {"consent": "SUBSCRIBED"}}}}
    assert (await ask("POST", SUBSCRIBE, consent({"email": "a@b.co", **sms})))[0] == 400
    status, answer, _ = await ask("POST", SUBSCRIBE, consent(by_email(), group="no"))
    pointer = "/data/relationships/list/data/id"
    assert (status, answer["errors"][0]["source"]["pointer"]) == (400, pointer)


@pytest.mark.parametrize(
    ("revision", "today", "most"),
    [("2026-07-15", "", 1000), ("2024-06-15", "2024-06-20", 100)],
)
async def test_how_many_fit(
    ask: Ask, sandbox: Sandbox, revision: str, today: str, most: int
) -> None:
    if today:
        sandbox.settings = sandbox.settings.changed({"today": today})
    people = [by_email(f"u{i}@b.co") for i in range(most + 1)]
    too_many, fitting = consent(*people), consent(*people[1:])
    assert (await ask("POST", SUBSCRIBE, too_many, revision=revision))[0] == 400
    assert (await ask("POST", SUBSCRIBE, fitting, revision=revision))[0] == 202


async def test_suppression_jobs(ask: Ask, sandbox: Sandbox) -> None:
    def job(kind: str) -> dict[str, Any]:
        rows = [{"type": "profile", "attributes": {"email": "a@b.co"}}]
        name = f"profile-suppression-bulk-{kind}-job"
        return {"data": {"type": name, "attributes": {"profiles": {"data": rows}}}}

    path = "/api/profile-suppression-bulk-{}-jobs"
    status, answer, _ = await ask("POST", path.format("create"), job("create"))
    assert (status, answer["data"]["attributes"]["total_count"]) == (202, 1)
    (profile,) = sandbox.state.profiles
    profile.consent.suppressions["HARD_BOUNCE"] = 0.0
    await ask("POST", path.format("delete"), job("delete"))
    assert list(profile.consent.suppressions) == ["HARD_BOUNCE"]


async def test_list_membership(ask: Ask, sandbox: Sandbox, clock: HeldClock) -> None:
    group = await made_list(ask)
    ids = []
    for email in ("a@b.co", "b@b.co"):
        body = {"data": {"type": "profile", "attributes": {"email": email}}}
        _, answer, _ = await ask("POST", "/api/profiles", body)
        ids.append(answer["data"]["id"])
    path = f"/api/lists/{group}/relationships/profiles"
    other, one = ({"data": [{"type": "profile", "id": identifier}]} for identifier in ids)
    for entry in (other, one):
        clock.advance(1)
        assert (await ask("POST", path, entry))[0] == 204
    _, answer, _ = await ask("GET", path)
    assert [entry["id"] for entry in answer["data"]] == ids
    _, answer, _ = await ask("GET", f"/api/lists/{group}/profiles?sort=-joined_group_at")
    joined = [entry["attributes"]["joined_group_at"] for entry in answer["data"]]
    assert joined == ["2026-11-23T00:00:02+00:00", "2026-11-23T00:00:01+00:00"]
    assert (await ask("DELETE", path, one))[0] == 204
    assert list(sandbox.state.lists[group].members) == ids[:1]
    nobody = {"data": [{"type": "profile", "id": "nobody"}]}
    assert (await ask("POST", path, nobody))[0] == 404
    assert (await ask("POST", "/api/lists/no/relationships/profiles", one))[0] == 404


async def test_lists_are_found_by_name(ask: Ask) -> None:
    group = await made_list(ask)
    _, answer, _ = await ask("GET", '/api/lists?filter=equals(name,"VIP")')
    assert [entry["id"] for entry in answer["data"]] == [group]
    _, answer, _ = await ask("GET", '/api/lists?filter=equals(name,"Other")')
    assert answer["data"] == []
    _, answer, _ = await ask("GET", f"/api/lists/{group}")
    assert answer["data"]["attributes"]["opt_in_process"] == "single_opt_in"
