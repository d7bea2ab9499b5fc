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

OUTAGE: Final = 3 * 86_400_000  # ms; a bad long week-end, the worst we plan for
PROFILES: Final = "create_or_update_profile"  # the slowest a record can need
EVENTS: Final = "bulk_create_events"  # the fastest
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
    written_by_us = {dead_letters, settings.topics.state}
    sources = set(await client.topics(exclude=written_by_us))
    sources |= {name for name in settings.kafka.topics if not name.startswith("^")}
    ours = [dead_letters, settings.topics.state]
    topics = await Admin(settings.kafka).describe([*sorted(sources), *ours])
    written, state = (topics.pop(name) for name in ours)
    return [
        Finding("ok", "kafka", f"reachable at {settings.kafka.bootstrap_servers}"),
        *_sources(topics),
        _dead_letters(written, settings),
        _state(state, settings),
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
        _source(name, topic)
        if topic
        else Finding(
            "note",
            f"topic {name}",
            "does not exist",
            "A run waits for it; create it, or correct kafka.topics.",
        )
        for name, topic in sorted(topics.items())
    ]


def _source(name: str, topic: "Topic") -> Finding:
    """Look at a topic that is read: does it hold what an outage leaves undelivered."""
    what, text = f"topic {name}", f"read, {topic.partitions} partitions"
    retention = topic.retention_ms
    if "compact" in (topic.cleanup_policy or ""):
        return Finding(
            "note",
            what,
            f"{text}; is compacted: of the records with one key the last one stays",
            "Fine for customers that are keyed by id; for orders set cleanup.policy to "
            "delete.",
        )
    if retention is not None and 0 <= retention < OUTAGE:
        return Finding(
            "note",
            what,
            f"{text}; keeps records for {retention / 3_600_000:g} hours",
            f"An outage longer than that loses records: set retention.ms to {OUTAGE} or "
            "more.",
        )
    return _copies(what, text, topic)


def _copies(what: str, text: str, topic: "Topic") -> Finding:
    if topic.replicas == 1:
        return Finding(
            "note",
            what,
            f"{text}; one copy: it goes with its broker",
            "Raise its replication factor to 3 where the cluster has the brokers.",
        )
    return Finding("ok", what, text)


def _state(topic: "Topic | None", settings: "Settings") -> Finding:
    what = f"topic {settings.topics.state}"
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
    if topic.cleanup_policy is not None and "compact" not in topic.cleanup_policy:
        return Finding(
            "FAULT",
            what,
            "is not compacted: what must outlive the process would be deleted",
            "Set its cleanup.policy to compact.",
            FAILED,
        )
    return _copies(what, f"written, {topic.partitions} partitions", topic)


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
    return _copies(what, f"written, {topic.partitions} partitions", topic)


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
    return Finding("ok", what, _backlog(behind, settings))


def _backlog(records: int, settings: "Settings") -> str:
    """Say how much waits, and how long it takes at this quota."""
    if not records:
        return "nothing to deliver"
    from pipeline.klaviyo.quotas import QUOTAS  # noqa: PLC0415
    from schemas.bulk_events import ROWS  # noqa: PLC0415

    throttle = settings.throttle
    calls = [QUOTAS[each].steady * throttle.quota_share for each in (EVENTS, PROFILES)]
    if throttle.limit is not None and throttle.seconds is not None:
        calls = [min(each, throttle.limit * 60 / throttle.seconds) for each in calls]
    fast, slow = records / (calls[0] * ROWS), records / calls[1]  # minutes
    return (
        f"{records} records to deliver: {_duration(fast)} if all are events, "
        f"{_duration(slow)} if all are profiles"
    )


def _duration(minutes: float) -> str:
    if minutes < 1:
        return "under a minute"
    if minutes < 120:  # noqa: PLR2004  where hours begin to say more
        return f"{minutes:.0f} minutes"
    return f"{minutes / 60:.0f} hours"
