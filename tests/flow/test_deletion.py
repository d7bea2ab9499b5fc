"""Customers who end, by deletes.policy, in each revision a user may ask for."""

import json
from typing import Any

import pytest
from cryptography.fernet import Fernet

from pipeline.demo.shop import Made
from pipeline.sandbox.profile import Profile
from tests.flow.cli import call
from tests.flow.rig import Rig, until

REVISIONS = ("2025-01-15", "2026-07-15")
KEY = Fernet.generate_key().decode()
ERASE = {"deletes__policy": "erase", "secrets__key": KEY}
ADA = {"id": "C-1", "email": "ada@shop.dev", "phone": "+12025550123"}
BOB = {"id": "C-2", "email": "bob@shop.dev"}
ERASURES = "POST /api/data-privacy-deletion-jobs"


def customer(kind: str, **customer: Any) -> Made:
    value = {"type": f"customer.{kind}", "customer": customer}
    key = str(customer.get("id", "?")).encode()
    return Made("shop.customers", key, json.dumps(value).encode())


def order(number: str, customer: dict[str, Any]) -> Made:
    value = {"type": "order.placed", "order": {"id": number, "customer": customer}}
    return Made("shop.orders", b"C-1", json.dumps(value).encode())


def tombstone(key: str) -> Made:
    return Made("shop.customers", key.encode(), None)


def made(rig: Rig, **identifiers: str) -> Profile:
    """A profile that somebody else made in Klaviyo."""
    profiles = rig.sandbox.state.profiles
    return profiles.create(identifiers, rig.sandbox.state.clock.now())


def held(rig: Rig) -> set[str]:
    """Everybody Klaviyo has, by the strongest identifier."""
    return {
        next(iter(profile.identifiers.values()), "?")
        for profile in rig.sandbox.state.profiles
    }


def answers(rig: Rig, operation: str, status: int) -> int:
    return rig.sandbox.ledger.statuses.get(operation, {}).get(status, 0)


def suppressed(rig: Rig) -> set[str]:
    return {
        profile.identifiers["email"]
        for profile in rig.sandbox.state.profiles
        if "USER_SUPPRESSED" in profile.consent.suppressions
    }


@pytest.mark.timeout(60)
@pytest.mark.parametrize("revision", REVISIONS)
async def test_the_deleted_are_suppressed(rig: Rig, revision: str) -> None:
    """A tombstone names no address: it is that of the profile then, as it is now."""
    rig.set(keep_bodies=True)
    await rig.send([customer("created", **ADA), customer("created", **BOB)])
    await rig.send([customer("updated", id="C-1", email="ada@new.dev")])
    await rig.send([customer("deleted", id="C-1", email="ada@old.dev"), tombstone("C-2")])
    await rig.send([tombstone("C-unknown"), customer("created", id="C-3")])
    await rig.send([customer("deleted", id="C-3")])
    settings = {"deletes__policy": "suppress", "klaviyo__api_revision": revision}
    async with rig.service(**settings) as service:
        await rig.drained()
        assert (
            await service.metric("dead_letters_total", {"reason": "no_identifier"}) == 1
        )
        assert await service.terminate() == 0
    assert suppressed(rig) == {"ada@old.dev", "ada@new.dev", "bob@shop.dev"}
    (letter,) = await rig.read_dead_letters(1)
    assert letter.key() == b"C-3", "a profile without any address cannot be suppressed"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("revision", REVISIONS)
async def test_the_erased_are_gone_and_do_not_come_back(rig: Rig, revision: str) -> None:
    """Erasing comes after the customer's earlier records and before the later ones."""
    guest = made(rig, email="ada@home.dev", phone_number=ADA["phone"])
    other = made(rig, external_id="C-9", email="eve@shop.dev")
    await rig.send(
        [
            customer("created", **BOB),
            customer("created", id="C-1", email="ada@shop.dev", first_name="Ada"),
            customer("deleted", **ADA),
            customer("updated", id="C-1", first_name="Zombie"),
        ]
    )
    later = [
        order("O-1", {"email": "ada@shop.dev"}),
        order("O-2", {"id": "C-7", "email": "Ada@shop.dev"}),
        order("O-3", {"phone": ADA["phone"]}),
        order("O-4", {"id": "C-8", "phone": ADA["phone"]}),
    ]
    settings = ERASE | {"klaviyo__api_revision": revision}
    async with rig.service(**settings) as service:
        await rig.drained()
        await rig.send(later)
        await rig.drained()
        assert await service.metric("skipped_total", {"reason": "erased"}) == 4
        assert await service.metric("dead_letters_total") == 0
        assert await service.terminate() == 0
    assert held(rig) == {"C-2", "C-9", "C-8"}
    assert len(rig.sandbox.state.deleted) == 2, "both of Ada's profiles"
    assert guest.id in rig.sandbox.state.deleted
    assert other.id not in rig.sandbox.state.deleted
    assert [event["unique_id"] for event in rig.events()] == ["O-4"]


@pytest.mark.timeout(90)
async def test_the_list_of_the_erased_outlives_the_process(rig: Rig) -> None:
    """And what Klaviyo alone knew of the person is on it."""
    made(rig, external_id="C-1", email="ada@home.dev")
    await rig.send([tombstone("C-1")])
    shown = await call(rig, "replay", "--topic", rig.customers, "--dry-run", **ERASE)
    assert ERASURES in shown.out
    assert len(held(rig)) == 1, "shown, not done"
    async with rig.service(**ERASE) as service:
        await rig.drained()
        assert await service.terminate() == 0
    assert held(rig) == set()
    await rig.send([customer("created", id="C-1", first_name="Ada")])
    await rig.send([customer("created", id="C-5", email="ada@home.dev")])
    await rig.send([customer("created", **BOB)])
    rotated = f"{Fernet.generate_key().decode()},{KEY}"
    async with rig.service(**ERASE | {"secrets__key": rotated}) as service:
        await rig.drained()
        assert await service.terminate() == 0
    assert held(rig) == {"C-2"}
    again = {"topics__state": "klaviyo.state", **ERASE, "secrets__key": rotated}
    shown = await call(rig, "replay", "--topic", rig.customers, "--dry-run", **again)
    assert "C-2" in shown.out
    assert "C-5" not in shown.out
    assert (await call(rig, "replay", "--topic", rig.customers, **again)).code == 0
    assert held(rig) == {"C-2"}, "what is sent again does not bring them back"
    sealed = await rig.state("erased")
    kinds = sorted(key.split("/")[0] for key in sealed)
    assert kinds == ["person", "person", "record", "record", "salt"]
    told = b"".join([*sealed.values(), *map(str.encode, sealed)])
    assert b"ada@" not in told
    assert b"C-1" not in told
    records = [json.loads(v) for k, v in sealed.items() if k.startswith("record/")]
    first, second = sorted(records, key=lambda record: record["at"])
    assert first["profiles"] == rig.sandbox.state.deleted
    assert second["profiles"] == []
    assert first["person"] == second["person"]


@pytest.mark.timeout(60)
async def test_erasing_needs_a_key(rig: Rig) -> None:
    async with rig.service(deletes__policy="erase") as service:
        assert await service.wait() == 2
    assert "secrets.key is blank" in service.output
    assert "Fernet.generate_key" in service.output


@pytest.mark.limits
@pytest.mark.timeout(90)
async def test_erasures_keep_to_their_quota(rig: Rig) -> None:
    """3 a second; what is refused is refused by a limit, which must not be seen."""
    await rig.send([customer("created", id=f"C-{n}") for n in range(6)])
    await rig.send([tombstone(f"C-{n}") for n in range(6)])
    async with rig.service(**ERASE) as service:
        await rig.drained(within=80)
        assert await service.terminate() == 0
    assert held(rig) == set()
    assert answers(rig, ERASURES, 202) == 6
    assert answers(rig, ERASURES, 429) == 0


@pytest.mark.timeout(90)
async def test_a_kill_while_they_are_erased_leaves_nobody_behind(rig: Rig) -> None:
    """Whoever was asked to go is gone in the end, and what came later stays away."""
    rig.set(latency=0.03)
    crowd = [f"C-{n}" for n in range(40)]
    await rig.send([customer("created", id=name) for name in crowd])
    await rig.send([tombstone(name) for name in crowd])
    await rig.send([customer("updated", id=name, first_name="Late") for name in crowd])
    service = rig.service(**ERASE)
    for most in (5, 15):
        await service.start()
        await until(lambda: len(rig.sandbox.state.deleted) > most, what="erasures")  # noqa: B023
        await service.kill()
    async with service:
        await rig.drained()
        assert await service.terminate() == 0
    assert held(rig) == set()
    assert rig.sandbox.ledger.violation_count == 0
