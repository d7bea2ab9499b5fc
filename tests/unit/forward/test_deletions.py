"""Whom the end of a customer is about, and in which order it happens."""

from collections.abc import Sequence
from typing import Any

import pytest
from cryptography.fernet import Fernet

from pipeline.clock import SYSTEM
from pipeline.forward.deletions import Deletions
from pipeline.forward.erased import Erased
from pipeline.forward.links import Links
from pipeline.records import DELIVERED, Dead, Item, Lot, Outcome, Record, Ticket
from schemas.commands import EraseProfile, Identity, SuppressProfile
from tests.unit.forward.people import Kept, connected, made

REVISIONS = ("2025-01-15", "2026-07-15")
ADA = Identity("C-1", "ada@shop.dev", "+12025550123")
PERMIT: Any = type("Permit", (), {"unused": lambda _: None})()


async def ended(
    deletions: Deletions, command: SuppressProfile | EraseProfile
) -> Sequence[Outcome]:
    record = Record("t", 0, 1, 0, b"C-1", None)
    item = Item([command], [(Ticket(record, Lot(), 1, 1), command)])
    return await deletions.send([item], PERMIT)


@pytest.mark.parametrize("revision", REVISIONS)
@pytest.mark.parametrize(
    ("who", "gone"),
    [
        (Identity("C-1"), {"own"}),
        (ADA, {"own", "guest", "phone"}),
        (Identity(None, "ada@shop.dev"), {"guest"}),
        (Identity(None, "ADA@own.dev"), {"own"}),
        (Identity("C-2", "ada@own.dev"), {"other"}),
        (Identity("C-3", "ada@own.dev", "+12025550199"), set()),
        (Identity("C-7"), set()),
    ],
)
async def test_who_is_erased(revision: str, who: Identity, gone: set[str]) -> None:
    """Nobody goes along who only shares something with the customer."""
    async with connected(revision) as (sandbox, client):
        people = {
            "own": made(sandbox, external_id="C-1", email="ada@own.dev"),
            "guest": made(sandbox, email="ada@shop.dev"),
            "phone": made(sandbox, phone_number="+12025550123"),
            "other": made(
                sandbox, external_id="C-2", email="b@x.dev", phone_number="+12025550199"
            ),
        }
        erased, kept = Erased(Fernet.generate_key().decode()), Kept()
        erased.load({})
        facts: Any = kept
        deletions = Deletions(client, SYSTEM, (erased, facts))
        assert await ended(deletions, EraseProfile(who)) == [DELIVERED]
        wanted = {profile.id for name, profile in people.items() if name in gone}
        assert set(sandbox.state.deleted) == wanted
        left = {profile.id for profile in sandbox.state.profiles}
        assert left == {profile.id for profile in people.values()} - wanted
        assert any(key.startswith("record/") for key in kept.entries)


async def test_who_became_the_erased_is_erased_too_and_forgotten() -> None:
    async with connected("2026-07-15") as (sandbox, client):
        made(sandbox, external_id="C-1")
        erased, links, kept = Erased(Fernet.generate_key().decode()), Links(), Kept()
        erased.load({})
        links.learn("C-2", "C-1")
        facts: Any = kept
        deletions = Deletions(client, SYSTEM, (erased, facts), (links, facts))
        await ended(deletions, EraseProfile(Identity("C-1")))
        assert kept.entries["C-2"] is None
        assert links.became("C-1") == []
        digests = next(v for k, v in kept.entries.items() if k.startswith("person/"))
        assert len(digests) == 2 * 16, "both ids are on the list"


async def test_the_list_knows_before_klaviyo_does() -> None:
    """A crash between the two then does the deletion again, and lets nobody back."""
    async with connected("2026-07-15") as (sandbox, client):
        made(sandbox, external_id="C-1")
        log: list[str] = []
        erased = Erased(Fernet.generate_key().decode())
        erased.load({})
        facts: Any = Kept(log)
        deletions = Deletions(client, SYSTEM, (erased, facts))
        erase = client.existing.erase

        async def noted(body: bytes) -> Any:
            log.append("erased")
            return await erase(body)

        client.existing.erase = noted  # type: ignore[method-assign]
        await ended(deletions, EraseProfile(Identity("C-1")))
        assert log == ["kept", "erased"]


@pytest.mark.parametrize("revision", REVISIONS)
@pytest.mark.parametrize(
    ("who", "muted"),
    [
        (Identity("C-1"), {"ada@now.dev"}),
        (Identity("C-1", "ada@then.dev"), {"ada@now.dev", "ada@then.dev"}),
        (Identity(None, None, "+12025550123"), {"ada@now.dev"}),
        (Identity("C-7"), set()),
    ],
)
async def test_who_is_suppressed(revision: str, who: Identity, muted: set[str]) -> None:
    async with connected(revision) as (sandbox, client):
        made(
            sandbox,
            external_id="C-1",
            email="ada@now.dev",
            phone_number="+12025550123",
        )
        deletions = Deletions(client, SYSTEM)
        assert await ended(deletions, SuppressProfile(who)) == [DELIVERED]
        assert muted == {
            profile.identifiers["email"]
            for profile in sandbox.state.profiles
            if profile.consent.suppressions
        }


async def test_a_profile_without_an_address_cannot_be_suppressed() -> None:
    """Somebody has to know: it goes on getting messages by phone."""
    async with connected("2026-07-15") as (sandbox, client):
        made(sandbox, external_id="C-1", phone_number="+12025550123")
        deletions = Deletions(client, SYSTEM)
        (outcome,) = await ended(deletions, SuppressProfile(Identity("C-1")))
        assert isinstance(outcome, Dead)
        assert outcome.reason == "no_identifier"
