"""What `check` says about Kafka: brokers, transactions, where the group would begin."""

import asyncio
from typing import TYPE_CHECKING, Final

from pipeline.cli.findings import FAILED, Finding
from pipeline.errors import PipelineError

if TYPE_CHECKING:  # slow to import, and --help needs none
    from pipeline.kafka.admin import Topic
    from pipeline.kafka.client import Client
    from pipeline.settings import Settings

__all__ = ["look_at_kafka"]

PROFILES: Final = "create_or_update_profile"  # the slowest a record can need
EVENTS: Final = "bulk_create_events"  # the fastest
LOOK: Final = 20.0  # s; what is asked of a broker that went away waits for it


async def look_at_kafka(settings: "Settings") -> list[Finding]:
    """Look at brokers, topics and offsets; changes nothing and joins no group."""
    from pipeline.kafka.client import Client

    client = Client(settings.kafka)
    try:
        await client.open()
        try:
            async with asyncio.timeout(LOOK):
                return await _look(client, settings)
        finally:
            await client.close()
    except PipelineError as error:
        return [Finding.fault("kafka", error)]
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
    from pipeline.cli import findings_topics as of
    from pipeline.kafka.admin import Admin

    dead_letters, state = settings.topics.dead_letters, settings.topics.state
    sources = set(await client.topics(exclude={dead_letters, state}))
    sources |= {name for name in settings.kafka.topics if not name.startswith("^")}
    ours = {dead_letters: of.dead_letters, state: of.state}
    if settings.reverse.enabled:
        ours[settings.topics.profiles] = of.profiles
    topics = await Admin(settings.kafka).describe([*sorted(sources), *ours])
    lone = of.copies(topics.values())
    written = [look(topics.pop(name), settings) for name, look in ours.items()]
    found = [
        Finding("ok", "kafka", f"reachable at {settings.kafka.bootstrap_servers}"),
        *of.sources(topics),
        *written,
        *lone,
    ]
    if settings.reverse.enabled:
        found.append(await _transactions(settings))
    return [*found, await _group(client, settings, topics)]


async def _transactions(settings: "Settings") -> Finding:
    """Begin one under an id beside the service's, which would be cut off by its own."""
    from pipeline.kafka.transactions import Transactions

    name = f"{settings.kafka.group}-reverse"
    tried = Transactions(settings.kafka, f"{name}-check")
    try:
        await tried.open()
    except PipelineError as error:
        return Finding(
            "FAULT",
            "transactions",
            f"{error}: changes made in Klaviyo could not be published",
            f"Grant WRITE and DESCRIBE on the transactional ids that begin with {name}, "
            "or set reverse.enabled to false.",
            FAILED,
        )
    finally:
        await tried.close()
    if tried.exactly_once:
        return Finding("ok", "transactions", "allowed: exactly once into Kafka")
    return Finding(
        "note",
        "transactions",
        "these brokers keep none: profile changes are published at least once",
        "Run one process only; on an Apache Kafka they are published exactly once.",
    )


async def _group(
    client: "Client", settings: "Settings", topics: "dict[str, Topic | None]"
) -> Finding:
    """Decide where a run would begin, as it would."""
    from pipeline.kafka.positions import decide

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
        return Finding.fault(what, error)
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
    from pipeline.klaviyo.quotas import QUOTAS
    from schemas.bulk_events import ROWS

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
