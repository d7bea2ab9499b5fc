"""What `check` says about topics: partitions, retention, compaction, copies."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from pipeline.cli.findings import FAILED, Finding

if TYPE_CHECKING:  # slow to import, and --help needs none
    from pipeline.kafka.admin import Topic
    from pipeline.settings import Settings

__all__ = ["copies", "dead_letters", "profiles", "sources", "state"]

HOUR: Final = 3_600_000  # ms
DAYS: Final = 48  # hours, from where on days say more
OUTAGE: Final = 72 * HOUR  # a bad long week-end, the worst we plan for


def sources(topics: "dict[str, Topic | None]") -> list[Finding]:
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
    what, text = f"topic {name}", f"read, {_partitions(topic)}"
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
            f"{text}; keeps records for {_days(retention)}",
            f"An outage longer than that loses records: set retention.ms to {OUTAGE} or "
            "more.",
        )
    return Finding("ok", what, text)


def copies(topics: "Iterable[Topic | None]") -> list[Finding]:
    """Say which topics would go with a single broker."""
    lone = [each.name for each in topics if each is not None and each.replicas == 1]
    if not lone:
        return []
    return [
        Finding(
            "note",
            "copies",
            f"of {', '.join(lone)} there is one: it goes with its broker",
            "Raise the replication factor to 3 where the cluster has the brokers.",
        )
    ]


def state(topic: "Topic | None", settings: "Settings") -> Finding:
    """Look at the topic for what must outlive the process."""
    name = settings.topics.state
    if topic is None:
        return _missing(name, settings)
    if topic.cleanup_policy is not None and "compact" not in topic.cleanup_policy:
        return Finding(
            "FAULT",
            f"topic {name}",
            "is not compacted: what must outlive the process would be deleted",
            "Set its cleanup.policy to compact.",
            FAILED,
        )
    return Finding("ok", f"topic {name}", f"written, {_partitions(topic)}")


def dead_letters(topic: "Topic | None", settings: "Settings") -> Finding:
    """Look at the topic of dead letters: does it keep them."""
    name = settings.topics.dead_letters
    if topic is None:
        return _missing(name, settings)
    text = f"written, {_partitions(topic)}"
    if "compact" in (topic.cleanup_policy or ""):
        return Finding(
            "note",
            f"topic {name}",
            f"{text}; is compacted: of several dead letters with one key the last stays",
            "Set its cleanup.policy to delete.",
        )
    if topic.retention_ms is not None and topic.retention_ms >= 0:
        return Finding(
            "note",
            f"topic {name}",
            f"{text}; keeps records for {_days(topic.retention_ms)}, by their own time: "
            "the dead letter of an older record is gone at once",
            "Set its retention.ms to -1.",
        )
    return Finding("ok", f"topic {name}", text)


def profiles(topic: "Topic | None", settings: "Settings") -> Finding:
    """Look at the topic that changes made in Klaviyo are published to."""
    name = settings.topics.profiles
    if topic is None:
        return _missing(name, settings)
    return Finding("ok", f"topic {name}", f"written, {_partitions(topic)}")


def _missing(name: str, settings: "Settings") -> Finding:
    if settings.topics.create:
        return Finding("note", f"topic {name}", "does not exist; a run creates it")
    return Finding(
        "FAULT",
        f"topic {name}",
        "does not exist, and topics.create is false",
        "Create it: klaviyo-pipeline topics --create.",
        FAILED,
    )


def _partitions(topic: "Topic") -> str:
    return f"{topic.partitions} partition{'s' * (topic.partitions != 1)}"


def _days(retention: int) -> str:
    """Say a time in ms."""
    hours = retention / HOUR
    if hours >= DAYS:
        return f"{hours / 24:g} days"
    return f"{hours:g} hour" + "s" * (hours != 1)
