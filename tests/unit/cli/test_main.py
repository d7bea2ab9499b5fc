"""The command line as a user meets it: exit codes, errors, nothing secret."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import typer

from pipeline import cli
from pipeline.cli.extra import needs_demo
from pipeline.cli.output import table
from pipeline.errors import (
    KafkaUnreachable,
    OffsetsLost,
    OffsetsMissing,
    PipelineError,
    SettingsError,
)

SECRET = "pk_planted0000000000000000000000001"
ROOT = Path(__file__).parents[3]


def called(
    *arguments: str, environ: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments],
        env={"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", **(environ or {})},
        cwd=cwd or ROOT,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    """Exit code of a command that ends with this error."""

    def fails() -> None:
        raise error

    def works() -> None:
        """Keep `fails` a command beside others."""

    monkeypatch.setattr(cli, "COMMANDS", (fails, works))
    return cli.main(["fails"])


def test_help_lists_the_commands_and_nothing_else() -> None:
    result = called("--help")
    assert result.returncode == 0
    listed = [
        line.split()[0]
        for line in result.stdout.partition("Commands:")[2].splitlines()
        if line.strip()
    ]
    assert listed == [
        "run",
        "check",
        "login",
        "logout",
        "status",
        "replay",
        "backfill",
        "topics",
        "schema",
        "demo",
        "sandbox",
        "sync",
        "dead-letters",
    ]
    assert "\x1b" not in result.stdout


def commands(
    group: typer.core.TyperGroup, *before: str
) -> Iterator[tuple[tuple[str, ...], typer.core.TyperCommand]]:
    """All commands with the words that call them."""
    for name, command in group.commands.items():
        if isinstance(command, typer.core.TyperGroup):
            yield from commands(command, *before, name)
        elif isinstance(command, typer.core.TyperCommand):
            yield (*before, name), command


def test_each_command_has_help_for_itself_and_all_it_takes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    group = typer.main.get_command(cli.application())
    assert isinstance(group, typer.core.TyperGroup)
    found = dict(commands(group))
    assert len(found) == len(cli.COMMANDS) + 3 + 4
    for words, command in found.items():
        assert cli.main([*words, "--help"]) == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert " ".join((command.help or "-").split()) in shown, words
        for parameter in command.params:
            text = getattr(parameter, "help", None)
            assert text, (words, parameter.name)
            assert " ".join(text.split()) in shown, (words, parameter.name)


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; from pipeline.cli import main; main(['--help'])\n"
        "heavy = {'aiohttp', 'aiokafka', 'pydantic', 'structlog', 'msgspec'}\n"
        "sys.exit(' '.join(heavy & sys.modules.keys()) or 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_version_is_printed() -> None:
    result = called("--version")
    assert result.returncode == 0
    assert result.stdout.startswith("klaviyo-pipeline ")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nope"],
        ["--nope", "run"],
        ["run", "--only", "sideways"],
        ["sandbox", "--port", "x"],
    ],
)
def test_wrong_usage_is_exit_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    printed = capsys.readouterr()
    assert "Usage: klaviyo-pipeline" in printed.out + printed.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["sync", "customer", ""],
        ["sync", "order", " "],
        ["sync", "profile", ""],
        ["replay", "--topic", ""],
        ["backfill", "--topic", ""],
        ["dead-letters", "show", "abc"],
        ["dead-letters", "replay", "1:"],
        ["dead-letters", "discard", "1-2", "--why", "x"],
    ],
)
def test_a_blank_or_malformed_name_is_exit_2_before_anybody_is_asked(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    said = capsys.readouterr().err
    assert "it is blank" in said or "PARTITION:OFFSET" in said


def test_settings_errors_are_exit_2_with_place_and_cure(tmp_path: Path) -> None:
    (tmp_path / "pipeline.toml").write_text("[klavio]\napi_key = 'pk_x'\n")
    environ = {"PIPELINE_KLAVIYO_API_KEY": SECRET, "PIPELINE_HTTP__PORT": SECRET}
    for command in ("run", "check", "topics"):
        result = called(command, environ=environ, cwd=tmp_path)
        assert result.returncode == 2
        assert result.stdout == ""
        assert result.stderr.startswith("error: The settings cannot be used")
        assert "did you mean PIPELINE_KLAVIYO__API_KEY?" in result.stderr
        assert "did you mean [klaviyo]?" in result.stderr
        assert "PIPELINE_HTTP__PORT in the environment" in result.stderr
        assert SECRET not in result.stderr
        assert "Traceback" not in result.stderr


def test_the_config_option_stands_before_the_command(tmp_path: Path) -> None:
    gone = tmp_path / "gone.toml"
    result = called("--config", str(gone), "run")
    assert result.returncode == 2
    assert str(gone) in result.stderr
    assert "--config" in result.stderr


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_missing_credential_is_exit_2_and_says_how_to_give_one(
    tmp_path: Path, command: str
) -> None:
    result = called(command, cwd=tmp_path)
    assert result.returncode == 2
    assert "PIPELINE_KLAVIYO__API_KEY" in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PipelineError("x"), 1),
        (OffsetsLost("x"), 1),
        (SettingsError("x"), 2),
        (OffsetsMissing("x"), 2),
        (KafkaUnreachable("x"), 4),
        (typer.Exit(3), 3),
        (KeyboardInterrupt(), 130),
    ],
)
def test_each_end_has_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    assert failing(monkeypatch, error) == code


def test_an_error_is_printed_once_masked_and_without_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, KafkaUnreachable(f"no broker; key {SECRET}, ada@shop.dev"))
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "error: no broker; key pk_***, <e-mail>\n"


def test_on_a_terminal_an_error_is_coloured_and_masked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    failing(monkeypatch, KafkaUnreachable(f"no [broker] with {SECRET}"))
    text = capsys.readouterr().err
    assert "\x1b[" in text
    assert "no [broker] with pk_***" in text


def test_ctrl_c_is_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, KeyboardInterrupt())
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "")


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError):
        failing(monkeypatch, ZeroDivisionError())


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("lines", [1, 10_000])
def test_a_reader_that_goes_away_is_quiet(lines: int, unbuffered: str) -> None:
    script = f"""
import sys
from pipeline import cli
from pipeline.cli.output import table

def prints() -> None:
    table(("x",), [("x" * 100,)] * {lines})

def other() -> None:
    pass

cli.COMMANDS = (prints, other)
sys.exit(cli.main(["prints"]))
"""
    reading, writing = os.pipe()
    os.close(reading)
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered},
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=20,
        check=False,
    )
    os.close(writing)
    assert result.stderr == ""
    assert result.returncode in {0, 1}


def shell(redirected: str) -> subprocess.CompletedProcess[str]:
    """A command as a shell runs it, with its own streams redirected."""
    return subprocess.run(
        ["/bin/sh", "-c", f"exec {sys.executable} -m pipeline {redirected}"],
        env={"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no device that is full")
@pytest.mark.parametrize("unbuffered", ["", "-u"])
def test_an_output_without_room_is_one_line_and_exit_1(unbuffered: str) -> None:
    for command in ("schema", "--version"):
        script = f"exec {sys.executable} {unbuffered} -m pipeline {command} >/dev/full"
        result = subprocess.run(
            ["/bin/sh", "-c", script],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert result.returncode == 1
        assert result.stderr.startswith("error: The output cannot be written (No space")
        assert result.stderr.count("\n") == 1
    assert shell("check 2>/dev/full").returncode == 2


def test_streams_that_are_closed_are_as_dev_null() -> None:
    for closed in (">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"):
        result = shell(f"schema {closed}")
        assert (result.returncode, result.stderr) == (0, ""), closed
        assert result.stdout == "" if " >&-" in f" {closed}" else result.stdout
        assert shell(f"--nope {closed}").returncode == 2


def test_an_error_of_the_system_elsewhere_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(OSError, match="nowhere"):
        failing(monkeypatch, FileNotFoundError(2, "nowhere", "x"))


def test_a_missing_extra_says_what_to_install() -> None:
    install = r"pip install 'klaviyo-pipeline\[demo\]'"
    with pytest.raises(PipelineError, match=install), needs_demo("sandbox"):
        raise ModuleNotFoundError(name="jsonschema_rs")
    with pytest.raises(ModuleNotFoundError), needs_demo("sandbox"):
        raise ModuleNotFoundError(name="pipeline.nope")


@pytest.mark.parametrize("command", ["sandbox", "demo"])
def test_without_the_extra_the_command_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    for name in list(sys.modules):
        if name.startswith(("pipeline.sandbox", "pipeline.demo", "jsonschema_rs")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "jsonschema_rs", None)
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    assert cli.main([command]) == 1
    assert "klaviyo-pipeline[demo]" in capsys.readouterr().err


def test_tables_are_aligned_off_a_terminal_and_drawn_on_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [("a", "long " * 20), ("bbb", "[x]")]
    table(("h", "heading"), rows)
    assert capsys.readouterr().out.splitlines() == [
        "h    heading",
        "a    " + ("long " * 20).rstrip(),
        "bbb  [x]",
    ]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    table(("h", "heading"), rows)
    drawn = capsys.readouterr().out
    assert "│" in drawn
    assert "[x]" in drawn
