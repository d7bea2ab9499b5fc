"""Bulk profile import: accepted whole, applied later, row by row."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pipeline.sandbox import HeldClock, Sandbox

Ask = Callable[..., Awaitable[tuple[int, Any, Mapping[str, str]]]]
JOBS = "/api/profile-bulk-import-jobs"
TOP = "/data/attributes/profiles/data"


def job(*rows: dict[str, Any], lists: list[str] | None = None) -> dict[str, Any]:
    profiles = [{"type": "profile", "attributes": row} for row in rows]
    data: dict[str, Any] = {
        "type": "profile-bulk-import-job",
        "attributes": {"profiles": {"data": profiles}},
    }
    if lists is not None:
        named = [{"type": "list", "id": name} for name in lists]
        data["relationships"] = {"lists": {"data": named}}
    return {"data": data}


async def test_a_job_is_queued_works_and_completes(
    ask: Ask, sandbox: Sandbox, clock: HeldClock
) -> None:
    sandbox.settings = sandbox.settings.changed(
        {"import_queued": 10, "import_processing": 20}
    )
    status, answer, _ = await ask("POST", JOBS, job({"email": "a@b.co"}))
    shown = answer["data"]["attributes"]
    assert (status, shown["status"], shown["total_count"]) == (202, "queued", 1)
    path = f"{JOBS}/{answer['data']['id']}"
    clock.advance(10)
    _, answer, _ = await ask("GET", path)
    assert answer["data"]["attributes"]["status"] == "processing"
    assert len(sandbox.state.profiles.by_id) == 0
    clock.advance(20)
    _, answer, _ = await ask("GET", path)
    shown = answer["data"]["attributes"]
    assert (shown["status"], shown["completed_count"]) == ("complete", 1)
    assert shown["completed_at"] == "2026-11-23T00:00:30+00:00"
    assert len(sandbox.state.profiles.by_id) == 1
    _, found, _ = await ask("GET", f'{JOBS}?filter=equals(status,"complete")')
    assert len(found["data"]) == 1
    _, found, _ = await ask("GET", f'{JOBS}?filter=any(status,["queued","processing"])')
    assert found["data"] == []


async def test_null_does_not_clear_and_rows_of_one_profile_merge(
    ask: Ask, sandbox: Sandbox
) -> None:
    first = {"email": "a@b.co", "first_name": "A", "properties": {"x": 1, "y": 1}}
    await ask("POST", JOBS, job(first))
    second = {"email": "a@b.co", "first_name": None, "properties": {"x": None, "y": 2}}
    await ask("POST", JOBS, job(second, {"email": "a@b.co", "last_name": "L"}))
    (profile,) = sandbox.state.profiles
    assert profile.fields == {"first_name": "A", "last_name": "L"}
    assert profile.properties == {"x": 1, "y": 2}


async def test_one_bad_email_refuses_all(ask: Ask, sandbox: Sandbox) -> None:
    body = job({"email": "a@b.co"}, {"email": "bad"}, {"first_name": "x"})
    status, answer, _ = await ask("POST", JOBS, body)
    assert status == 400
    pointers = [e["source"]["pointer"] for e in answer["errors"]]
    assert pointers == [f"{TOP}/1/attributes/email", f"{TOP}/2/attributes"]
    assert not sandbox.state.imports


async def test_an_invalid_phone_is_silently_lost(ask: Ask, sandbox: Sandbox) -> None:
    row = {"email": "a@b.co", "phone_number": "+1", "first_name": "A"}
    _, answer, _ = await ask("POST", JOBS, job(row))
    _, answer, _ = await ask("GET", f"{JOBS}/{answer['data']['id']}")
    shown = answer["data"]["attributes"]
    assert (shown["completed_count"], shown["failed_count"]) == (1, 0)
    (profile,) = sandbox.state.profiles
    assert profile.identifiers == {"email": "a@b.co"}
    assert sandbox.state.losses[0]["reason"] == "invalid_phone"


async def test_failed_rows_are_named_in_pages(ask: Ask, sandbox: Sandbox) -> None:
    failing = [f"bad{i}@b.co" for i in range(150)]
    sandbox.settings = sandbox.settings.changed({"failing_rows": failing})
    rows = [{"email": "good@b.co"}, *({"email": email} for email in failing)]
    _, answer, _ = await ask("POST", JOBS, job(*rows))
    path = f"{JOBS}/{answer['data']['id']}"
    _, answer, _ = await ask("GET", path)
    assert answer["data"]["attributes"]["status"] == "complete"
    assert answer["data"]["attributes"]["failed_count"] == 150
    _, page, _ = await ask("GET", f"{path}/import-errors?page[size]=100")
    first = page["data"][0]["attributes"]
    assert first["source"] == {"pointer": f"{TOP}/1"}
    assert first["original_payload"]["attributes"] == {"email": "bad0@b.co"}
    assert len(page["data"]) == 100
    following = page["links"]["next"].removeprefix(sandbox.url)
    _, page, _ = await ask("GET", following)
    assert len(page["data"]) == 50
    assert page["links"]["next"] is None
    assert page["data"][-1]["attributes"]["source"] == {"pointer": f"{TOP}/150"}


async def test_rows_that_name_two_profiles_or_nobody_known_fail(
    ask: Ask, sandbox: Sandbox
) -> None:
    await ask("POST", JOBS, job({"external_id": "C-1"}, {"email": "a@b.co"}))
    body = job({"external_id": "C-1", "email": "a@b.co"}, {"email": "x@b.co"})
    body["data"]["attributes"]["profiles"]["data"][1]["id"] = "nobody"
    await ask("POST", JOBS, body)
    *_, last = sandbox.state.imports.values()
    codes = [error["attributes"]["code"] for error in last.errors]
    assert codes == ["duplicate_profile", "not_found"]


async def test_lists_are_joined_and_must_exist(ask: Ask, sandbox: Sandbox) -> None:
    name = {"data": {"type": "list", "attributes": {"name": "VIP"}}}
    _, made, _ = await ask("POST", "/api/lists", name)
    group = made["data"]["id"]
    await ask("POST", JOBS, job({"email": "a@b.co"}, lists=[group]))
    assert len(sandbox.state.lists[group].members) == 1
    status, answer, _ = await ask("POST", JOBS, job({"email": "a@b.co"}, lists=["no"]))
    assert (status, answer["errors"][0]["source"]["pointer"]) == (400, "/data")


async def test_a_job_has_ten_thousand_rows(ask: Ask) -> None:
    rows = [{"external_id": str(i)} for i in range(10_001)]
    assert (await ask("POST", JOBS, job(*rows)))[0] == 400
    assert (await ask("POST", JOBS, job(*rows[1:])))[0] == 202
