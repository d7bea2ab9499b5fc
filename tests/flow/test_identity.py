"""Who a write is about: external_id, then e-mail, then phone; and what 409 leads to."""

import json
from typing import Any

import pytest

from pipeline.demo.shop import Made
from pipeline.sandbox.profile import Profile
from tests.consent.world import World, fault
from tests.flow.rig import Rig
from tests.virtual_time import virtual

REVISIONS = ("2025-01-15", "2026-07-15")
IMPORTS = "POST /api/profile-bulk-import-jobs"
MERGES = "POST /api/profile-merge"


def updated(**customer: Any) -> Made:
    value = {"type": "customer.updated", "customer": customer}
    key = str(customer.get("id", "?")).encode()
    return Made("shop.customers", key, json.dumps(value).encode())


def placed(number: str, **customer: Any) -> Made:
    value = {"type": "order.placed", "order": {"id": number, "customer": customer}}
    return Made("shop.orders", number.encode(), json.dumps(value).encode())


def made(rig: Rig, **attributes: str) -> Profile:
    """A profile that somebody else made in Klaviyo."""
    profiles = rig.sandbox.state.profiles
    return profiles.create(attributes, rig.sandbox.state.clock.now())


def people(rig: Rig) -> list[dict[str, str]]:
    """All profiles by their identifiers, in the order of their creation."""
    return [dict(profile.identifiers) for profile in rig.sandbox.state.profiles]


def names(rig: Rig) -> list[str | None]:
    return [profile.fields.get("first_name") for profile in rig.sandbox.state.profiles]


def count(rig: Rig, operation: str, status: int) -> int:
    return rig.sandbox.ledger.statuses.get(operation, {}).get(status, 0)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("revision", REVISIONS)
async def test_changes_of_address_and_phone_stay_with_the_profile(
    rig: Rig, revision: str
) -> None:
    """A profile somebody else made is found by its address, and known from then on."""
    made(rig, email="ada@shop.dev")
    made(rig, phone_number="+12025550199")
    await rig.send([updated(id="C-1", email="ada@shop.dev", first_name="Ada")])
    await rig.send([updated(id="C-1", email="ada@new.dev", phone="+12025550123")])
    await rig.send(
        [updated(id="C-1", email="ada@last.dev"), updated(id="C-1", phone=None)]
    )
    await rig.send([updated(id="C-2", phone="+12025550199", email="bob@shop.dev")])
    async with rig.service(klaviyo__api_revision=revision) as service:
        await rig.drained()
        await rig.send([placed("O-1", id="C-1", email="ada@order.dev")])
        await rig.drained()
        assert await service.metric("dead_letters_total") == 0
        assert await service.terminate() == 0
    ada, bob = people(rig)
    assert ada == {"external_id": "C-1", "email": "ada@order.dev"}
    assert bob == {
        "external_id": "C-2",
        "phone_number": "+12025550199",
        "email": "bob@shop.dev",
    }


CLASH = {"id": "C-1", "email": "shared@shop.dev", "first_name": "New"}


async def clashing(rig: Rig, *more: Made, **settings: str) -> tuple[float, int]:
    """C-1 comes with the address of C-2's profile; what was degraded, and died."""
    made(rig, external_id="C-1", email="ada@shop.dev")
    made(rig, external_id="C-2", email="shared@shop.dev", phone_number="+12025550123")
    await rig.send([updated(**CLASH)])
    async with rig.service(**settings) as service:
        await rig.drained()
        for each in more:
            await rig.send([each])
            await rig.drained()
        conflict = {"field": "identity_conflict"}
        degraded = await service.metric("degraded_fields_total", conflict)
        dead = await service.metric("dead_letters_total", {"reason": "identity_conflict"})
        assert await service.terminate() == 0
    return degraded, int(dead)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("revision", REVISIONS)
async def test_a_conflict_costs_the_weaker_identifiers(rig: Rig, revision: str) -> None:
    assert await clashing(rig, klaviyo__api_revision=revision) == (1, 0)
    assert [each["email"] for each in people(rig)] == ["ada@shop.dev", "shared@shop.dev"]
    assert names(rig) == ["New", None]


MAIL, PHONE = "shared@shop.dev", "+12025550123"


@pytest.mark.parametrize("revision", REVISIONS)
@pytest.mark.parametrize(
    ("said", "whose"),
    [
        ({"id": "C-1", "email": MAIL, "phone": PHONE}, {"external_id": "C-1"}),
        ({"id": "C-1", "phone": PHONE}, {"external_id": "C-1"}),
        ({"email": MAIL, "phone": PHONE}, {"email": MAIL}),
    ],
)
@virtual
async def test_the_strongest_identifier_decides(
    revision: str, said: dict[str, str], whose: dict[str, str]
) -> None:
    """Each of the three has a profile of its own."""
    async with World(revision) as world:
        await world.heard(id="C-1")
        await world.heard(email=MAIL)
        await world.heard(phone=PHONE)
        await world.heard(**said, first_name="New")
        profiles = world.sandbox.state.profiles
        assert [p.identifiers for p in profiles if p.fields] == [whose]
        assert world.lost("identity_conflict") == 1
        assert not world.letters


@pytest.mark.parametrize("revision", REVISIONS)
@virtual
async def test_a_profile_that_vanished_is_looked_for_again(revision: str) -> None:
    """Klaviyo found it, and it was merged away before the write reached it."""
    async with World(revision) as world:
        errors = [{"id": "1", "code": "not_found", "title": "Not found."}]
        gone = {"kind": "status", "status": 404, "body": {"errors": errors}}
        fault(world, "/api/profile-import", gone, times=1)
        await world.heard(id="C-1", title="Dr")
        assert [p.fields for p in world.sandbox.state.profiles] == [{"title": "Dr"}]
        assert not world.letters


@pytest.mark.timeout(60)
async def test_a_conflict_can_be_a_dead_letter(rig: Rig) -> None:
    assert await clashing(rig, profile__identity_conflict="dead_letter") == (0, 1)
    assert names(rig) == [None, None]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("revision", REVISIONS)
async def test_a_conflict_can_merge(rig: Rig, revision: str) -> None:
    """The second profile's customer is followed: no write makes that profile anew."""
    rig.set(merge_delay=0.5, keep_bodies=True)
    more = [
        updated(id="C-2", last_name="Followed"),
        placed("O-1", id="C-2", email="shared@shop.dev"),
    ]
    settings = {
        "profile__identity_conflict": "merge",
        "klaviyo__api_revision": revision,
    }
    assert await clashing(rig, *more, **settings) == (0, 0)
    (ada,) = rig.sandbox.state.profiles
    assert ada.identifiers["external_id"] == "C-1"
    assert ada.identifiers["email"] == "shared@shop.dev"
    assert ada.identifiers["phone_number"] == "+12025550123"
    assert ada.fields == {"first_name": "New", "last_name": "Followed"}
    assert [event.profile for event in rig.sandbox.state.events] == [ada.id]
    assert count(rig, MERGES, 201) == 1
    # What was learnt outlives the process.
    assert await rig.state("links") == {"C-2": b"C-1"}
    await rig.send([updated(id="C-2", title="Dr")])
    async with rig.service(**settings) as service:
        await rig.drained()
        assert await service.terminate() == 0
    assert len(people(rig)) == 1
    assert ada.fields["title"] == "Dr"


@pytest.mark.timeout(60)
async def test_a_profile_that_vanishes_while_it_is_merged_is_no_fault(rig: Rig) -> None:
    """Somebody else merges or deletes it first: who it is is found out again."""
    rig.fault(
        {
            "match": {"method": "POST", "path": "/api/profile-merge", "times": 1},
            "action": {"kind": "status", "status": 404},
        }
    )
    assert await clashing(rig, profile__identity_conflict="merge") == (0, 0)
    assert [each["external_id"] for each in people(rig)] == ["C-1"]


@pytest.mark.timeout(90)
@pytest.mark.parametrize("conflict", ["drop_identifier", "dead_letter", "merge"])
async def test_rows_of_a_job_go_the_same_way(rig: Rig, conflict: str) -> None:
    """An import job can only say that a row failed; the single call then decides."""
    made(rig, external_id="C-2000", email="ada@shop.dev")
    made(rig, external_id="X", email="c2000@shop.dev")
    crowd = [
        updated(id=f"C-{n}", email=f"c{n}@shop.dev", first_name=f"N{n}")
        for n in range(2_001)
    ]
    await rig.send(crowd)
    async with rig.service(profile__identity_conflict=conflict) as service:
        await rig.drained()
        dead = await service.metric("dead_letters_total", {"reason": "identity_conflict"})
        assert await service.terminate() == 0
    assert count(rig, IMPORTS, 202) >= 1
    assert len(people(rig)) == (2_001 if conflict == "merge" else 2_002)
    assert dead == (1 if conflict == "dead_letter" else 0)
    held = rig.profile("C-2000")
    assert held.get("first_name") == (None if conflict == "dead_letter" else "N2000")
    assert held["email"] == ("c2000@shop.dev" if conflict == "merge" else "ada@shop.dev")
