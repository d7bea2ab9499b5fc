"""The three places settings come from, each as a pydantic-settings source.

A source knows the name and the place of everything it found, so that an error can point
to it, and collects names nobody knows instead of stopping at the first.
"""

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

from pipeline.errors import SettingsError
from pipeline.settings.lines import line_of
from pipeline.settings.model import PREFIX, Settings, sections
from schemas import mapping

__all__ = ["CONFIG", "SECRETS_DIR", "Source", "environment", "secret_files", "toml_file"]

CONFIG: Final = PREFIX + "CONFIG"
SECRETS_DIR: Final = PREFIX + "SECRETS_DIR"
MAPPING: Final = "mapping"
SECRET_LIMIT: Final = 64 * 1024  # bytes; a secret is a line, not a mistaken mount

# What Kubernetes adds to every pod beside a Service that is called "pipeline".
_SERVICE_LINK: Final = re.compile(
    r"PIPELINE_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)"
)


class Source(PydanticBaseSettingsSource):
    """Values by section and field, with the place of each."""

    def __init__(self) -> None:
        super().__init__(Settings)
        self.values: dict[str, Any] = {}
        self.places: dict[tuple[str, str], str] = {}
        self.findings: list[str] = []

    def put(self, section: str, field: str, value: object, place: str) -> None:
        """Keep a value for a known setting."""
        self.values.setdefault(section, {})[field] = value
        self.places[section, field] = place

    def get_field_value(
        self,
        field: FieldInfo,  # noqa: ARG002  the signature is pydantic's
        field_name: str,
    ) -> tuple[Any, str, bool]:
        """Give a section as pydantic-settings asks for it."""
        return self.values.get(field_name), field_name, True

    def __call__(self) -> dict[str, Any]:
        """All that was found."""
        return self.values


def environment(environ: Mapping[str, str]) -> Source:
    """Read the variables that start with `PIPELINE_`; an empty one counts as not set."""
    source = Source()
    for name, value in sorted(environ.items()):
        if not name.startswith(PREFIX) or name in {CONFIG, SECRETS_DIR}:
            continue
        if _SERVICE_LINK.fullmatch(name) or (name == "PIPELINE_PORT" and "://" in value):
            continue
        _named(source, name, value, "the environment", (CONFIG, SECRETS_DIR))
    return source


def secret_files(folder: Path) -> Source:
    """Read the files of a mounted secret, named as the variables.

    Hidden entries are Kubernetes' own (`..data`). Raises `SettingsError` when the folder
    cannot be read.
    """
    source = Source()
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise SettingsError(
            f"{SECRETS_DIR} is {folder}, which cannot be read: {error.strerror}. "
            "Mount the secrets there or unset the variable."
        ) from None
    for entry in entries:
        if entry.name.startswith("."):
            continue
        try:
            with entry.open("rb") as file:
                value = file.read(SECRET_LIMIT + 1).decode().strip("\r\n")
        except (OSError, UnicodeDecodeError):
            source.findings.append(f"{entry}: must be a readable file of plain text")
            continue
        if len(value) > SECRET_LIMIT:
            source.findings.append(f"{entry}: is too large to be a secret; remove it")
            continue
        _named(source, entry.name, value, str(folder))
    return source


def toml_file(path: Path) -> Source:
    """Read the configuration file.

    Raises `SettingsError` when it is not there or not TOML.
    """
    try:
        text = path.read_bytes().decode()
        tables = tomllib.loads(text)
    except OSError as error:
        raise SettingsError(
            f"The configuration file {path} cannot be read: {error.strerror}. "
            f"Give another one with --config or {CONFIG}."
        ) from None
    except ValueError as error:  # bad TOML, or bytes that are not UTF-8
        # Only the position: the parser's words can repeat what stands in the file.
        at = re.search(r"\(at [^)]*\)", str(error))
        raise SettingsError(
            f"{path} is not TOML {at[0] if at else 'in UTF-8'}: mend that line."
        ) from None
    source = Source()
    for section, table in tables.items():
        if section == MAPPING and isinstance(table, dict):
            _mappings(source, table, path, text)
        elif isinstance(table, dict):
            _table(source, section, table, path)
        elif section == MAPPING or section in sections():
            source.findings.append(
                f"{section}, from {path}: is a section; write [{section}] and its fields "
                "below it"
            )
        else:
            hint = _nearest(section, _toml_names())
            source.findings.append(
                f"{section}, from {path}: there is no such setting{hint}"
            )
    return source


def _table(source: Source, section: str, table: Mapping[str, object], path: Path) -> None:
    model = sections().get(section)
    if model is None:
        hint = _nearest(section, [f"[{each}]" for each in sections()])
        source.findings.append(
            f"[{section}], from {path}: there is no such section{hint}"
        )
        return
    for field, value in table.items():
        if field in model.model_fields:
            source.put(section, field, value, str(path))
        else:
            name = f"{section}.{field}"
            hint = _nearest(name, _toml_names())
            source.findings.append(f"{name}, from {path}: there is no such setting{hint}")


def _mappings(source: Source, table: dict[str, Any], path: Path, text: str) -> None:
    """Read the tables under [mapping]; they are deeper than sections and fields."""
    source.values[MAPPING], faults = mapping.read(table)
    for fault in faults:
        keys = (MAPPING, *fault.path)
        line = line_of(text, keys)
        source.findings.append(
            f"{'.'.join(keys)}, from {path}, line {line}: {fault.message}"
        )


def _named(
    source: Source, name: str, value: str, where: str, others: tuple[str, ...] = ()
) -> None:
    section, _, field = name.removeprefix(PREFIX).lower().partition("__")
    if section == MAPPING:
        source.findings.append(
            f"{name}, from {where}: mappings stand in the configuration file only"
        )
        return
    known = sections()
    if (
        name == name.upper()
        and name.startswith(PREFIX)
        and section in known
        and field in known[section].model_fields
    ):
        if value.strip():
            source.put(section, field, value, f"{name} in {where}")
    else:
        names = [
            f"{PREFIX}{section}__{field}".upper()
            for section, model in known.items()
            for field in model.model_fields
        ]
        hint = _nearest(name, [*names, *others])
        source.findings.append(f"{name}, from {where}: there is no such setting{hint}")


def _toml_names() -> list[str]:
    return [
        f"{name}.{field}" for name, it in sections().items() for field in it.model_fields
    ]


def _nearest(name: str, known: Iterable[str]) -> str:
    """Say what to do about an unknown name: take the nearest known one, or remove it.

    A field in the wrong section, or without one, is found by its own name too.
    """
    by_form = {_form(each): each for each in known}
    close = difflib.get_close_matches(_form(name), by_form, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {by_form[close[0]]}?"
    by_field = {each.partition(".")[2]: full for each, full in by_form.items()}
    close = difflib.get_close_matches(_form(name).rpartition(".")[2], by_field, n=1)
    if close:
        return f"; did you mean {by_field[close[0]]}?"
    return "; remove it, or look the name up in the README"


def _form(name: str) -> str:
    """Names as they are compared: the prefix that all share would make all alike."""
    return name.upper().removeprefix(PREFIX).replace("__", ".").strip("[]").lower()
