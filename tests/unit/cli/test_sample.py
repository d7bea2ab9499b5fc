"""`check --sample`: a message, what becomes of it, and nobody called."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import cli
from pipeline.cli.sample import unread
from pipeline.demo.foreign import MAPPINGS
from pipeline.settings import load
from tests.shops import ROW, WEB_ORDER, change


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("PIPELINE_KLAVIYO__API_KEY", "PIPELINE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "pipeline.toml"
    file.write_text(MAPPINGS, "utf-8")
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


def test_a_mapping_of_a_topic_that_is_not_read_is_noted(config: Path) -> None:
    read = {"PIPELINE_KAFKA__TOPICS": "web.orders,^plugin\\."}
    found = list(unread(load(config, read)))
    assert [one.grade for one in found] == ["ok", "ok", "note"]
    assert "crm.public.customers" in found[2].found


@pytest.mark.parametrize(
    ("point", "said"),
    [
        ("cart = nowhere_at_all", "cart = nowhere_at_all in klaviyo_pipeline.events"),
        ("cart = json:loads", "must name a module"),
        ("cart = json", "needs one subclass of Event (it has 0), and EXAMPLES"),
        ("cart = schemas.events.order_placed", "the tag order.placed is taken"),
    ],
)
def test_a_broken_entry_point_is_said(config: Path, point: str, said: str) -> None:
    package = config.parent / "broken-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1")
    points = f"[klaviyo_pipeline.events]\n{point}\n"
    (package / "entry_points.txt").write_text(points)
    ended = subprocess.run(
        [sys.executable, "-m", "pipeline", "check", "--sample", str(config)],
        env=os.environ | {"PYTHONPATH": str(config.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_consent_and_lists_are_shown_as_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("PIPELINE_CONFIG", raising=False)
    file = tmp_path / "pipeline.toml"
    settings = '[klaviyo]\napi_revision = "2026-07-15"\n[consent]\nwrites = true\n'
    file.write_text(settings + 'list = "News"\n', "utf-8")
    said = {
        "type": "customer.updated",
        "occurred_at": "2026-11-01T10:00:00Z",
        "customer": {
            "id": "C-1",
            "email": "ada@shop.dev",
            "phone": "+12025550123",
            "consent": {
                "email": {"status": "subscribed", "at": "2026-10-01T00:00:00Z"},
                "sms": {"status": "unsubscribed"},
            },
            "lists": {"add": ["VIP", "Beta"], "remove": ["Trial"]},
        },
    }
    assert run(file, said) == 0
    out = capsys.readouterr().out
    assert [
        line.split("│")[-2].strip() for line in out.splitlines() if "/api/" in line
    ] == [
        "POST /api/profile-import",
        "POST /api/profile-subscription-bulk-delete-jobs",
        "DELETE /api/lists/ID_OF_Trial/relationships/profiles",
        "POST /api/profile-subscription-bulk-create-jobs",
        "POST /api/lists/ID_OF_Beta/relationships/profiles",
    ]
    assert '"consented_at": "2026-10-01T00:00:00Z"' in out
    assert '"id": "ID_OF_VIP"' in out
