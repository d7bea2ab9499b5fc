"""Listings: filters, sort, pages, and what they refuse."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from pipeline.sandbox import HeldClock, Sandbox

Ask = Callable[..., Awaitable[tuple[int, Any, Mapping[str, str]]]]
PROFILES = "/api/profiles"


async def fill(ask: Ask, clock: HeldClock, count: int) -> None:
    for i in range(count):
        body = {"type": "profile", "attributes": {"email": f"u{i}@b.co"}}
        await ask("POST", PROFILES, {"data": body})
        clock.advance(1)
    clock.advance(10)


async def emails(ask: Ask, path: str) -> list[str]:
    status, answer, _ = await ask("GET", path)
    assert status == 200, answer
    return [p["attributes"]["email"].partition("@")[0] for p in answer["data"]]


async def walk(ask: Ask, sandbox: Sandbox, path: str) -> list[list[str]]:
    """Follow links.next to the end; the e-mails page by page."""
    pages = []
    following: str | None = path
    while following:
        _, answer, _ = await ask("GET", following)
        pages.append([p["attributes"]["email"].partition("@")[0] for p in answer["data"]])
        link = answer["links"]["next"]
        following = link and link.removeprefix(sandbox.url)
    return pages


async def test_pages_end_where_the_next_begins(
    ask: Ask, sandbox: Sandbox, clock: HeldClock
) -> None:
    await fill(ask, clock, 5)
    pages = await walk(ask, sandbox, f"{PROFILES}?page[size]=2&sort=-created")
    assert pages == [["u4", "u3"], ["u2", "u1"], ["u0"]]


async def test_filters_join_with_and(ask: Ask, clock: HeldClock) -> None:
    await fill(ask, clock, 5)
    after = "greater-than(updated,2026-11-23T00:00:00Z)"
    before = "less-than(updated,2026-11-23T00:00:03Z)"
    assert await emails(ask, f"{PROFILES}?filter={after},{before}") == ["u1", "u2"]
    assert await emails(ask, f"{PROFILES}?filter=and({after},{before})") == ["u1", "u2"]
    chosen = 'any(email,["u3@b.co","U1@b.co","x@b.co"])'
    assert sorted(await emails(ask, f"{PROFILES}?filter={chosen}")) == ["u1", "u3"]
    assert await emails(ask, f"{PROFILES}?filter={chosen},{before}") == ["u1"]


async def test_a_row_that_changes_is_read_twice_never_skipped(
    ask: Ask, sandbox: Sandbox, clock: HeldClock
) -> None:
    await fill(ask, clock, 4)
    since = "filter=greater-than(updated,2026-11-22T00:00:00Z)&sort=updated&page[size]=2"
    _, first, _ = await ask("GET", f"{PROFILES}?{since}")
    body = {"data": {"type": "profile", "attributes": {"email": "u0@b.co", "title": "x"}}}
    await ask("POST", "/api/profile-import", body)
    rest = await walk(ask, sandbox, first["links"]["next"].removeprefix(sandbox.url))
    assert rest == [["u2", "u3"], ["u0"]]


@pytest.mark.parametrize(
    "query",
    [
        "filter=greater-or-equal(updated,2026-01-01T00:00:00Z)",
        "filter=greater-than(title,2026-01-01T00:00:00Z)",
        "filter=greater-than(updated,2026-01-01T00:00:00+00:00)",  # + is read as a space
        "filter=greater-than(updated,2026-11-23T00:00:09Z)",  # too near to now
        "filter=greater-than(updated,2027-01-01T00:00:00Z)",
        "filter=equals(email,",
        'filter=equals(email,"a") or equals(email,"b")',
        "sort=first_name",
        "page[size]=101",
        "page[size]=0",
        "page[cursor]=nonsense",
    ],
)
async def test_a_bad_listing_is_400(ask: Ask, clock: HeldClock, query: str) -> None:
    clock.advance(11)
    status, answer, _ = await ask("GET", f"{PROFILES}?{query}")
    assert status == 400
    assert answer["errors"][0]["source"]["parameter"] == query.partition("=")[0]


async def test_a_bound_some_seconds_ago_is_good(ask: Ask, clock: HeldClock) -> None:
    clock.advance(12)
    bound = "filter=greater-than(updated,2026-11-23T00:00:08Z)"
    assert await emails(ask, f"{PROFILES}?{bound}") == []
    encoded = "filter=greater-than(updated,2026-11-23T00:00:08%2B00:00)"
    assert await emails(ask, f"{PROFILES}?{encoded}") == []


async def test_suppressions_are_found_and_refuse_sort(ask: Ask, clock: HeldClock) -> None:
    await fill(ask, clock, 3)
    rows = [{"type": "profile", "attributes": {"email": "u1@b.co"}}]
    data = {
        "type": "profile-suppression-bulk-create-job",
        "attributes": {"profiles": {"data": rows}},
    }
    path = "/api/profile-suppression-bulk-create-jobs"
    assert (await ask("POST", path, {"data": data}))[0] == 202
    field = "subscriptions.email.marketing.suppression"
    found = f"filter=greater-than({field}.timestamp,2026-11-23T00:00:05Z)"
    assert await emails(ask, f"{PROFILES}?{found}") == ["u1"]
    reason = f'filter=equals({field}.reason,"USER_SUPPRESSED")'
    assert await emails(ask, f"{PROFILES}?{reason}") == ["u1"]
    assert (await ask("GET", f"{PROFILES}?{found}&sort=updated"))[0] == 400


async def test_sparse_fields_and_subscriptions(ask: Ask, clock: HeldClock) -> None:
    await fill(ask, clock, 1)
    _, answer, _ = await ask("GET", f"{PROFILES}?fields[profile]=email,updated")
    assert set(answer["data"][0]["attributes"]) == {"email", "updated"}
    _, answer, _ = await ask(
        "GET", f"{PROFILES}?additional-fields[profile]=subscriptions"
    )
    consent = answer["data"][0]["attributes"]["subscriptions"]["email"]["marketing"]
    assert consent["consent"] == "NEVER_SUBSCRIBED"
    assert consent["can_receive_email_marketing"] is True
