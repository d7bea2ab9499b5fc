"""Whole commands: what reaches the parts behind them, and which exit code comes back."""

import asyncio
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import cli
from pipeline.demo.broker import Broker
from pipeline.sandbox import Sandbox

ROOT = Path(__file__).parents[3]
KEY = "pk_planted0000000000000000000000001"


@pytest.fixture
def broker() -> Iterator[Broker]:
    with Broker() as broker:
        yield broker


async def checked(**environ: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "pipeline",
        "check",
        cwd=ROOT,
        env={**os.environ, **environ, "PIPELINE_KLAVIYO__API_KEY": KEY},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert KEY not in out.decode()
    return process.returncode, out.decode()


async def test_check_is_0_when_a_run_would_work_and_3_with_a_refused_key(
    broker: Broker,
) -> None:
    broker.create(["shop.customers", "shop.orders", "klaviyo.dead-letters"])
    kafka = {
        "PIPELINE_KAFKA__BOOTSTRAP_SERVERS": broker.address,
        "PIPELINE_KAFKA__START": "earliest",
    }
    async with Sandbox() as sandbox, Sandbox(key="pk_another") as refusing:
        works, refused = await asyncio.gather(
            checked(PIPELINE_KLAVIYO__API_URL=sandbox.url, **kafka),
            checked(PIPELINE_KLAVIYO__API_URL=refusing.url, **kafka),
        )
    assert works[0] == 0, works[1]
    assert "FAULT" not in works[1]
    assert refused[0] == 3, refused[1]
    assert "FAULT  credential" in refused[1]


async def test_check_is_4_when_no_broker_answers() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, not listening: refused at once
        async with Sandbox() as sandbox:
            code, out = await checked(
                PIPELINE_KLAVIYO__API_URL=sandbox.url,
                PIPELINE_KAFKA__BOOTSTRAP_SERVERS=f"127.0.0.1:{closed.getsockname()[1]}",
            )
    assert code == 4, out
    assert "FAULT  kafka" in out
    assert '"logger"' not in out  # the clients under it are silent
    assert "Traceback" not in out


def test_run_hands_its_settings_to_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setenv("PIPELINE_KLAVIYO__API_KEY", KEY)
    monkeypatch.setenv("PIPELINE_HTTP__PORT", "1234")
    monkeypatch.setattr("pipeline.app.run", lambda *those: given.extend(those))
    assert cli.main(["run", "--only", "reverse"]) == 0
    assert given[0].http.port == 1234
    assert given[1] == "reverse"


@pytest.mark.parametrize(("agrees", "code"), [(True, 0), (False, 1)])
def test_demo_is_0_only_if_the_proof_agrees(
    monkeypatch: pytest.MonkeyPatch, *, agrees: bool, code: int
) -> None:
    asked: list[float] = []

    async def run(seconds: float, _: object) -> bool:
        asked.append(seconds)
        return agrees

    monkeypatch.setattr("pipeline.demo.run", run)
    assert cli.main(["demo", "--seconds", "3"]) == code
    assert asked == [3.0]


def test_sandbox_hands_over_port_limits_and_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[object] = []

    async def serve(port: int, *, limits: bool, key: str | None, on_ready: Any) -> None:
        given.append((port, limits, key))
        on_ready("http://127.0.0.1:7")
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.sandbox.serve", serve)
    assert cli.main(["sandbox", "--port", "7", "--no-limits", "--key", "K"]) == 0
    assert cli.main(["sandbox"]) == 0
    assert given == [(7, False, "K"), (8090, True, None)]
    assert "http://127.0.0.1:7/sandbox/" in capsys.readouterr().out


def test_a_sandbox_port_in_use_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert cli.main(["sandbox", "--port", port]) == 2
    assert f"cannot listen on port {port}" in capsys.readouterr().err
