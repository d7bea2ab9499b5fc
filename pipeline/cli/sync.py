"""`sync`: bring one customer or order up to date by hand."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.again import again
from pipeline.cli.options import Options, given
from pipeline.cli.progress import Shown
from pipeline.errors import PipelineError

if TYPE_CHECKING:  # slow to import, and --help needs none
    from pipeline.replay.job import Job
    from pipeline.replay.outcome import Summary
    from pipeline.replay.selection import Selection

__all__ = ["sync"]

sync = typer.Typer(
    name="sync", help="Bring one customer or order up to date.", no_args_is_help=True
)


@sync.command()
def customer(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="ID", callback=given, help="The shop's customer id.")
    ],
) -> None:
    """Send all records about one customer again, orders too."""
    from pipeline.replay.selection import OfCustomer

    _send(context, lambda job: OfCustomer(name, job.planner()), "customer", name)


@sync.command()
def order(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="ID", callback=given, help="The shop's order id.")
    ],
) -> None:
    """Send all records about one order again."""
    from pipeline.replay.selection import OfOrder

    _send(context, lambda job: OfOrder(name, job.planner(events=True)), "order", name)


@sync.command()
def profile(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="ID", callback=given, help="Klaviyo's profile id.")
    ],
) -> None:
    """Fetch one profile from Klaviyo and publish it, also if nothing has changed."""
    import uvloop

    from pipeline.app import App, stop_on_signal
    from pipeline.replay.waiting import connecting

    settings = Options.of(context).settings()
    shown = Shown()

    async def fetch() -> str:
        app, stop = App(settings), stop_on_signal()
        kind = await connecting(app.sync_profile(name), app.health, stop, shown)
        if stop.is_set():
            raise PipelineError("Interrupted. Call it again.")
        return (
            f"published as {kind}"
            if kind
            else "published as it is; nothing has changed since it was last published"
        )

    try:
        said = uvloop.run(fetch())
    finally:
        shown.clear()
    typer.echo(f"profile {name}: {said}")


def _send(
    context: typer.Context, meant: "Callable[[Job], Selection]", what: str, name: str
) -> None:
    from pipeline.replay.spans import Asked

    settings = Options.of(context).settings()

    async def work(job: "Job") -> "Summary":
        asked = [Asked(topic) for topic in await job.sources()]
        return await job.replay(asked, meant(job), f"sync {what} {name}")

    if not again(settings, work).sent:
        raise PipelineError(
            f"No record of the {what} {name} is in {', '.join(settings.kafka.topics)}. "
            "Check the id; if retention has deleted its records, let the shop write them "
            "again."
        )
