"""A refusal costs as little as possible, and a neighbour never pays for it."""

from typing import Any

import orjson
import pytest

from pipeline.forward.batch import Parcel
from pipeline.forward.deliver import Deliver
from pipeline.forward.lanes import Lanes
from pipeline.forward.routes import Route
from pipeline.klaviyo.call import Accepted, Refused
from pipeline.klaviyo.retry import Fault
from pipeline.observe.metrics import Metrics
from pipeline.records import DELIVERED, Dead, Lot, Outcome, Record, Ticket
from schemas.commands import Identity, UpsertProfile

ADA = Identity(external_id="C-1", email="ada@shop.dev", phone="+12025550123")

ROUTE = Route("create_or_update_profile", "single")


class Klaviyo:
    """Answers with a list of answers; remembers what it was asked."""

    served = "2026-07-15"

    def __init__(self, *answers: Accepted | Refused) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []
        self.permits: list[Any] = []

    async def import_profile(self, body: bytes, permit: Any) -> Accepted | Refused:
        self.permits.append(permit)
        self.asked.append(orjson.loads(body)["data"]["attributes"])
        return self.answers.pop(0)


def refused(status: int, *pointers: str) -> Refused:
    faults = [Fault("invalid", pointer, "Invalid input.", "") for pointer in pointers]
    return Refused(status, tuple(faults), 1)


OK = Accepted(200, b"", 1)


async def send(klaviyo: Any, *updates: UpsertProfile, **settings: Any) -> list[Outcome]:
    lanes = Lanes()
    for number, update in enumerate(updates, 1):
        lanes.add(
            Ticket(Record("t", 0, number, 0, None, b""), Lot(), number, 1), [update]
        )
    conflicts = settings.get("conflicts", "drop_identifier")
    metrics = settings.get("metrics") or Metrics()
    deliver = Deliver(klaviyo, metrics, conflicts, settings.get("merge"))
    group = lanes.take("single", Parcel(ROUTE, "2026-07-15"))
    permit: Any = "permit"
    return list(await deliver.send(group.items, permit, bulk=False))


def update(identity: Identity = ADA, **attributes: Any) -> UpsertProfile:
    return UpsertProfile(identity, attributes, {})


async def test_optional_fields_that_are_refused_are_left_out_all_at_once() -> None:
    klaviyo = Klaviyo(
        refused(400, "/data/attributes/phone_number", "/data/attributes/title"), OK
    )
    metrics = Metrics()
    outcomes = await send(klaviyo, update(title="Dr", first_name="Ada"), metrics=metrics)
    assert outcomes == [DELIVERED]
    assert klaviyo.asked[1] == {
        "external_id": "C-1",
        "email": "ada@shop.dev",
        "first_name": "Ada",
    }
    assert metrics.degraded_fields.labels("phone")._value.get() == 1
    assert metrics.degraded_fields.labels("title")._value.get() == 1


async def test_what_was_coalesced_is_not_repaired_but_taken_apart() -> None:
    """The refused value may have replaced a good one of an earlier record."""
    klaviyo = Klaviyo(refused(400, "/data/attributes/title"))
    (outcome,) = await send(klaviyo, update(title="Dr"), update(title="???"))
    assert isinstance(outcome, Dead)
    assert len(klaviyo.asked) == 1


async def test_a_conflict_keeps_the_strongest_identifier() -> None:
    klaviyo = Klaviyo(refused(409, "/data/attributes"), OK)
    assert await send(klaviyo, update(first_name="Ada")) == [DELIVERED]
    assert klaviyo.asked[1] == {"external_id": "C-1", "first_name": "Ada"}


async def test_a_conflict_merges_if_told_so_and_goes_again_whole() -> None:
    asked: list[Identity] = []

    async def merge(who: Identity) -> bool:
        asked.append(who)
        return True

    klaviyo = Klaviyo(refused(409, "/data/attributes"), OK)
    outcomes = await send(klaviyo, update(title="Dr"), conflicts="merge", merge=merge)
    assert outcomes == [DELIVERED]
    assert asked == [ADA]
    assert klaviyo.asked[0] == klaviyo.asked[1]


@pytest.mark.parametrize("merges", [True, False])
async def test_what_cannot_be_merged_costs_the_weaker_identifiers(
    *, merges: bool
) -> None:
    """Nothing to merge, or Klaviyo says 409 after each of some merges."""

    async def merge(who: Identity) -> bool:
        assert who == ADA
        return merges

    klaviyo = Klaviyo(*[refused(409, "/data/attributes")] * (4 if merges else 1), OK)
    outcomes = await send(klaviyo, update(title="Dr"), conflicts="merge", merge=merge)
    assert outcomes == [DELIVERED]
    assert klaviyo.asked[-1] == {"external_id": "C-1", "title": "Dr"}


async def test_a_profile_that_vanished_is_looked_for_again_once() -> None:
    """Merged away or deleted between being found and being written."""
    klaviyo = Klaviyo(refused(404, "/data/id"), OK)
    assert await send(klaviyo, update(title="Dr")) == [DELIVERED]
    assert klaviyo.asked[0] == klaviyo.asked[1]
    for_ever = Klaviyo(*[refused(404, "/data/id")] * 2)
    (outcome,) = await send(for_ever, update(title="Dr"))
    assert isinstance(outcome, Dead)
    assert (outcome.reason, outcome.status) == ("refused", 404)


async def test_a_profile_over_100_kb_loses_what_is_largest_before_it_is_sent() -> None:
    """On the permit it came with: a second one might never be given."""
    metrics = Metrics()
    klaviyo = Klaviyo(OK)
    custom = {"small": 1} | {f"note {n}": "x" * 20_000 * n for n in range(1, 4)}
    command = UpsertProfile(ADA, {"title": "Dr"}, custom)
    assert await send(klaviyo, command, metrics=metrics) == [DELIVERED]
    (sent,) = klaviyo.asked
    assert sent["properties"].keys() == {"small", "note 1", "note 2"}
    assert sent["title"] == "Dr"
    assert klaviyo.permits == ["permit"]
    assert metrics.degraded_fields.labels("custom_fields")._value.get() == 1


async def test_a_coalesced_profile_over_100_kb_is_taken_apart() -> None:
    klaviyo = Klaviyo()
    one, other = (UpsertProfile(ADA, {}, {f"p{n}": "x" * 60_000}) for n in range(2))
    (outcome,) = await send(klaviyo, one, other)
    assert isinstance(outcome, Dead)
    assert outcome.reason == "too_large"
    assert klaviyo.asked == []


async def test_a_conflict_is_a_dead_letter_if_told_so() -> None:
    klaviyo = Klaviyo(refused(409, "/data/attributes"))
    (outcome,) = await send(klaviyo, update(first_name="Ada"), conflicts="dead_letter")
    assert isinstance(outcome, Dead)
    assert (outcome.reason, outcome.status) == ("identity_conflict", 409)


@pytest.mark.parametrize(("status", "reason"), [(400, "refused"), (413, "too_large")])
async def test_what_cannot_be_repaired_is_dead_with_its_pointer(
    status: int, reason: str
) -> None:
    klaviyo = Klaviyo(refused(status, "/data/attributes/external_id"))
    (outcome,) = await send(klaviyo, update())
    assert isinstance(outcome, Dead)
    assert outcome.reason == reason
    assert outcome.pointer == "/data/attributes/external_id"
    assert outcome.attempts == 1


async def test_a_klaviyo_that_never_likes_it_is_given_up() -> None:
    pointers = [f"/data/attributes/properties/p{n}" for n in range(40)]
    klaviyo = Klaviyo(*[refused(400, pointer) for pointer in pointers])
    command = UpsertProfile(ADA, {}, {f"p{n}": n for n in range(40)})
    (outcome,) = await send(klaviyo, command)
    assert isinstance(outcome, Dead)
    assert outcome.attempts == len(klaviyo.asked) == 11
