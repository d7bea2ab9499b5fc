"""What `check` says about Klaviyo, asked of the local one."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from pipeline.cli.findings import Finding, exit_code
from pipeline.cli.findings_klaviyo import _clock, _readable_by_all, _rows, look_at_klaviyo
from pipeline.klaviyo.look import Findings, Standing
from pipeline.sandbox import Sandbox
from pipeline.settings import Consent, Deletes, Deliver, Klaviyo, Settings, Throttle

KEY = "pk_planted0000000000000000000000001"


def settings(url: str, revision: str = "2026-07-15", *, strict: bool = False) -> Settings:
    return Settings(
        klaviyo=Klaviyo(
            api_url=url,
            api_key=SecretStr(KEY),
            api_revision=revision,
            strict_revision=strict,
        ),
        throttle=Throttle(quota_share=0.5, limit=10, seconds=2.0),
    )


def graded(findings: list[Finding]) -> dict[str, str]:
    assert KEY not in str(findings)
    return {finding.what: finding.grade for finding in findings}


async def test_a_working_account_is_shown_with_revision_and_quota() -> None:
    async with Sandbox() as sandbox:
        findings = await look_at_klaviyo(settings(sandbox.url))
    assert graded(findings) == {
        "credential": "ok",
        "revision": "ok",
        "quota": "ok",
        "clock": "ok",
        "scopes": "ok",
    }
    assert exit_code(findings) == 0
    credential, revision, quota, _, scopes = findings
    assert scopes.found == (
        "has accounts:read, events:read, lists:read, metrics:read, profiles:read, "
        "profiles:write, events:write, lists:write"
    )
    assert "account" in credential.found
    assert revision.found == "2026-07-15, stable"
    assert "create_event 350/s 3500/min" in quota.found
    assert "our share 50%, at most 10 calls in 2 s" in quota.found


async def test_a_rule_for_old_events_that_a_run_would_refuse_is_a_fault() -> None:
    rule = Deliver(backfill_after=86_400.0)
    async with Sandbox() as sandbox:
        asked = settings(sandbox.url, "2026-01-15").model_copy(update={"deliver": rule})
        findings = await look_at_klaviyo(asked)
    assert graded(findings)["backfill"] == "FAULT"
    assert exit_code(findings) == 2


async def test_a_refused_key_is_exit_3() -> None:
    async with Sandbox(key="pk_another") as sandbox:
        findings = await look_at_klaviyo(settings(sandbox.url))
    assert graded(findings)["credential"] == "FAULT"
    assert "PIPELINE_KLAVIYO__API_KEY" in findings[0].do
    assert exit_code(findings) == 3


async def test_a_missing_scope_is_exit_3_and_named() -> None:
    async with Sandbox() as sandbox:
        sandbox.settings = sandbox.settings.changed({"missing_scopes": ["accounts:read"]})
        findings = await look_at_klaviyo(settings(sandbox.url))
    assert graded(findings)["credential"] == "FAULT"
    assert "accounts:read" in findings[0].found
    assert exit_code(findings) == 3


async def looked(scopes: list[str], **sections: Any) -> Finding:
    """What is said about scopes to a key that lacks these; nothing may come of it."""
    async with Sandbox(limits=False) as sandbox:
        sandbox.settings = sandbox.settings.changed({"missing_scopes": scopes})
        asked = settings(sandbox.url).model_copy(update=sections)
        findings = await look_at_klaviyo(asked)
        assert sandbox.state.profiles.version == 0
        for operation, statuses in sandbox.ledger.statuses.items():
            assert operation.startswith("GET ") or statuses.keys() <= {400, 403}
    found = findings[-1]
    assert found.what == "scopes"
    assert exit_code(findings) == (3 if found.grade == "FAULT" else 0)
    return found


async def test_a_scope_that_no_run_needs_is_a_note_with_what_it_is_for() -> None:
    scopes = await looked(["metrics:read"])
    assert scopes.grade == "note"
    assert "lacks metrics:read (looking at what arrived)" in scopes.found
    assert "make a key" in scopes.do


@pytest.mark.parametrize(
    ("scope", "use"),
    [
        ("profiles:write", "customers"),
        ("profiles:read", "import jobs, reverse.enabled"),
        ("lists:read", "import jobs"),
        ("lists:write", "import jobs"),
        ("events:write", "orders"),
    ],
)
async def test_a_scope_for_want_of_which_a_run_would_halt_is_a_fault(
    scope: str, use: str
) -> None:
    scopes = await looked([scope])
    assert scopes.grade == "FAULT"
    assert scopes.found.endswith(f"lacks {scope} ({use})")
    assert "make a key" in scopes.do


@pytest.mark.parametrize(
    ("scope", "sections"),
    [
        ("subscriptions:write", {"consent": Consent(writes=True)}),
        ("subscriptions:write", {"deletes": Deletes(policy="suppress")}),
        ("data-privacy:write", {"deletes": Deletes(policy="erase")}),
    ],
)
async def test_a_scope_is_missed_only_where_it_is_needed(
    scope: str, sections: dict[str, Any]
) -> None:
    assert (await looked([scope])).grade == "ok"
    assert f"lacks {scope}" in (await looked([scope], **sections)).found


async def test_without_events_no_scope_for_them_is_needed() -> None:
    async with Sandbox(limits=False) as sandbox:
        sandbox.settings = sandbox.settings.changed({"missing_scopes": ["events:write"]})
        asked = settings(sandbox.url)
        klaviyo = asked.klaviyo.model_copy(update={"generate_events": False})
        findings = await look_at_klaviyo(asked.model_copy(update={"klaviyo": klaviyo}))
    assert findings[-1].grade == "ok"
    assert "events:write" not in findings[-1].found


@pytest.mark.parametrize(
    ("ahead", "grade", "side"),
    [(29, "ok", ""), (300, "note", "ahead of"), (-300, "note", "behind")],
)
def test_a_clock_that_differs_is_said(ahead: float, grade: str, side: str) -> None:
    found = _clock(ahead)
    assert found.grade == grade
    assert side in found.found


async def test_a_retired_revision_is_a_note_with_the_one_really_served() -> None:
    async with Sandbox() as sandbox:
        findings = await look_at_klaviyo(settings(sandbox.url, "2023-10-15"))
        served = sandbox.settings.today
    assert graded(findings)["revision"] == "note"
    assert graded(findings)["quota"] == "ok"
    revision = findings[1]
    assert "asked for 2023-10-15 (retired), served 20" in revision.found
    assert "klaviyo.api_revision" in revision.do
    assert exit_code(findings) == 0
    assert served


async def test_a_retired_revision_with_strict_is_a_fault() -> None:
    async with Sandbox() as sandbox:
        findings = await look_at_klaviyo(settings(sandbox.url, "2023-10-15", strict=True))
    assert graded(findings)["revision"] == "FAULT"
    assert "strict_revision" in findings[0].do
    assert exit_code(findings) == 1


async def test_an_address_nobody_answers_is_a_fault() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound, not listening: refused at once
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        findings = await look_at_klaviyo(settings(url))
    assert graded(findings) == {"klaviyo": "FAULT"}
    assert url in findings[0].found
    assert "klaviyo.api_url" in findings[0].do
    assert exit_code(findings) == 1


@pytest.mark.parametrize(
    ("second", "code"), [("ok", 0), ("unreachable", 1), ("unauthorized", 3)]
)
async def test_a_blip_is_looked_at_once_more(
    monkeypatch: pytest.MonkeyPatch, second: Standing, code: int
) -> None:
    standings: list[Standing] = ["unreachable", second, "ok"]

    class Probed:
        async def probe(self) -> Findings:
            return Findings(
                standing=standings.pop(0),
                message="said",
                account=None,
                asked="2026-07-15",
                served="2026-07-15",
                stage="stable",
                retires="2028-07-15",
                served_retires="2028-07-15",
                milestone=0,
                quotas={},
            )

    class Silent:
        async def readable(self) -> dict[str, bool | None]:
            return {"profiles:read": None}

        async def writable(self, scopes: object) -> dict[str, bool | None]:
            del scopes
            return {}

    @asynccontextmanager
    async def connect(*_: object) -> AsyncIterator[SimpleNamespace]:
        yield SimpleNamespace(look=Probed(), scopes=Silent())

    monkeypatch.setattr("pipeline.access.connect", connect)
    findings = await look_at_klaviyo(settings("http://127.0.0.1:1"))
    assert standings == ["ok"]
    assert exit_code(findings) == code


@pytest.mark.parametrize(
    ("codes", "expected"),
    [([], 0), ([1], 1), ([4, 1], 4), ([1, 2], 2), ([4, 3, 1], 3)],
)
def test_the_worst_fault_decides_the_exit_code(codes: list[int], expected: int) -> None:
    faults = [Finding("FAULT", "x", "x", code=code) for code in codes]
    assert exit_code([Finding("note", "x", "x", code=3), *faults]) == expected


@pytest.mark.parametrize(
    ("milestone", "said"), [(12, "a year"), (18, "six months"), (23, "a month")]
)
def test_a_revision_near_its_end_is_a_note_that_says_how_near(
    milestone: int, said: str
) -> None:
    found = Findings(
        standing="ok",
        message="",
        account=None,
        asked="2025-04-15",
        served="2025-04-15",
        stage="deprecated",
        retires="2027-04-15",
        served_retires="2027-04-15",
        milestone=milestone,
        quotas={},
    )
    revision = _rows(found, settings("http://127.0.0.1:1", "2025-04-15"))[1]
    assert revision.grade == "note"
    assert f"less than {said} more, until 2027-04-15" in revision.found
    assert "newer" in revision.do


@pytest.mark.parametrize(
    ("url", "noted"),
    [
        ("https://a.klaviyo.com", False),
        ("http://127.0.0.1:8090", False),
        ("http://a.klaviyo.com", True),
    ],
)
def test_a_way_that_all_can_read_is_noted(url: str, *, noted: bool) -> None:
    assert bool(_readable_by_all(url)) == noted
