"""`login`: connects an account by OAuth."""

from typing import TYPE_CHECKING, Annotated, Final

import typer

from pipeline.cli.options import Options
from pipeline.errors import PipelineError

if TYPE_CHECKING:  # slow to import, and --help needs none
    from pipeline.klaviyo.connect import Connect
    from pipeline.klaviyo.look import Account
    from pipeline.klaviyo.oauth import Asked
    from pipeline.klaviyo.tokens import Tokens
    from pipeline.settings import Settings

__all__ = ["login"]

PATIENCE: Final = 600.0  # s for the user to allow the access


def login(
    context: typer.Context,
    *,
    paste: Annotated[
        bool,
        typer.Option(
            "--paste", help="Ask for the URL the browser ends at, instead of listening."
        ),
    ] = False,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the browser.")
    ] = True,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Take another account than the one connected."),
    ] = False,
) -> None:
    """Authorise the OAuth app at Klaviyo and store the tokens, sealed, in Kafka.

    With a private key there is nothing to store: it remembers whose account it is.
    """
    import asyncio

    settings = Options.of(context).settings()
    if settings.klaviyo.api_key.get_secret_value():
        settings.require_credential()
        account = asyncio.run(_adopt(settings, replace=replace))
        typer.echo(f"account: {account.name or 'unnamed'} ({account.id})")
        return

    async def connect() -> "tuple[Tokens, list[str]]":
        from pipeline.access import account

        async with account(settings) as connect:
            if not replace:
                await connect.connected()  # if it cannot be opened, say so before
            await connect.known()
            asked = connect.ask()
            callback = await _callback(
                settings, connect, asked, paste=paste, browser=browser
            )
            tokens = await connect.finish(asked, callback, replace=replace)
            return tokens, connect.missing(tokens)

    tokens, missing = asyncio.run(connect())

    from pipeline.cli.status import described

    for name, value in described(tokens):
        typer.echo(f"{name}: {value}")
    if missing:
        typer.echo(
            f"missing scopes: {', '.join(missing)}. Add them to the app at Klaviyo and "
            "login again; what needs them will halt."
        )
    typer.echo("Connected. A service that runs goes on by itself in a few seconds.")


async def _adopt(settings: "Settings", *, replace: bool) -> "Account":
    """Remember the account of the key as the one to deliver to."""
    from pipeline.access import connect, same_account
    from pipeline.clock import SYSTEM
    from pipeline.kafka.admin import Admin
    from pipeline.klaviyo.oauth import Denied, Unavailable
    from pipeline.observe.health import Health
    from pipeline.observe.metrics import Metrics

    metrics = Metrics()
    async with connect(settings, Health(metrics, SYSTEM), metrics) as client:
        found = await client.look.probe()
    if found.account is None:
        message = f"{found.message}. See klaviyo-pipeline check."
        raise (Unavailable if found.standing == "unreachable" else Denied)(message)
    if settings.topics.create:
        await Admin(settings.kafka).create_missing(settings.topics.state, compact=True)
    await same_account(settings, found.account, replace=replace)
    return found.account


async def _callback(
    settings: "Settings",
    connect: "Connect",
    asked: "Asked",
    *,
    paste: bool,
    browser: bool,
) -> str:
    """Send the user to Klaviyo; the URL they came back with."""
    import asyncio
    import threading

    from pipeline.klaviyo.callback import Callback, is_local

    redirect = settings.klaviyo.redirect_url
    invitation = (
        f"Open this in a browser and allow the access:\n\n{asked.url}\n\n"
        f"It ends at an address that starts with {redirect}; if it ends with an error "
        "instead, compare klaviyo.client_id and klaviyo.redirect_url with the app there."
    )
    if paste or not is_local(redirect):
        typer.echo(invitation)
        return _pasted()  # nothing else runs meanwhile
    async with Callback(connect.redirect_url, asked) as callback:
        typer.echo(invitation)
        if browser:
            # A browser may stay in front until its user closes it.
            threading.Thread(target=_open, args=(asked.url,), daemon=True).start()
        try:
            async with asyncio.timeout(PATIENCE):
                return await callback.came()
        except TimeoutError:
            raise PipelineError(
                f"Nobody came back from Klaviyo in {PATIENCE / 60:.0f} minutes. Login "
                "again; with --paste if the browser is on another machine."
            ) from None


def _pasted() -> str:
    try:
        return str(typer.prompt("Paste that whole address here"))
    except typer.Abort:
        raise PipelineError("No address was pasted. Login again.") from None


def _open(url: str) -> None:
    """Open the browser if there is one on a screen; the URL was printed anyway."""
    import os
    import sys
    import webbrowser

    screen = sys.platform in {"darwin", "win32"} or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    )
    if screen:
        webbrowser.open(url)
