"""Rate limits: two fixed windows an endpoint, what is announced and what a 429 says."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from pipeline.sandbox import HeldClock, Sandbox

Ask = Callable[..., Awaitable[tuple[int, Any, Mapping[str, str]]]]


def change(sandbox: Sandbox, **patch: object) -> None:
    sandbox.settings = sandbox.settings.changed(patch)


async def test_the_burst_window_closes_and_opens(ask: Ask, clock: HeldClock) -> None:
    clock.advance(0.4)
    assert (await ask("GET", "/api/accounts"))[0] == 200
    status, body, headers = await ask("GET", "/api/accounts")
    assert (status, headers["Retry-After"]) == (429, "1")
    assert body["errors"][0]["code"] == "throttled"
    assert not [name for name in headers if name.startswith("RateLimit")]
    clock.advance(0.6)
    assert (await ask("GET", "/api/accounts"))[0] == 200


async def test_the_steady_window_counts_down(ask: Ask, clock: HeldClock) -> None:
    clock.advance(10)
    headers: Mapping[str, str] = {}
    for left in range(14, -1, -1):
        status, _, headers = await ask("GET", "/api/accounts")
        assert (status, headers["RateLimit-Remaining"]) == (200, str(left))
        clock.advance(1)
    assert headers["RateLimit-Limit"] == "1, 1;w=1, 15;w=60"
    assert headers["RateLimit-Reset"] == str(50 - 14)
    # 25 s into the minute: Retry-After covers the rest of the window.
    assert (await ask("GET", "/api/accounts"))[2]["Retry-After"] == "35"
    clock.advance(34.9)
    assert (await ask("GET", "/api/accounts"))[0] == 429
    clock.advance(0.1)
    assert (await ask("GET", "/api/accounts"))[0] == 200


async def test_windows_may_start_with_the_first_request(
    ask: Ask, clock: HeldClock, sandbox: Sandbox
) -> None:
    change(sandbox, window_alignment="first")
    clock.advance(59.5)
    _, _, headers = await ask("GET", "/api/accounts")
    assert headers["RateLimit-Reset"] == "60"
    clock.advance(0.9)
    assert (await ask("GET", "/api/accounts"))[0] == 429


async def test_the_served_revision_decides_the_size(ask: Ask) -> None:
    body = {"data": {"type": "profile", "attributes": {"email": "a@b.co"}}}
    _, _, old = await ask("POST", "/api/profile-import", body, revision="2023-10-15")
    assert old["RateLimit-Limit"] == "75, 75;w=1, 700;w=60"
    _, _, new = await ask("POST", "/api/profile-import", body, revision="2026-07-15")
    assert new["RateLimit-Limit"] == "75, 75;w=1, 750;w=60"
    assert new["RateLimit-Remaining"] == "748"


async def test_the_header_may_be_a_plain_number(ask: Ask, sandbox: Sandbox) -> None:
    change(sandbox, limit_header="number")
    _, _, headers = await ask("GET", "/api/lists")
    assert headers["RateLimit-Limit"] == "750"


async def test_endpoints_do_not_share_windows_but_parameters_do(ask: Ask) -> None:
    assert (await ask("GET", "/api/accounts"))[0] == 200
    assert (await ask("GET", "/api/metrics"))[0] == 200
    extra = "?additional-fields[profile]=predictive_analytics"
    for _ in range(10):
        assert (await ask("GET", f"/api/profiles{extra}"))[0] == 200
    assert (await ask("GET", f"/api/profiles{extra}"))[0] == 429
    assert (await ask("GET", "/api/profiles"))[0] == 200


async def test_a_refused_credential_spends_nothing(ask: Ask) -> None:
    for _ in range(3):
        await ask("GET", "/api/accounts", headers={"Authorization": ""})
    assert (await ask("GET", "/api/accounts"))[0] == 200


async def test_limits_off_announces_room(ask: Ask, sandbox: Sandbox) -> None:
    change(sandbox, limits=False)
    for _ in range(3):
        assert (await ask("GET", "/api/accounts"))[0] == 200
    _, _, headers = await ask("GET", "/api/accounts")
    assert int(headers["RateLimit-Remaining"]) > 1_000_000
    assert "w=60" in headers["RateLimit-Limit"]


async def test_limits_can_be_changed_and_spent_by_others(
    ask: Ask, sandbox: Sandbox
) -> None:
    change(sandbox, limit_overrides={"GET /api/accounts": [5, 20]})
    _, _, headers = await ask("GET", "/api/accounts")
    assert headers["RateLimit-Limit"] == "5, 5;w=1, 20;w=60"
    spent = {"operation": "GET /api/accounts", "count": 20}
    assert (await ask("POST", "/sandbox/spend", spent))[0] == 204
    assert (await ask("GET", "/api/accounts"))[0] == 429


@pytest.mark.parametrize("advance", [60.0, 61.5])
async def test_finished_windows_are_kept_for_the_proof(
    ask: Ask, clock: HeldClock, advance: float
) -> None:
    await ask("GET", "/api/accounts")
    clock.advance(advance)
    await ask("GET", "/api/accounts")
    _, usage, _ = await ask("GET", "/sandbox/usage")
    assert [w["used"] for w in usage["windows"]["GET /api/accounts"]] == [1, 1]
    minutes = usage["operations"]["GET /api/accounts"]["minutes"]
    assert [count["accepted"] for count in minutes.values()] == [1, 1]
