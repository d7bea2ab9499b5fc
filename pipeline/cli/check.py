"""`check`: says whether a run would work."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import Options
from pipeline.cli.output import table

__all__ = ["check"]


def check(
    context: typer.Context,
    *,
    sample: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Show what becomes of the message in FILE; call nobody."
        ),
    ] = None,
    topic: Annotated[
        str | None, typer.Option(help="Topic the sample is of, if several have mappings.")
    ] = None,
) -> None:
    """Look at settings, credential, revision, quota and topics; say what to do."""
    if sample is not None:
        from pipeline.cli.sample import show

        if not show(Options.of(context).settings(), sample, topic):
            raise typer.Exit(1)
        return
    import asyncio

    from pipeline.cli.findings import Finding, exit_code
    from pipeline.cli.findings_kafka import look_at_kafka
    from pipeline.cli.findings_klaviyo import look_at_klaviyo
    from pipeline.cli.sample import unread

    settings = Options.of(context).settings()
    settings.require_credential()

    async def look() -> list[Finding]:
        found = await asyncio.gather(look_at_klaviyo(settings), look_at_kafka(settings))
        return [finding for part in found for finding in part]

    findings = [
        Finding("ok", "settings", f"subscription {settings.subscription.name}"),
        *unread(settings),
        *asyncio.run(look()),
    ]
    table(
        ("", "what", "found", "do"),
        [(one.grade, one.what, one.found, one.do) for one in findings],
    )
    if code := exit_code(findings):
        raise typer.Exit(code)
