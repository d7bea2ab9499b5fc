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
    kafka: Annotated[
        bool,
        typer.Option("--kafka", help="An embedded Kafka beside it, gone when it ends."),
    ] = False,
) -> None:
    """Run a local Klaviyo; its state can be read and changed under /sandbox/."""
    import asyncio
    from contextlib import ExitStack, suppress

    with needs_demo("sandbox"):
        from pipeline.demo.broker import Broker
        from pipeline.sandbox import serve

    try:
        # Ctrl-C is the usual way to end it.
        with ExitStack() as stack, suppress(KeyboardInterrupt):
            broker = stack.enter_context(Broker()) if kafka else None

            def ready(url: str) -> None:
                typer.echo(
                    f"Klaviyo sandbox on {url}; state under {url}/sandbox/; stop: Ctrl-C"
                )
                if broker is not None:
                    typer.echo(
                        "With an embedded Kafka. For the other terminals:\n"
                        f"export PIPELINE_KAFKA__BOOTSTRAP_SERVERS={broker.address}\n"
                        f"export PIPELINE_KLAVIYO__API_URL={url}"
                    )

            asyncio.run(serve(port, limits=limits, key=key, on_ready=ready))
    except OSError as error:
        raise SettingsError(
            f"The sandbox cannot listen on port {port}: {error.strerror or error}. "
            "Stop what uses it, or give another with --port."
        ) from None
