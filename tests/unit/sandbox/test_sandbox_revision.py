"""Which revision serves a call, and what every answer says about it."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from pipeline.sandbox import Sandbox

Ask = Callable[..., Awaitable[tuple[int, Any, Mapping[str, str]]]]
SERVED = "X-Klaviyo-Api-Revision"


@pytest.mark.parametrize(
    ("asked", "served"),
    [
        ("2026-07-15", "2026-07-15"),
        ("2026-10-15", "2026-10-15"),
        ("2025-01-15", "2025-01-15"),
        ("2024-10-15", "2025-01-15"),
        ("2023-10-15", "2025-01-15"),
        ("2022-10-17", "2025-01-15"),
    ],
)
async def test_a_retired_revision_falls_forward(
    ask: Ask, asked: str, served: str
) -> None:
    status, _, headers = await ask("GET", "/api/accounts", revision=asked)
    assert (status, headers[SERVED]) == (200, served)


@pytest.mark.parametrize(
    "asked",
    [None, "yesterday", "2026-13-01", "2027-01-15", "2026-07-15.pre", "2026-02-01"],
)
async def test_a_revision_that_is_none_is_refused(ask: Ask, asked: str | None) -> None:
    status, body, _ = await ask("GET", "/api/accounts", revision=asked)
    assert status == 400
    assert body["errors"][0]["source"] == {"parameter": "revision"}


async def test_the_opt_out_makes_a_retired_revision_loud(ask: Ask) -> None:
    opt_out = {"X-Klaviyo-Revision-Fall-Forward-Opt-Out": "1"}
    status, _, _ = await ask(
        "GET", "/api/accounts", revision="2023-10-15", headers=opt_out
    )
    assert status == 410
    status, _, _ = await ask(
        "GET", "/api/accounts", revision="2025-01-15", headers=opt_out
    )
    assert status == 200


async def test_today_decides_what_is_alive(ask: Ask, sandbox: Sandbox) -> None:
    sandbox.settings = sandbox.settings.changed({"today": "2024-01-01"})
    status, _, headers = await ask("GET", "/api/accounts", revision="2023-10-15")
    assert (status, headers[SERVED]) == (200, "2023-10-15")
    assert headers["Content-Type"] == "application/json"
    assert (await ask("GET", "/api/accounts", revision="2026-07-15"))[0] == 400
    # profile-import came with 2024-02-15.
    assert (await ask("POST", "/api/profile-import", {}, revision="2023-10-15"))[0] == 404


async def test_paths_work_with_and_without_trailing_slash(ask: Ask) -> None:
    assert (await ask("GET", "/api/lists/"))[0] == 200
    assert (await ask("GET", "/api/lists"))[0] == 200
    assert (await ask("GET", "/api/nothing"))[0] == 404
    assert (await ask("DELETE", "/api/lists"))[0] == 405


async def test_a_refusal_names_the_revision_too(ask: Ask) -> None:
    body = {"data": {"type": "profile", "attributes": {"email": "no"}}}
    status, _, headers = await ask("POST", "/api/profile-import", body)
    assert (status, headers[SERVED]) == (400, "2026-07-15")
    assert "RateLimit-Remaining" in headers
