"""Reads the settings from file, secrets folder and environment."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from pipeline.errors import SettingsError
from pipeline.settings.model import Settings
from pipeline.settings.secrets import FILES
from pipeline.settings.sources import (
    CONFIG,
    SECRETS_DIR,
    Source,
    environment,
    secret_files,
    toml_file,
)

__all__ = ["load"]

DEFAULT_FILE: Final = Path("pipeline.toml")


def load(config: Path | None, environ: Mapping[str, str]) -> Settings:
    """Read and check all settings.

    Highest first: the environment, the files in PIPELINE_SECRETS_DIR, the TOML file
    (`config`, else PIPELINE_CONFIG, else `pipeline.toml` if there), the defaults. Raises
    `SettingsError` that names everything that is wrong at once and never shows a value:
    a key pasted into the wrong place is still a key.
    """
    sources = [environment(environ)]
    folder = Path(environ[SECRETS_DIR]) if environ.get(SECRETS_DIR) else None
    if folder is not None:
        sources.append(secret_files(folder))
    if config is None and environ.get(CONFIG):
        config = Path(environ[CONFIG])
    if config is None and DEFAULT_FILE.is_file():
        config = DEFAULT_FILE
    if config is not None:
        sources.append(toml_file(config))

    findings = [finding for source in sources for finding in source.findings]
    build: Any = Settings  # its sources argument is known to pydantic's mypy plugin only
    settings: Settings | None = None
    try:
        settings = build(_build_sources=(tuple(sources), {}))
    except ValidationError as error:
        places = _places(sources)
        findings += [
            _said(one["loc"], _rule(one), places)
            for one in error.errors(
                include_url=False, include_context=False, include_input=False
            )
        ]
    if findings or settings is None:
        # Not raised in the handler above: pydantic's error still holds the values.
        listed = "\n".join(f"- {finding}" for finding in findings)
        raise SettingsError(
            f"The settings cannot be used; mend what is listed:\n{listed}"
        )
    if folder is not None:
        settings._files = {  # noqa: SLF001  set once, here
            field: folder / name
            for field, name in FILES.items()
            if ("klaviyo", field) not in sources[0].places
        }
    return settings


def _places(sources: list[Source]) -> dict[tuple[str, str], str]:
    """Where each value came from; the first source that has it wins."""
    places: dict[tuple[str, str], str] = {}
    for source in reversed(sources):
        places.update(source.places)
    return places


def _rule(error: ErrorDetails) -> str:
    """Say what the value must be, in words that do not repeat it."""
    if error["type"].startswith("byte_size"):  # its message repeats the value's end
        return "must be a number of bytes, or one with a unit such as 64 MiB"
    message = error["msg"].removeprefix("Value error, ")
    return re.sub(r"^(Input|String|Tuple|Value) should", "must", message)


def _said(
    loc: tuple[int | str, ...], rule: str, places: Mapping[tuple[str, str], str]
) -> str:
    """One finding: which setting, from where, what it must be."""
    section, field = str(loc[0]), str(loc[1]) if len(loc) > 1 else ""
    name = f"{section}.{field}" if field else section
    found = [
        place
        for (where, what), place in places.items()
        if where == section and field in {what, ""}
    ]
    item = f" (entry {int(loc[2]) + 1})" if isinstance(loc[-1], int) else ""
    return f"{name}{item}, from {' and '.join(found) or 'its default'}: {rule}"
