"""`check --sample`: a message, what becomes of it, and nobody called."""

import json
from pathlib import Path

import pytest

from pipeline import cli
from tests.shops import ROW, WEB_ORDER, change, readme


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("PIPELINE_KLAVIYO__API_KEY", "PIPELINE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "pipeline.toml"
    file.write_text(readme(), "utf-8")
    return file


def run(config: Path, message: object, *more: str) -> int:
    sample = config.parent / "sample.json"
    sample.write_text(json.dumps(message), "utf-8")
    return cli.main(["--config", str(config), "check", "--sample", str(sample), *more])


def test_all_four_side_by_side(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(config, WEB_ORDER, "--topic", "web.orders") == 0
    out = capsys.readouterr().out
    heading, first = out.splitlines()[1], out.splitlines()[3]
    assert heading.split() == [
        "┃", "input", "┃", "event", "┃", "commands", "┃", "requests", "┃",
    ]  # fmt: skip
    assert [cell.strip() for cell in first.split("│")[1:-1]] == [
        "{", "{", "CreateEvent {", "POST /api/events",
    ]  # fmt: skip
    assert '"total_price": "409.94"' in out
    assert '"total": "409.94"' in out
    assert '"unique_id": "450789469:466157049"' in out
    assert out.endswith("delivered by mapping.orders\n")


def test_a_row_becomes_a_profile(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(config, change("u", None, ROW), "--topic", "crm.public.customers") == 0
    out = capsys.readouterr().out
    assert "POST /api/profile-import" in out
    assert '"phone_number": null' in out


def test_a_dead_letter_is_1(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = WEB_ORDER | {"created_at": 5}
    assert run(config, bad, "--topic", "web.orders") == 1
    out = capsys.readouterr().out
    assert "dead letter: mapping_failed at $.occurred_at: mapping.orders.fields" in out


def test_what_is_skipped(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draft = WEB_ORDER | {"financial_status": "pending"}
    assert run(config, draft, "--topic", "web.orders") == 0
    assert capsys.readouterr().out.endswith("skipped: unknown_type\n")


def test_the_topic_must_be_said_when_there_are_several(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(config, WEB_ORDER) == 2
    assert "say with --topic" in capsys.readouterr().err


def test_a_file_that_is_not_there(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["--config", str(config), "check", "--sample", "nowhere"]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_a_message_of_ours_needs_no_mapping(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text("")
    message = {"type": "customer.updated", "customer": {"id": "1", "email": "no"}}
    assert run(config, message) == 0
    assert capsys.readouterr().out.endswith("delivered; left out: email\n")
