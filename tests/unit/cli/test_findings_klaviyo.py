"""What `check` says about Klaviyo, asked of the local one."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest
from pydantic import SecretStr

from pipeline.cli.findings import Finding, exit_code
from pipeline.cli.findings_klaviyo import _clock, _readable_by_all, _rows, look_at_klaviyo
from pipeline.klaviyo.look import Findings, Standing
from pipeline.sandbox import Sandbox
from pipeline.settings import Consent, Deliver, Klaviyo, Settings, Throttle

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
    assert scopes.found == "reads events:read, lists:read, metrics:read, profiles:read"
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


async def test_a_scope_that_cannot_be_read_is_named_with_what_needs_it() -> None:
    async with Sandbox() as sandbox:
        sandbox.settings = sandbox.settings.changed({"missing_scopes": ["lists:read"]})
        scopes = (await look_at_klaviyo(settings(sandbox.url)))[-1]
    assert scopes.grade == "note"
    assert "lacks lists:read (subscriptions and lists)" in scopes.found
    assert "make a key" in scopes.do


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

        async def readable(self) -> dict[str, bool | None]:
            return {"profiles:read": None}

    @asynccontextmanager
    async def connect(*_: object) -> AsyncIterator[SimpleNamespace]:
        yield SimpleNamespace(look=Probed())

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
    ("scope", "named"),
    [
        ("", []),
        ("subscriptions:write", ["subscriptions:write"]),
        ("lists:write", ["lists:write", "subscriptions:write"]),
        ("lists:read", ["lists:read"]),
        ("profiles:read", ["profiles:read"]),
    ],
)
async def test_scopes_of_consent_are_missed_only_with_it(
    scope: str, named: list[str]
) -> None:
    """A subscription needs lists:write as well, so both are named then."""
    async with Sandbox(limits=False) as sandbox:
        missing = [scope] if scope else []
        sandbox.settings = sandbox.settings.changed({"missing_scopes": missing})
        off = settings(sandbox.url)
        assert "consent" not in graded(await look_at_klaviyo(off))
        writes = off.model_copy(update={"consent": Consent(writes=True)})
        findings = await look_at_klaviyo(writes)
        assert sandbox.state.profiles.version == 0, "nobody is changed by looking"
    consent = findings[-1]
    assert consent.what == "consent"
    assert consent.grade == ("FAULT" if named else "ok")
    assert exit_code(findings) == (3 if named else 0)
    assert not named or f"lacks {', '.join(named)}" in consent.found


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
