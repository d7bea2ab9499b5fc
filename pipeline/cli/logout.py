"""`logout`: revokes the tokens and forgets them."""

import typer

from pipeline.cli.options import Options
from pipeline.errors import SettingsError

__all__ = ["logout"]


def logout(context: typer.Context) -> None:
    """Revoke the OAuth tokens at Klaviyo and forget them; a running service halts."""
    import asyncio

    settings = Options.of(context).settings()
    if settings.klaviyo.api_key.get_secret_value() and not settings.uses_oauth:
        raise SettingsError(
            "klaviyo.api_key is set, and a private key knows no logout: delete the key "
            "at Klaviyo (Settings, API keys) and take it out of the settings."
        )

    async def disconnect() -> str:
        from pipeline.access import account

        async with account(settings) as connect:
            tokens = await connect.disconnect()
        if tokens is None:
            return "No account was connected."
        return f"Disconnected account {tokens.account_name} ({tokens.account_id})."

    typer.echo(asyncio.run(disconnect()))
