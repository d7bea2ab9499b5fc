"""The command line: one file per command; they parse and print, and decide nothing.

What a command needs is imported when it runs, so that `--help` answers at once.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from pipeline.cli.check import check
from pipeline.cli.dead_letters import dead_letters
from pipeline.cli.demo import demo
from pipeline.cli.login import login
from pipeline.cli.logout import logout
from pipeline.cli.options import Options
from pipeline.cli.output import complain, quiet_end, streams, unprinted
from pipeline.cli.replay import backfill, replay
from pipeline.cli.run import run
from pipeline.cli.sandbox import sandbox
from pipeline.cli.schema import schema
from pipeline.cli.status import status
from pipeline.cli.sync import sync
from pipeline.cli.topics import topics
from pipeline.errors import PipelineError, SettingsError

__all__ = ["application", "main"]

NAME: Final = "klaviyo-pipeline"
COMMANDS: Final = (
    run,
    check,
    login,
    logout,
    status,
    replay,
    backfill,
    topics,
    schema,
    demo,
    sandbox,
)
GROUPS: Final = (sync, dead_letters)


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code.

    0 done, 1 failed, 2 usage or settings, 3 credential refused, 4 Kafka unreachable,
    130 ended by Ctrl-C.
    """
    streams()
    try:
        return _ended(arguments)
    except OSError as error:
        if (lost := unprinted(error)) is None:
            raise
        complain(lost)
        return lost.exit_code


def _ended(arguments: list[str] | None) -> int:
    try:
        application()(arguments, prog_name=NAME)
    except PipelineError as error:
        complain(error)
        return error.exit_code
    except TypeError as error:
        from schemas.event import UnusableEventType

        if not isinstance(error, UnusableEventType):
            raise
        complain(SettingsError(str(error)))
        return SettingsError.exit_code
    except SystemExit as end:  # how typer ends; Ctrl-C (130) and a broken pipe included
        return quiet_end(end.code)
    return 0


def application() -> typer.Typer:
    """Make the command line, with colours and boxes on a terminal only."""
    app = typer.Typer(
        help="An open, asynchronous bridge between Kafka and Klaviyo.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,  # a plain traceback shows no values
        rich_markup_mode="rich" if sys.stderr.isatty() else None,
    )
    app.callback()(_options)
    for command in COMMANDS:
        app.command()(command)
    for group in GROUPS:
        app.add_typer(group)
    return app


def _version(wanted: bool) -> None:  # noqa: FBT001  typer's callbacks are called so
    if wanted:
        from importlib.metadata import version

        typer.echo(f"{NAME} {version(NAME)}")
        raise typer.Exit


def _options(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="TOML file of settings; else $PIPELINE_CONFIG, else pipeline.toml.",
        ),
    ] = None,
    *,
    version: Annotated[  # noqa: ARG001  its callback does the work
        bool,
        typer.Option("--version", is_eager=True, callback=_version, help="Print it."),
    ] = False,
) -> None:
    context.obj = Options(config, os.environ)
