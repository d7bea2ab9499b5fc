"""What mappings do, before they do it: findings of `check`, and `check --sample`."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.cli.findings import Finding
from pipeline.cli.sample_consent import requests
from pipeline.errors import SettingsError
from pipeline.records import Dead, Record, Skipped
from pipeline.settings import Settings
from pipeline.stages import planning
from schemas import klaviyo, privacy
from schemas.commands import (
    ChangeConsent,
    Command,
    CreateEvent,
    EraseProfile,
    SuppressProfile,
    UpsertProfile,
)
from schemas.event import Event, Plan
from schemas.mapping import Mapped

__all__ = ["show", "unread"]

_FOUND: Final = "<of the profile that is found>"
_WIDE: Final = 200  # letters, where no terminal says how wide it is
_NOW: Final = 1_793_527_200_000  # ms; stands for the record's time, the same every day


def show(settings: Settings, file: Path, topic: str | None) -> bool:
    """Print input, event, commands and requests side by side; false for a dead letter.

    Raises `SettingsError` when the file cannot be read or its topic has to be said.
    """
    try:
        value = file.read_bytes()
    except OSError as error:
        raise SettingsError(
            f"The sample {file} cannot be read: {error.strerror}. Give a file that holds"
            " one message."
        ) from None
    record = Record(topic or _topic(settings), 0, 0, _NOW, None, value)
    planner = planning(settings)
    read = planner.read(record)
    planned = planner.plan(record)
    commands = planned.commands if isinstance(planned, Plan) else []
    event = read.event if isinstance(read, Mapped) else read
    _side_by_side(
        _pretty(value),
        _json(event) if isinstance(event, Event) else "none",
        "\n".join(map(_command, commands)) or "none",
        "\n\n".join(_request(one, settings) for one in commands) or "none",
    )
    print(_end(planned, read))
    return not isinstance(planned, Dead)


def unread(settings: Settings) -> Iterator[Finding]:
    """Find mappings of topics that `kafka.topics` does not name."""
    read = settings.kafka.topics
    for topic in settings.mapping.topics:
        patterns = [one for one in read if one.startswith("^")]
        if topic in read or any(re.match(one, topic) for one in patterns):
            yield Finding("ok", "mapping", f"of the topic {topic}")
        else:
            yield Finding(
                "note",
                "mapping",
                f"of {topic}, a topic that is not read",
                "add it to kafka.topics",
            )


def _topic(settings: Settings) -> str:
    """The topic a sample is of when nobody says: the only one there can be."""
    topics = settings.mapping.topics or settings.kafka.topics[:1]
    if len(topics) == 1 and not topics[0].startswith("^"):
        return topics[0]
    raise SettingsError(
        f"There are mappings for several topics ({', '.join(topics)}); say with --topic"
        " which one the sample is of."
    )


def _end(planned: Plan | Skipped | Dead, read: object) -> str:
    by = f" by mapping.{read.mapping.name}" if isinstance(read, Mapped) else ""
    match planned:
        case Dead():
            at = f" at {planned.pointer}" if planned.pointer else ""
            return f"dead letter{by}: {planned.reason}{at}: {planned.message}"
        case Skipped():
            return f"skipped{by}: {planned.reason}"
        case Plan():
            left = ", ".join((*planned.skipped, *planned.degraded))
            return f"delivered{by}" + (f"; left out: {left}" if left else "")


def _command(command: Command) -> str:
    return f"{type(command).__name__} {_json(command)}"


def _request(command: Command, settings: Settings) -> str:
    """Return the single call; a backlog sends the same rows by bulk requests."""
    served = max(settings.klaviyo.api_revision, klaviyo.OLDEST_SPOKEN)
    match command:
        case UpsertProfile():
            path, body = "profile-import", klaviyo.profile_import(command, served)
            return f"POST /api/{path}\n{_pretty(body)}"
        case CreateEvent():
            return f"POST /api/events\n{_pretty(klaviyo.event(command, served))}"
        case ChangeConsent():
            return "\n\n".join(
                f"{called}\n{_pretty(body)}"
                for called, body in requests(command, settings, served)
            )
        case SuppressProfile():
            body = privacy.suppression([command.identity.email or _FOUND])
            called = "POST /api/profile-suppression-bulk-create-jobs"
            return f"{called}\n{_pretty(body)}"
        case EraseProfile():
            body = privacy.deletion(_FOUND)
            return f"POST /api/data-privacy-deletion-jobs\n{_pretty(body)}"


def _json(value: object) -> str:
    return _pretty(msgspec.json.encode(value))


def _pretty(data: bytes) -> str:
    try:
        return msgspec.json.format(data, indent=2).decode()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return data.decode(errors="replace")


def _side_by_side(*columns: str) -> None:
    table = Table("input", "event", "commands", "requests")
    table.add_row(*map(Text, columns))
    wide = None if sys.stdout.isatty() else _WIDE
    Console(width=wide).print(table)
