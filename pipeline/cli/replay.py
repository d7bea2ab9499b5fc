"""`replay` and `backfill`: send again what a topic still holds."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.again import again
from pipeline.cli.options import Options, given
from pipeline.errors import SettingsError

if TYPE_CHECKING:  # slow to import, and --help needs none
    from pipeline.replay.job import Job
    from pipeline.replay.outcome import Summary

__all__ = ["backfill", "replay"]

Topic = Annotated[
    str, typer.Option("--topic", metavar="T", callback=given, help="Topic to read.")
]
Partition = Annotated[
    int | None, typer.Option(min=0, metavar="P", help="This partition alone.")
]
Since = Annotated[
    str | None,
    typer.Option(
        "--from", metavar="OFFSET|TIME", help="Where to begin; else the first record."
    ),
]
Until = Annotated[
    str | None,
    typer.Option(
        "--to", metavar="OFFSET|TIME", help="Where to end, itself excluded; else the end."
    ),
]
Key = Annotated[
    str | None, typer.Option(metavar="K", help="Records with this key alone.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the exact requests and send none.")
]
Diff = Annotated[
    bool,
    typer.Option("--diff", help="With --dry-run: what would change in live profiles."),
]


def _command(name: str, what: str, *, backfill: bool) -> Callable[..., None]:
    """Make one of the two commands, which take the same options."""

    def send(
        context: typer.Context,
        topic: Topic,
        partition: Partition = None,
        since: Since = None,
        until: Until = None,
        key: Key = None,
        *,
        dry_run: DryRun = False,
        diff: Diff = False,
    ) -> None:
        from pipeline.replay.selection import Everything, OfKey
        from pipeline.replay.spans import Asked, place

        settings = Options.of(context).settings()
        if topic == settings.topics.dead_letters:
            raise SettingsError(
                f"{topic} holds dead letters, each with what became of it: use "
                "klaviyo-pipeline dead-letters replay."
            )
        if topic == settings.topics.state:
            raise SettingsError(
                f"{topic} holds notes of the service, and nothing to send: give a topic "
                "of the shop."
            )
        asked = Asked(topic, partition, place(since, "--from"), place(until, "--to"))
        selection = Everything() if key is None else OfKey(key)
        run = repr((asked, key, backfill))

        async def work(job: "Job") -> "Summary":
            return await job.replay([asked], selection, run)

        summary = again(settings, work, backfill=backfill, dry=dry_run, compare=diff)
        if not (summary.sent or summary.resumed):
            which = "" if key is None else f" with the key {key}"
            typer.echo(f"nothing matched: that range has no record{which}", err=True)

    send.__name__, send.__doc__ = name, what  # what typer shows
    return send


replay = _command(
    "replay",
    """Send a topic's records again; what is in Klaviyo already stays as it is.

    Ends at what was the end when it started. Interrupted, the same call goes on.
    """,
    backfill=False,
)
backfill = _command(
    "backfill",
    """Send a topic's records as history: no flow fires, no message reaches a customer.

    Needs a revision from 2026-04-15 on. Otherwise as `replay`.
    """,
    backfill=True,
)
