"""`dead-letters`: look at what Klaviyo could not take, send it again, or put it away."""

import datetime as dt
import re
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from pipeline.cli.again import again
from pipeline.cli.options import Options
from pipeline.cli.output import table
from pipeline.cli.progress import Shown
from pipeline.errors import SettingsError

if TYPE_CHECKING:  # slow to import, and --help needs none
    from pipeline.replay.desk import Desk
    from pipeline.replay.job import Job
    from pipeline.replay.letters import Letter, Mark
    from pipeline.replay.outcome import Summary

__all__ = ["dead_letters"]

T = TypeVar("T")


def _known(reason: str | None) -> str | None:
    from typing import get_args

    from pipeline.records import DeadReason

    if reason is not None and reason not in get_args(DeadReason):
        raise SettingsError(
            f"No dead letter has the reason {reason}. The reasons there are: "
            f"{', '.join(get_args(DeadReason))}."
        )
    return reason


def _id(name: str | None) -> str | None:
    if name is not None and not re.fullmatch(r"[0-9]+:[0-9]+", name):
        raise SettingsError(
            f"{name!r} is no id of a dead letter, which is PARTITION:OFFSET, as 0:17. "
            "Which there are: klaviyo-pipeline dead-letters list --each."
        )
    return name


dead_letters = typer.Typer(
    name="dead-letters",
    help="Look at dead letters, send them again, put them away.",
    no_args_is_help=True,
)
Reason = Annotated[
    str | None,
    typer.Option(metavar="R", callback=_known, help="Letters with this reason."),
]
Name = Annotated[
    str | None,
    typer.Argument(metavar="ID", callback=_id, help="One letter, as PARTITION:OFFSET."),
]


@dead_letters.command("list")
def list_(
    context: typer.Context,
    reason: Reason = None,
    *,
    each: Annotated[
        bool, typer.Option("--each", help="A line for each open letter.")
    ] = False,
) -> None:
    """Count dead letters by reason, open, replayed and discarded; or name each one."""
    counts: Counter[tuple[str, str]] = Counter()
    rows: list[tuple[str, ...]] = []

    async def look(desk: "Desk") -> None:
        async for one, mark in desk.letters():
            if reason is not None and one.reason != reason:
                continue
            counts[one.reason, _fate(mark)] += 1
            if each and mark is None:
                rows.append(_row(one))

    _at_desk(context, look)
    if each:
        table(("id", "reason", "from", "pointer", "message"), rows)
        return
    fates = ("open", "replayed", "discarded")
    table(
        ("reason", *fates),
        [
            (name, *(str(counts[name, fate]) for fate in fates))
            for name in sorted({name for name, _ in counts})
        ],
    )


@dead_letters.command()
def show(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="ID", callback=_id, help="As PARTITION:OFFSET.")
    ],
    *,
    value: Annotated[
        bool,
        typer.Option("--value", help="Key, headers and value too: a customer's data."),
    ] = False,
) -> None:
    """Show why a record became a dead letter, where it was, and what became of it."""
    one, mark = _at_desk(context, lambda desk: desk.one(name))
    table(("what", "found"), [*_told(one, mark)])
    if value:
        typer.echo(f"key: {_text(one.record.key)}")
        for header, content in one.headers:
            typer.echo(f"header {header}: {_text(content)}")
        typer.echo(f"value:\n{_text(one.record.value)}")


@dead_letters.command()
def replay(
    context: typer.Context,
    name: Name = None,
    reason: Reason = None,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the exact requests and send none.")
    ] = False,
) -> None:
    """Send open letters again, the normal way; each one once.

    One that fails again becomes a new letter that carries its history. One call runs at a
    time: a second one waits for the first.
    """
    settings = Options.of(context).settings()

    async def work(job: "Job") -> "Summary":
        return await job.letters(reason, name)

    if name is not None and (why_not := _why_not(context, name, reason)):
        typer.echo(f"{name} {why_not}; nothing was sent.")
        return
    summary = again(settings, work, dry=dry_run)
    if summary.cut:
        typer.echo(
            f"{summary.cut} letters stay open: their values were too large to be kept. "
            "Send the originals: `dead-letters show ID` says where they are, `replay "
            "--topic T --partition P --from O --to O+1` sends one.",
            err=True,
        )


@dead_letters.command()
def discard(
    context: typer.Context,
    why: Annotated[str, typer.Option("--why", help="Kept beside the letters.")],
    name: Name = None,
    reason: Reason = None,
    *,
    every: Annotated[
        bool, typer.Option("--all", help="All that are open, whatever the reason.")
    ] = False,
) -> None:
    """Put open letters away for good, and record why."""
    if not why.strip():
        raise SettingsError("--why is blank: say why these letters may be put away.")
    if name is None and reason is None and not every:
        raise SettingsError("Say which letters: an ID, --reason R, or --all.")
    count = _at_desk(context, lambda desk: desk.discard(reason, name, why.strip()))
    if not count and name is not None and (why_not := _why_not(context, name, reason)):
        typer.echo(f"{name} {why_not}.")
        return
    typer.echo(f"{count} discarded")


def _at_desk(
    context: typer.Context, work: "Callable[[Desk], Coroutine[Any, Any, T]]"
) -> T:
    """Do it with the dead letters at hand; a wait for Kafka is shown."""
    import asyncio

    from pipeline.replay.desk import opened

    settings = Options.of(context).settings()
    shown = Shown()

    async def run() -> T:
        async with opened(settings) as desk:
            return await desk.watched(work(desk), shown)

    try:
        return asyncio.run(run())
    finally:
        shown.clear()


def _why_not(context: typer.Context, name: str, reason: str | None) -> str:
    """Say what keeps a letter from being meant, blank if nothing does.

    Raises `NoSuchLetter`.
    """
    one, mark = _at_desk(context, lambda desk: desk.one(name))
    if mark is not None and mark.fate != "sent":
        return f"is {_fate(mark)} already"
    if reason is not None and one.reason != reason:
        return f"has the reason {one.reason}, not {reason}"
    return ""


def _fate(mark: "Mark | None") -> str:
    if mark is None:
        return "open"
    return "discarded" if mark.fate == "discarded" else "replayed"


def _row(one: "Letter") -> tuple[str, ...]:
    return one.id, one.reason, _origin(one), one.pointer, one.message


def _origin(one: "Letter") -> str:
    return f"{one.topic}-{one.partition} at {one.offset}"


def _told(one: "Letter", mark: "Mark | None") -> list[tuple[str, str]]:
    found = [
        ("id", one.id),
        ("fate", _fate(mark)),
        ("reason", one.reason),
        ("stage", one.stage),
        ("message", one.message),
        ("pointer", one.pointer),
        ("status", one.status),
        ("code", one.code),
        ("came from", _origin(one)),
        ("written", _time(one.record.timestamp / 1000)),
        ("value", f"{one.record.size} bytes with key{', cut' * one.truncated}"),
    ]
    if mark is not None:
        found.insert(2, ("since", _time(mark.at)))
    if mark is not None and mark.why:
        found.insert(3, ("why", mark.why))
    found += [
        ("failed before", f"as {each.letter}: {each.reason}: {each.message}")
        for each in one.history
    ]
    return [(what, text) for what, text in found if text]


def _time(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="seconds")


def _text(content: bytes | None) -> str:
    return "null" if content is None else content.decode(errors="backslashreplace")
