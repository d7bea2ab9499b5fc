"""All profiles that the identifiers of one write belong to become one."""

from typing import Any

import pytest

from pipeline.forward.links import Links
from pipeline.forward.merges import Merges
from schemas.commands import Identity
from tests.unit.forward.people import Kept, connected, made

ADA = Identity("C-1", "ada@shop.dev", "+12025550123")
REVISIONS = ("2025-01-15", "2026-07-15")


@pytest.mark.parametrize("revision", REVISIONS)
async def test_the_strongest_identifiers_profile_is_what_stays(revision: str) -> None:
    async with connected(revision) as (sandbox, client):
        sandbox.settings = sandbox.settings.changed({"merge_delay": 0.3})
        own = made(sandbox, external_id="C-1")
        made(sandbox, external_id="C-2", email="ada@shop.dev")
        made(sandbox, phone_number="+12025550123")
        stranger = made(sandbox, external_id="C-3", email="bob@shop.dev")
        links, kept = Links(), Kept()
        facts: Any = kept
        assert await Merges(client, links, facts).merge(ADA)
        # Klaviyo does it later; whoever goes on before that meets the conflict again.
        assert {each.id for each in sandbox.state.profiles} == {own.id, stranger.id}
        assert own.identifiers == {
            "external_id": "C-1",
            "email": "ada@shop.dev",
            "phone_number": "+12025550123",
        }
        assert kept.entries == {"C-2": b"C-1"}
        assert links.became("C-1") == ["C-2"]


@pytest.mark.parametrize(
    "there", [[], [{"external_id": "C-1"}], [{"email": "ada@shop.dev"}]]
)
async def test_one_profile_is_not_merged(there: list[dict[str, str]]) -> None:
    async with connected("2026-07-15") as (sandbox, client):
        for identifiers in there:
            made(sandbox, **identifiers)
        facts: Any = Kept()
        assert not await Merges(client, Links(), facts).merge(ADA)
        assert len(list(sandbox.state.profiles)) == len(there)


async def test_the_link_is_kept_before_the_merge() -> None:
    """A crash between the two leaves no customer without a profile."""
    async with connected("2026-07-15") as (sandbox, client):
        made(sandbox, external_id="C-1")
        made(sandbox, external_id="C-2", email="ada@shop.dev")
        log: list[str] = []
        merge = client.existing.merge

        async def noted(body: bytes) -> Any:
            log.append("merged")
            return await merge(body)

        client.existing.merge = noted  # type: ignore[method-assign]
        facts: Any = Kept(log)
        await Merges(client, Links(), facts).merge(ADA)
        assert log == ["kept", "merged"]


async def test_a_profile_that_vanished_meanwhile_is_no_fault() -> None:
    """Merged away or deleted by somebody else: the write is tried again either way."""
    async with connected("2026-07-15") as (sandbox, client):
        made(sandbox, external_id="C-1")
        other = made(sandbox, email="ada@shop.dev")
        merge = client.existing.merge

        async def late(body: bytes) -> Any:
            if other.id in sandbox.state.profiles.by_id:
                sandbox.state.profiles.delete(other)
            return await merge(body)

        client.existing.merge = late  # type: ignore[method-assign]
        facts: Any = Kept()
        assert await Merges(client, Links(), facts).merge(ADA)


async def test_a_new_customer_gets_the_profile_of_the_address() -> None:
    """Nobody has the id yet: what the e-mail finds is the strongest there is."""
    async with connected("2026-07-15") as (sandbox, client):
        mail = made(sandbox, email="ada@shop.dev")
        made(sandbox, external_id="C-9", phone_number="+12025550123")
        kept = Kept()
        facts: Any = kept
        assert await Merges(client, Links(), facts).merge(ADA)
        assert [each.id for each in sandbox.state.profiles] == [mail.id]
        assert kept.entries == {"C-9": b"C-1"}, "the write to come makes it C-1"
