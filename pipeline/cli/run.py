"""`run`: the service."""

from typing import Annotated, Literal

import typer

from pipeline.cli.options import Options

__all__ = ["run"]


def run(
    context: typer.Context,
    only: Annotated[  # noqa: ARG001  there is one direction so far
        Literal["forward"] | None,
        typer.Option(help="Run this direction alone."),
    ] = None,
) -> None:
    """Carry changes to Klaviyo until SIGTERM, with /livez, /readyz and /metrics."""
    settings = Options.of(context).settings(service=True)

    from pipeline import app  # noqa: PLC0415

    app.run(settings)
