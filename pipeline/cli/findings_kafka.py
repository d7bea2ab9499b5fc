"""What `check` says about Kafka: brokers, topics, and where the group would begin."""

import asyncio
from typing import TYPE_CHECKING, Final

from pipeline.cli.findings import FAILED, Finding
from pipeline.errors import PipelineError

if TYPE_CHECKING:  # slow to import, and --help needs none
    from pipeline.kafka.admin import Topic
    from pipeline.kafka.client import Client
    from pipeline.settings import Settings

__all__ = ["look_at_kafka"]

LOOK: Final = 20.0  # s; what is asked of a broker that went away waits for it


async def look_at_kafka(settings: "Settings") -> list[Finding]:
    """Look at brokers, topics and offsets; changes nothing and joins no group."""
    from pipeline.kafka.client import Client  # noqa: PLC0415

    client = Client(settings.kafka)
    try:
        await client.open()
        try:
            async with asyncio.timeout(LOOK):
                return await _look(client, settings)
        finally:
            await client.close()
    except PipelineError as error:
        return [Finding("FAULT", "kafka", str(error), code=error.exit_code)]
    except Exception as error:  # noqa: BLE001  whatever the broker says is a finding
        return [
            Finding(
                "FAULT",
                "kafka",
                f"does not let us look: {str(error) or type(error).__name__}",
                "Check the rights of the user (DESCRIBE on topics and group) and the "
                "health of the cluster.",
                FAILED,
            )
        ]


async def _look(client: "Client", settings: "Settings") -> list[Finding]:
    from pipeline.kafka.admin import Admin  # noqa: PLC0415

    dead_letters = settings.topics.dead_letters
    ours = {dead_letters, settings.topics.state}
    sources = set(await client.topics(exclude=ours))
    sources |= {name for name in settings.kafka.topics if not name.startswith("^")}
    topics = await Admin(settings.kafka).describe([*sorted(sources), dead_letters])
    written = topics.pop(dead_letters)
    return [
        Finding("ok", "kafka", f"reachable at {settings.kafka.bootstrap_servers}"),
        *_sources(topics),
        _dead_letters(written, settings),
        await _group(client, settings, topics),
    ]


def _sources(topics: "dict[str, Topic | None]") -> list[Finding]:
    """One missing topic is waited for; with none at all it is the wrong place."""
    if not any(topics.values()):
        names = ", ".join(sorted(topics)) or "any"
        return [
            Finding(
                "FAULT",
                "topics",
                f"none to read: {names}",
                "Create them: klaviyo-pipeline topics --create; or correct kafka.topics.",
                FAILED,
            )
        ]
    return [
        Finding("ok", f"topic {name}", f"read, {topic.partitions} partitions")
        if topic
        else Finding(
            "note",
            f"topic {name}",
            "does not exist",
            "A run waits for it; create it, or correct kafka.topics.",
        )
        for name, topic in sorted(topics.items())
    ]


def _dead_letters(topic: "Topic | None", settings: "Settings") -> Finding:
    what = f"topic {settings.topics.dead_letters}"
    if topic is None:
        if settings.topics.create:
            return Finding("note", what, "does not exist; a run creates it")
        return Finding(
            "FAULT",
            what,
            "does not exist, and topics.create is false",
            "Create it: klaviyo-pipeline topics --create.",
            FAILED,
        )
    if "compact" in (topic.cleanup_policy or ""):
        return Finding(
            "note",
            what,
            "is compacted: of several dead letters with one key the last one stays",
            "Set its cleanup.policy to delete.",
        )
    return Finding("ok", what, f"written, {topic.partitions} partitions")


async def _group(
    client: "Client", settings: "Settings", topics: "dict[str, Topic | None]"
) -> Finding:
    """Decide where a run would begin, as it would."""
    from pipeline.kafka.positions import decide  # noqa: PLC0415

    kafka = settings.kafka
    partitions = [
        (name, number)
        for name, topic in topics.items()
        if topic is not None
        for number in range(topic.partitions)
    ]
    what = f"group {kafka.group}"
    if not partitions:
        return Finding("note", what, "nothing to read yet")
    bounds, started = await client.bounds(partitions)
    try:
        places = decide(
            bounds, group=kafka.group, start=kafka.start, started=started, young=()
        )
    except PipelineError as error:
        return Finding("FAULT", what, str(error), code=error.exit_code)
    if places.lost:  # kafka.start allows to go on, as `decide` would have refused else
        return Finding(
            "note",
            what,
            "retention deleted records that were not delivered; a run goes on at "
            f"kafka.start = {kafka.start}",
            "Send what is missing again from its source if you can.",
        )
    behind = sum(bounds[each].end - at for each, at in places.at.items())
    return Finding("ok", what, f"{behind} records to deliver")
