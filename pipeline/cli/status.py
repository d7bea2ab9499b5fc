"""`status`: who is connected."""

from typing import TYPE_CHECKING

import typer

from pipeline.cli.options import Options
from pipeline.cli.output import table

if TYPE_CHECKING:  # slow to import, and --help needs none
    from pipeline.klaviyo.tokens import Tokens
    from pipeline.settings import Settings

__all__ = ["described", "status"]


def status(context: typer.Context) -> None:
    """Show who is connected, with scopes and expiry, and whether Klaviyo agrees."""
    import asyncio

    from pipeline.cli.findings import exit_code
    from pipeline.cli.findings_klaviyo import look_at_klaviyo

    settings = Options.of(context).settings()
    settings.require_credential()
    rows = [
        ("subscription", f"{settings.subscription.name} {settings.subscription.version}"),
        ("klaviyo", settings.klaviyo.api_url),
        ("login", "OAuth" if settings.uses_oauth else "private key"),
    ]

    findings = asyncio.run(look_at_klaviyo(settings))
    if settings.uses_oauth:  # after the look, which may have refreshed the token
        rows += asyncio.run(_stored(settings))
    for finding in findings:
        if finding.what != "quota":
            rows.append((finding.what, finding.found))
            if finding.do:
                rows.append(("do", finding.do))
    table(("", ""), rows)
    if code := exit_code(findings):
        raise typer.Exit(code)


def described(tokens: "Tokens") -> list[tuple[str, str]]:
    """Say whose tokens they are and what they are good for; never the tokens."""
    from datetime import UTC, datetime

    expires = datetime.fromtimestamp(tokens.expires, UTC).isoformat(" ", "seconds")
    return [
        ("account", f"{tokens.account_name} ({tokens.account_id})"),
        ("scopes", " ".join(tokens.scopes)),
        ("access token until", f"{expires}, renewed by itself before"),
    ]


async def _stored(settings: "Settings") -> list[tuple[str, str]]:
    from pipeline.access import account

    async with account(settings) as connect:
        tokens = await connect.connected()
        if tokens is None:
            return [("account", "none is connected")]
        return described(tokens)
