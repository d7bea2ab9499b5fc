"""What `check` says about Kafka, and what `topics` shows."""

from collections.abc import Collection

import msgspec
import pytest

from pipeline import cli
from pipeline.cli.findings import Finding, exit_code
from pipeline.cli.findings_kafka import look_at_kafka
from pipeline.errors import KafkaUnreachable
from pipeline.kafka.admin import Topic
from pipeline.kafka.positions import Bounds
from pipeline.kafka.transactions import Away
from pipeline.records import Partition
from pipeline.settings import Kafka, Reverse, Settings, Throttle, Topics

SOURCE = ("shop.customers", "shop.orders")
DEAD = "klaviyo.dead-letters"
STATE = "klaviyo.state"
BACK = ("klaviyo.profiles", STATE)
DAY = 86_400_000


class Cluster:
    """Stands in for the cluster behind `Admin` and `Client`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        names = (*SOURCE, DEAD, "klaviyo.profiles")
        self.there = {name: Topic(name, 2, 7 * DAY, "delete") for name in names}
        self.there[STATE] = Topic(STATE, 1, -1, "compact")
        self.there[DEAD] = Topic(DEAD, 2, -1, "delete")
        self.exactly_once = True
        self.refused: Exception | None = None
        self.bounds_of: dict[Partition, Bounds] = {}
        self.down = False
        self.says: Exception | None = None
        self.made: list[tuple[str, int | None]] = []
        self.closed = 0
        monkeypatch.setattr("pipeline.kafka.admin.Admin", lambda _: self)
        monkeypatch.setattr("pipeline.kafka.client.Client", lambda _: self)
        monkeypatch.setattr(
            "pipeline.kafka.transactions.Transactions", lambda _, name: Tried(self, name)
        )

    async def open(self) -> None:
        if self.down:
            raise KafkaUnreachable("no broker answers")

    async def close(self) -> None:
        self.closed += 1

    async def topics(self, exclude: Collection[str]) -> frozenset[str]:
        if self.says:
            raise self.says
        return frozenset(self.there.keys() - exclude - {*BACK})

    async def describe(self, names: Collection[str]) -> dict[str, Topic | None]:
        await self.open()
        return {name: self.there.get(name) for name in names}

    async def create_missing(
        self, *names: str, retention_ms: int | None = None, compact: bool = False
    ) -> list[str]:
        missing = [name for name in names if name not in self.there]
        for name in missing:
            self.made.append((name, retention_ms))
            self.there[name] = Topic(
                name, 1, retention_ms or 30 * DAY, "compact" if compact else "delete"
            )
        return missing

    async def bounds(
        self, partitions: Collection[Partition]
    ) -> tuple[dict[Partition, Bounds], dict[str, int]]:
        found = {each: self.bounds_of.get(each, Bounds(5, 0, 12)) for each in partitions}
        return found, {
            name: 0 for (name, _), it in found.items() if it.committed is not None
        }


class Tried:
    """Stands in for `Transactions`."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        assert name.startswith("klaviyo-klaviyo-integration-reverse-")  # never its own
        self._cluster = cluster
        self.exactly_once = cluster.exactly_once

    async def open(self) -> None:
        if self._cluster.refused:
            raise self._cluster.refused

    async def close(self) -> None:
        pass


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    return Cluster(monkeypatch)


def graded(findings: list[Finding]) -> dict[str, str]:
    return {finding.what: finding.grade for finding in findings}


async def test_a_group_that_can_go_on_is_fine(cluster: Cluster) -> None:
    findings = await look_at_kafka(Settings())
    assert set(graded(findings).values()) == {"ok"}
    assert findings[-1].found.startswith("28 records to deliver: under a minute")
    assert exit_code(findings) == 0
    assert cluster.closed == 1


async def test_kafka_away_is_exit_4(cluster: Cluster) -> None:
    cluster.down = True
    findings = await look_at_kafka(Settings())
    assert findings == [Finding("FAULT", "kafka", "no broker answers", code=4)]
    assert exit_code(findings) == 4
    assert cluster.closed == 0


@pytest.mark.parametrize("says", [RuntimeError("no right to"), TimeoutError()])
async def test_whatever_the_broker_says_is_a_finding(
    cluster: Cluster, says: Exception
) -> None:
    cluster.says = says
    (finding,) = await look_at_kafka(Settings())
    assert finding.grade == "FAULT"
    assert finding.found.endswith(str(says) or "TimeoutError")
    assert exit_code([finding]) == 1
    assert cluster.closed == 1


async def test_a_missing_source_is_a_note_all_missing_a_fault(cluster: Cluster) -> None:
    del cluster.there["shop.orders"]
    findings = await look_at_kafka(Settings())
    assert graded(findings)["topic shop.orders"] == "note"
    assert exit_code(findings) == 0
    del cluster.there["shop.customers"]
    findings = await look_at_kafka(Settings())
    assert graded(findings)["topics"] == "FAULT"
    assert exit_code(findings) == 1


async def test_missing_dead_letters_are_a_fault_only_if_a_run_may_not_make_them(
    cluster: Cluster,
) -> None:
    del cluster.there[DEAD]
    findings = await look_at_kafka(Settings())
    assert graded(findings)[f"topic {DEAD}"] == "note"
    findings = await look_at_kafka(Settings(topics=Topics(create=False)))
    assert graded(findings)[f"topic {DEAD}"] == "FAULT"
    assert exit_code(findings) == 1


async def test_transactions_are_tried_where_they_are_needed(cluster: Cluster) -> None:
    cluster.exactly_once = False
    findings = await look_at_kafka(Settings())
    assert graded(findings)["transactions"] == "note"
    assert exit_code(findings) == 0
    cluster.refused = Away("no transaction can be opened (Refused)")
    findings = await look_at_kafka(Settings())
    (finding,) = [each for each in findings if each.what == "transactions"]
    assert finding.grade == "FAULT"
    assert "begin with klaviyo-klaviyo-integration-reverse" in finding.do
    assert exit_code(findings) == 1
    findings = await look_at_kafka(Settings(reverse=Reverse(enabled=False)))
    assert not graded(findings).keys() & {"transactions", "topic klaviyo.profiles"}
    assert exit_code(findings) == 0


async def test_dead_letters_that_would_vanish_are_pointed_out(cluster: Cluster) -> None:
    cluster.there[DEAD] = Topic(DEAD, 2, 7 * DAY, "delete")
    assert graded(await look_at_kafka(Settings()))[f"topic {DEAD}"] == "note"


async def test_compacted_dead_letters_are_pointed_out(cluster: Cluster) -> None:
    cluster.there[DEAD] = Topic(DEAD, 1, -1, "compact")
    assert graded(await look_at_kafka(Settings()))[f"topic {DEAD}"] == "note"


async def test_a_group_without_offsets_needs_a_start(cluster: Cluster) -> None:
    for name in SOURCE:
        for number in range(2):
            cluster.bounds_of[name, number] = Bounds(None, 3, 12)
    findings = await look_at_kafka(Settings())
    assert findings[-1].grade == "FAULT"
    assert "PIPELINE_KAFKA__START=earliest" in findings[-1].do
    assert exit_code(findings) == 2
    findings = await look_at_kafka(Settings(kafka=Kafka(start="earliest")))
    assert findings[-1].found.startswith("36 records to deliver")


async def test_a_backlog_is_said_in_time_at_this_quota(cluster: Cluster) -> None:
    cluster.bounds_of["shop.orders", 0] = Bounds(0, 0, 9_000_000)
    findings = await look_at_kafka(Settings(throttle=Throttle(quota_share=0.5)))
    assert "120 minutes if all are events" not in findings[-1].found
    assert "2 hours if all are events" in findings[-1].found
    assert "400 hours if all are profiles" in findings[-1].found


@pytest.mark.parametrize(
    ("topic", "says"),
    [
        (Topic("shop.orders", 2, 3_600_000, "delete", 3), "keeps records for 1 hour"),
        (Topic("shop.orders", 2, 7 * DAY, "compact", 3), "is compacted"),
    ],
)
async def test_a_source_that_may_lose_records_is_a_note(
    cluster: Cluster, topic: Topic, says: str
) -> None:
    cluster.there["shop.orders"] = topic
    (found,) = [
        one for one in await look_at_kafka(Settings()) if one.what == "topic shop.orders"
    ]
    assert found.grade == "note"
    assert says in found.found
    assert found.do


async def test_topics_with_a_single_copy_are_named_once(cluster: Cluster) -> None:
    for name in ("shop.orders", STATE):
        cluster.there[name] = msgspec.structs.replace(cluster.there[name], replicas=1)
    findings = await look_at_kafka(Settings())
    (found,) = [each for each in findings if each.grade == "note"]
    assert found.found.startswith(f"of shop.orders, {STATE} there is one")
    assert exit_code(findings) == 0


async def test_a_state_topic_that_forgets_is_a_fault(cluster: Cluster) -> None:
    cluster.there[STATE] = Topic(STATE, 1, 7 * DAY, "delete", 3)
    assert exit_code(await look_at_kafka(Settings())) == 1


async def test_offsets_that_retention_overtook_are_said(cluster: Cluster) -> None:
    cluster.bounds_of["shop.orders", 1] = Bounds(5, 9, 12)
    findings = await look_at_kafka(Settings())
    assert findings[-1].grade == "FAULT"
    assert exit_code(findings) == 1
    findings = await look_at_kafka(Settings(kafka=Kafka(start="earliest")))
    assert findings[-1].grade == "note"


async def test_topics_that_a_pattern_matches_are_looked_at(cluster: Cluster) -> None:
    findings = await look_at_kafka(Settings(kafka=Kafka(topics=(r"^shop\..*",))))
    assert {f"topic {name}" for name in SOURCE} <= graded(findings).keys()
    cluster.there = {DEAD: cluster.there[DEAD]}
    findings = await look_at_kafka(Settings(kafka=Kafka(topics=(r"^shop\..*",))))
    assert graded(findings)["topics"] == "FAULT"


# -- `topics` ----------------------------------------------------------------------------


def test_topics_shows_use_partitions_retention_and_cleanup(
    cluster: Cluster,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster.there[DEAD] = Topic(DEAD, 1, -1, "compact")
    cluster.there["shop.customers"] = Topic("shop.customers", 12, None, None)
    monkeypatch.setenv("PIPELINE_KAFKA__TOPICS", "shop.customers, shop.orders, ^more")
    assert cli.main(["topics"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows == [
        ["topic", "use", "exists", "partitions", "retention", "cleanup"],
        ["shop.customers", "read", "yes", "12", "unknown", "unknown"],
        ["shop.orders", "read", "yes", "2", "7", "days", "delete"],
        [DEAD, "written", "yes", "1", "for", "ever", "compact"],
        ["klaviyo.profiles", "written", "yes", "2", "7", "days", "delete"],
        [STATE, "written", "yes", "1", "for", "ever", "compact"],
        ["^more", "read", "pattern"],
    ]
    assert cluster.made == []


def test_topics_says_how_to_create_what_is_missing_and_creates_it(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    del cluster.there[DEAD]
    del cluster.there["shop.orders"]
    del cluster.there[STATE]
    assert cli.main(["topics"]) == 0
    out = capsys.readouterr().out
    assert "klaviyo-pipeline topics --create" in out
    assert cluster.made == []
    assert cli.main(["topics", "--create"]) == 0
    out = capsys.readouterr().out
    assert out.count("created") == 3
    assert "--create" not in out
    assert cluster.made == [("shop.orders", 7 * DAY), (DEAD, None), (STATE, None)]
    made = cluster.there[STATE]
    assert made is not None
    assert made.cleanup_policy == "compact"


def test_topics_without_kafka_is_exit_4(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.down = True
    assert cli.main(["topics"]) == 4
    assert capsys.readouterr().err == "error: no broker answers\n"
