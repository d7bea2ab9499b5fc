"""`demo`: everything on one machine, with a proof."""

from typing import Annotated

import typer

from pipeline.cli.extra import needs_demo

__all__ = ["demo"]


def demo(
    seconds: Annotated[
        float, typer.Option(min=1, max=3600, help="How long the shop makes changes.")
    ] = 20,
) -> None:
    """Run broker, local Klaviyo, a small shop and the pipeline; end with a proof."""
    import asyncio
    import sys

    from rich.console import Console

    from pipeline.observe.log import configure
    from pipeline.settings import Log

    with needs_demo("demo"):
        from pipeline.demo import run

    # Of warnings there is one, which is no news here: that an embedded broker keeps no
    # transactions.
    configure(Log(level="error"), sys.stderr)
    if not asyncio.run(run(seconds, Console())):
        raise typer.Exit(1)
