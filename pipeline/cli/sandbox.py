"""`sandbox`: the local Klaviyo by itself."""

from typing import Annotated

import typer

from pipeline.cli.extra import needs_demo
from pipeline.errors import SettingsError

__all__ = ["sandbox"]


def sandbox(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8090,
    *,
    limits: Annotated[
        bool, typer.Option("--limits/--no-limits", help="Keep Klaviyo's rate limits.")
    ] = True,
    key: Annotated[
        str | None,
        typer.Option(metavar="K", help="The only key to accept; else any pk_... key."),
    ] = None,
) -> None:
    """Run a local Klaviyo; its state can be read and changed under /sandbox/."""
    import asyncio  # noqa: PLC0415
    from contextlib import suppress  # noqa: PLC0415

    with needs_demo("sandbox"):
        from pipeline.sandbox import serve  # noqa: PLC0415

    def ready(url: str) -> None:
        typer.echo(f"Klaviyo sandbox on {url}; state under {url}/sandbox/; stop: Ctrl-C")

    try:
        with suppress(KeyboardInterrupt):  # the usual way to end it
            asyncio.run(serve(port, limits=limits, key=key, on_ready=ready))
    except OSError as error:
        raise SettingsError(
            f"The sandbox cannot listen on port {port}: {error.strerror or error}. "
            "Stop what uses it, or give another with --port."
        ) from None
