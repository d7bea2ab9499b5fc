"""Scripted faults: which requests go wrong, how, and whether they were processed."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiohttp
import orjson
import pytest

from pipeline.sandbox import Action, HeldClock, Match, Rule, Sandbox

Ask = Callable[..., Awaitable[tuple[int, Any, Mapping[str, str]]]]
IMPORT = "/api/profile-import"
BODY = {"data": {"type": "profile", "attributes": {"email": "a@b.co"}}}


def script(sandbox: Sandbox, match: Match | None = None, **action: Any) -> None:
    sandbox.faults.add(Rule(action=Action(**action), match=match or Match(times=1)))


async def test_a_scripted_status_is_answered_unprocessed(
    ask: Ask, sandbox: Sandbox
) -> None:
    script(sandbox, kind="status", status=503, retry_after="soon", body={"x": 1})
    status, answer, headers = await ask("POST", IMPORT, BODY)
    assert (status, answer, headers["Retry-After"]) == (503, {"x": 1}, "soon")
    assert len(sandbox.state.profiles.by_id) == 0
    assert (await ask("POST", IMPORT, BODY))[0] == 201


async def test_a_scripted_page_may_quote_the_credential(
    ask: Ask, sandbox: Sandbox
) -> None:
    script(sandbox, kind="status", status=400, body={"x": "who is $credential?"})
    _, answer, _ = await ask("POST", IMPORT, BODY)
    assert answer["x"].startswith("who is pk_")


async def test_a_scripted_status_may_hide_success(ask: Ask, sandbox: Sandbox) -> None:
    script(sandbox, kind="status", status=502, processed=True)
    assert (await ask("POST", IMPORT, BODY))[0] == 502
    assert len(sandbox.state.profiles.by_id) == 1


@pytest.mark.parametrize(
    ("kind", "stored"),
    [("reset_before", 0), ("reset_after", 1), ("hang_before", 0), ("hang_after", 1)],
)
async def test_a_connection_is_lost_before_or_after(
    ask: Ask, sandbox: Sandbox, clock: HeldClock, kind: str, stored: int
) -> None:
    script(sandbox, kind=kind, seconds=40)
    with pytest.raises(aiohttp.ClientConnectionError):
        await ask("POST", IMPORT, BODY)
    assert len(sandbox.state.profiles.by_id) == stored
    assert clock.monotonic() == (40 if kind.startswith("hang") else 0)
    _, log, _ = await ask("GET", "/sandbox/requests")
    assert [(e["status"], e["fault"]) for e in log["data"]] == [(0, kind)]


async def test_garbage_and_half_answers(ask: Ask, sandbox: Sandbox) -> None:
    script(sandbox, kind="garbage", status=202)
    with pytest.raises(orjson.JSONDecodeError):
        await ask("POST", IMPORT, BODY)
    script(sandbox, kind="truncate")
    with pytest.raises(orjson.JSONDecodeError):
        await ask("POST", IMPORT, BODY)
    assert len(sandbox.state.profiles.by_id) == 1


@pytest.mark.parametrize("kind", ["drip", "delay"])
async def test_a_slow_answer_is_whole(
    ask: Ask, sandbox: Sandbox, clock: HeldClock, kind: str
) -> None:
    script(sandbox, kind=kind, seconds=7)
    status, answer, _ = await ask("POST", IMPORT, BODY)
    assert (status, answer["data"]["attributes"]["email"]) == (201, "a@b.co")
    assert clock.monotonic() == pytest.approx(7, abs=0.8)


async def statuses(ask: Ask, count: int) -> list[int]:
    return [(await ask("POST", IMPORT, BODY))[0] for _ in range(count)]


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        (Match(), [500, 500, 500, 500]),
        (Match(nth=2), [201, 500, 200, 200]),
        (Match(after=1, times=2), [201, 500, 500, 200]),
        (Match(method="GET"), [201, 200, 200, 200]),
        (Match(path="^/api/events"), [201, 200, 200, 200]),
        (Match(path="profile-.*"), [500, 500, 500, 500]),
        (Match(contains="a@b.co", times=1), [500, 201, 200, 200]),
        (Match(contains="nobody"), [201, 200, 200, 200]),
        (Match(probability=0), [201, 200, 200, 200]),
    ],
)
async def test_rules_choose_requests(
    ask: Ask, sandbox: Sandbox, match: Match, expected: list[int]
) -> None:
    script(sandbox, match, kind="status", status=500)
    assert await statuses(ask, 4) == expected


async def test_a_rule_may_end_with_time(
    ask: Ask, sandbox: Sandbox, clock: HeldClock
) -> None:
    script(sandbox, Match(seconds=10), kind="status", status=500)
    assert await statuses(ask, 1) == [500]
    clock.advance(10)
    assert await statuses(ask, 1) == [201]


async def test_faults_over_http(ask: Ask) -> None:
    rule = {"match": {"path": IMPORT}, "action": {"kind": "status", "status": 500}}
    assert (await ask("PUT", "/sandbox/faults", [rule]))[0] == 200
    assert await statuses(ask, 1) == [500]
    _, answer, _ = await ask("GET", "/sandbox/faults")
    assert answer["data"][0]["fired"] == 1
    assert (await ask("POST", "/sandbox/faults", {"action": {"kind": "no"}}))[0] == 400
    assert (await ask("DELETE", "/sandbox/faults"))[0] == 204
    assert await statuses(ask, 1) == [201]
