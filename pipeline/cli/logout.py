"""`logout`: revokes the tokens and forgets them."""

import typer

from pipeline.cli.options import Options

__all__ = ["logout"]


def logout(context: typer.Context) -> None:
    """Revoke the OAuth tokens at Klaviyo and forget them; a running service halts."""
    import asyncio  # noqa: PLC0415

    settings = Options.of(context).settings()

    async def disconnect() -> str:
        from pipeline.access import account  # noqa: PLC0415

        async with account(settings) as connect:
            tokens = await connect.disconnect()
        if tokens is None:
            return "No account was connected."
        return f"Disconnected account {tokens.account_name} ({tokens.account_id})."

    typer.echo(asyncio.run(disconnect()))
