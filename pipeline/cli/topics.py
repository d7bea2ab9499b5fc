"""`topics`: what it needs in Kafka."""

from typing import TYPE_CHECKING, Annotated, Final

import typer

from pipeline.cli.options import Options
from pipeline.cli.output import table

if TYPE_CHECKING:  # slow to import, and --help needs none
    from pipeline.kafka.admin import Topic

__all__ = ["topics"]

DAY: Final = 86_400_000  # ms
SOURCE_RETENTION: Final = 7 * DAY  # Kafka's own default, for a topic that others fill


def topics(
    context: typer.Context,
    *,
    create: Annotated[
        bool, typer.Option("--create", help="Create those that are missing.")
    ] = False,
) -> None:
    """Show the topics it reads and writes, with partitions, retention and compaction."""
    import asyncio

    from pipeline.kafka.admin import Admin

    settings = Options.of(context).settings()
    written = [settings.topics.dead_letters]
    if settings.reverse.enabled:
        written.append(settings.topics.profiles)
    state = settings.topics.state
    read = [name for name in settings.kafka.topics if not name.startswith("^")]
    patterns = [name for name in settings.kafka.topics if name.startswith("^")]

    async def look() -> "tuple[list[str], dict[str, Topic | None]]":
        admin = Admin(settings.kafka)
        made: list[str] = []
        if create:
            made += await admin.create_missing(*read, retention_ms=SOURCE_RETENTION)
            made += await admin.create_missing(*written)
            made += await admin.create_missing(state, compact=True)
        return made, await admin.describe([*read, *written, state])

    made, found = asyncio.run(look())
    rows = [
        (name, "read" if name in read else "written", *_shown(topic, new=name in made))
        for name, topic in found.items()
    ]
    rows += [(pattern, "read", "pattern", "", "", "") for pattern in patterns]
    table(("topic", "use", "exists", "partitions", "retention", "cleanup"), rows)
    if None in found.values():
        typer.echo("Create the missing ones with: klaviyo-pipeline topics --create")


def _shown(topic: "Topic | None", *, new: bool) -> tuple[str, str, str, str]:
    if topic is None:
        return "no", "", "", ""
    return (
        "created" if new else "yes",
        str(topic.partitions),
        _days(topic.retention_ms),
        topic.cleanup_policy or "unknown",
    )


def _days(retention: int | None) -> str:
    """Say how long records stay; the broker may not tell."""
    if retention is None:
        return "unknown"
    return "for ever" if retention < 0 else f"{retention / DAY:g} days"
