"""The forms in which people write values, and what each is taken for."""

import re
from datetime import date
from typing import Annotated, Final, TypeAlias

from pydantic import BeforeValidator, ByteSize, Field

__all__ = [
    "Bytes",
    "Count",
    "Name",
    "Seconds",
    "blank",
    "join",
    "lower",
    "moment",
    "not_bool",
    "split",
    "text",
    "topic_name",
    "upper",
    "words",
]

_TOPIC: Final = re.compile(r"[a-zA-Z0-9._-]{1,249}")  # Kafka's own rule for names


def split(value: object) -> object:
    """Take comma-separated text apart: the form of lists in the environment."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def words(value: object) -> object:
    """Take text apart at commas and blanks: how OAuth writes scopes."""
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


def join(value: object) -> object:
    """Put a TOML list of hosts in the comma-separated form of Kafka's clients."""
    return ",".join(map(str, value)) if isinstance(value, list) else value


def blank(value: object) -> object:
    """Take an empty text for no number."""
    return None if value == "" else value


def lower(value: object) -> object:
    """Take a word in any case."""
    return value.strip().lower() if isinstance(value, str) else value


def upper(value: object) -> object:
    """Take a name that is written in capitals in any case."""
    return value.strip().upper() if isinstance(value, str) else value


def text(value: object) -> object:
    """Take a date for its text: TOML reads an unquoted 2026-07-15 as one."""
    return value.isoformat() if isinstance(value, date) else value


def moment(value: object) -> object:
    """Take a time for its text, and a word in any case."""
    if isinstance(value, date):  # TOML reads an unquoted time as one
        return value.isoformat()
    if isinstance(value, str) and value.strip().isalpha():
        return value.strip().lower()
    return value


def not_bool(value: object) -> object:
    """Refuse `true` as a number, though Python counts it as 1."""
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004  pydantic reports ValueError only
    return value


def topic_name(name: str) -> str:
    """Refuse what Kafka would refuse as the name of a topic."""
    if name in {".", ".."} or not _TOPIC.fullmatch(name):
        raise ValueError(
            "must be a Kafka topic name: 1 to 249 letters, digits, dots, hyphens, "
            "underscores"
        )
    return name


Count: TypeAlias = Annotated[int, BeforeValidator(not_bool), Field(gt=0)]
Seconds: TypeAlias = Annotated[
    float, BeforeValidator(not_bool), Field(gt=0, allow_inf_nan=False)
]
Bytes: TypeAlias = Annotated[ByteSize, BeforeValidator(not_bool), Field(gt=0)]
Name: TypeAlias = Annotated[str, Field(min_length=1)]
