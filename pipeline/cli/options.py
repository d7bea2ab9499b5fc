"""The options before the command, and the settings they lead to."""

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer

if TYPE_CHECKING:  # settings are slow to import, and --help needs none
    from pipeline.settings import Settings

__all__ = ["Options", "given"]


def given(value: str) -> str:
    """Refuse a blank value: a variable of a script that was never set, mostly.

    Raises `BadParameter`, which is exit 2.
    """
    if not value.strip():
        raise typer.BadParameter("it is blank")
    return value


class Options:
    """What stands before the command, and the environment around it."""

    def __init__(self, config: Path | None, environ: Mapping[str, str]) -> None:
        self._config = config
        self._environ = environ

    @classmethod
    def of(cls, context: typer.Context) -> "Options":
        """Give the options of this call."""
        return cast("Options", context.obj)

    def settings(self, *, service: bool = False) -> "Settings":
        """Read the settings and set up the log. Raises `SettingsError`.

        A service logs; a tool prints what it finds, so the clients under it are silent
        unless log.level is debug.
        """
        from pipeline.observe.log import configure
        from pipeline.settings import load

        settings = load(self._config, self._environ)
        configure(settings.log, sys.stderr, secrets=settings.secret_values)
        if not service and settings.log.level != "debug":
            logging.disable(logging.CRITICAL)
        return settings
