"""Sealed tokens, and the claim that lets one process at a time change them."""

import asyncio

import msgspec
import pytest

from pipeline.errors import SettingsError
from pipeline.kafka.producer import Unwritable
from pipeline.klaviyo.tokens import CLAIM_LIFE, Busy, Tokens, Vault
from tests.oauth_user import KEY, OTHER_KEY, MemoryStore
from tests.virtual_time import LoopClock, virtual

TOKENS = Tokens(
    access_token="planted-access",
    refresh_token="planted-refresh",
    lifetime=3600,
    scopes=("accounts:read",),
    client_id="sandbox",
    obtained=1,
    serial=1,
)


def vault(store: MemoryStore, keys: str = KEY, chance: float = 0.5) -> Vault:
    return Vault(store, keys, LoopClock(), lambda: chance)


@virtual
async def test_what_is_stored_is_sealed_and_opens_with_any_of_the_keys() -> None:
    store = MemoryStore()
    await vault(store, OTHER_KEY).write(TOKENS)
    assert b"planted" not in b"".join(store.values.values())
    rotated = vault(store, f"{KEY}, {OTHER_KEY}")
    assert await rotated.read() == TOKENS
    with pytest.raises(SettingsError, match="former key"):
        await vault(store).read()
    await rotated.write(TOKENS)
    assert await vault(store).read() == TOKENS
    assert "planted" not in repr(TOKENS)


@virtual
async def test_broken_values_and_keys_are_said() -> None:
    store = MemoryStore()
    store.values["tokens"] = b"\xff"
    with pytest.raises(SettingsError, match=r"secrets\.key"):
        await vault(store).read()
    for bad in ("", "x", f"{KEY},", "é"):
        with pytest.raises(SettingsError, match="no Fernet key"):
            vault(store, bad)


@virtual
async def test_nobody_is_inside_with_another_and_all_get_their_turn() -> None:
    store, inside, turns, most = MemoryStore(), 0, 0, 0

    async def change(number: int) -> None:
        nonlocal inside, turns, most
        await asyncio.sleep(number % 3 / 100)
        async with vault(store, chance=number / 12).claim():
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.5)
            inside -= 1
            turns += 1

    await asyncio.gather(*(change(number) for number in range(12)))
    assert (turns, most) == (12, 1)
    assert store.values == {}


@virtual
async def test_the_claim_of_a_process_that_died_ends_and_is_cleared_away() -> None:
    store, loop = MemoryStore(), asyncio.get_running_loop()
    claim = {"until": LoopClock().now() + CLAIM_LIFE}
    await store.put("claim/dead", msgspec.json.encode(claim))
    started = loop.time()
    async with vault(store).claim():
        assert 60 < loop.time() - started < 120
        assert "claim/dead" not in store.values


@virtual
async def test_a_claim_that_does_not_end_is_said() -> None:
    store = MemoryStore()
    store.values["claim/x"] = msgspec.json.encode({"until": 9e9})
    with pytest.raises(Busy):
        await vault(store).claim().__aenter__()


@virtual
async def test_cancelled_anywhere_it_leaves_nobody_out() -> None:
    for step in range(30):
        store = MemoryStore()

        async def change(store: MemoryStore = store) -> None:
            async with vault(store).claim():
                await asyncio.sleep(0.05)

        task = asyncio.create_task(change())
        await asyncio.sleep(step / 200)
        task.cancel()
        await asyncio.wait([task])
        async with vault(store).claim():  # at the latest when the other has ended
            pass
        assert store.values == {}, step


@virtual
async def test_what_cannot_be_written_is_said_and_leaves_no_claim() -> None:
    store = MemoryStore()
    store.fails = Unwritable("down")
    with pytest.raises(Unwritable):
        await vault(store).claim().__aenter__()
