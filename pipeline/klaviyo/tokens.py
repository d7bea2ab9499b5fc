"""The tokens, sealed, where all replicas find them; and who may change them now.

In the store stand `tokens`, sealed with Fernet, and `claim/<id>`, open. To change the
tokens a process first writes a claim and reads it back: it may go on if no other claim is
in force then. Two that claim at the same time may both give way, never both go on, since
each reads after it has written. A claim of a process that died ends by itself.

Source: Klaviyo, "Make API calls using OAuth": one refresh at a time per account, and
whoever waited reads the store again.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, Protocol

import msgspec
from cryptography.fernet import InvalidToken

from pipeline.clock import Clock
from pipeline.errors import PipelineError, SettingsError
from pipeline.settings.seal import seal

__all__ = ["Busy", "Store", "Tokens", "Vault"]

TOKENS: Final = "tokens"
CLAIM: Final = "claim/"
CLAIM_LIFE: Final = 90.0  # s; a call to Klaviyo (30), two writes (20 each), clocks apart
CLAIM_LIMIT: Final = 120.0  # s to get a claim: one that died, and some others
_SEEN_LIMIT: Final = 30.0  # s until a write must be read back
_AGAIN: Final = 0.2  # s


class Store(Protocol):
    """What `pipeline.kafka.state.State` does."""

    async def load(self) -> dict[str, bytes]:
        """All that was put before, by anybody."""
        ...

    async def put(self, key: str, value: bytes | None) -> None:
        """Written when it returns; None forgets."""
        ...


class Busy(PipelineError):
    """Others change the tokens all the time; try again."""


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """What Klaviyo gave out, and to whom. Never shown."""

    access_token: str
    refresh_token: str
    lifetime: float  # s of the access token, when it was given out
    scopes: tuple[str, ...]
    client_id: str
    obtained: float  # Unix s
    serial: int  # rises with each write, over all processes
    account_id: str = ""
    account_name: str = ""

    @property
    def expires(self) -> float:
        """Unix s of the access token's end."""
        return self.obtained + self.lifetime

    def __repr__(self) -> str:
        return f"Tokens(account={self.account_id})"


class _Claim(msgspec.Struct):
    until: float  # Unix s


def _until(claim: bytes) -> float:
    try:
        return msgspec.json.decode(claim, type=_Claim).until
    except msgspec.DecodeError:  # nobody's
        return 0.0


class Vault:
    """Reads and writes the sealed tokens."""

    def __init__(
        self, store: Store, keys: str, clock: Clock, chance: Callable[[], float]
    ) -> None:
        """`keys` are Fernet keys with commas between them: the first seals, all open.

        Raises `SettingsError` when one is none.
        """
        self._store = store
        self._clock = clock
        self._chance = chance
        self._seal = seal(keys)

    async def read(self) -> Tokens | None:
        """What is stored now; None when nobody is connected.

        Raises `SettingsError` when it was sealed with another key, and what the store
        raises.
        """
        return self._opened((await self._store.load()).get(TOKENS))

    async def write(self, tokens: Tokens | None) -> None:
        """Store them, None to forget; stored when it returns. Only under a claim."""
        sealed = (
            None if tokens is None else self._seal.encrypt(msgspec.json.encode(tokens))
        )
        await self._store.put(TOKENS, sealed)

    @asynccontextmanager
    async def claim(self) -> AsyncIterator[None]:
        """Be the only one, over all replicas, who changes the tokens in the block.

        Read them again inside it. Raises `Busy`, and what the store raises.
        """
        name = await self._claimed()
        try:
            yield
        finally:
            # If it cannot be written, it ends by itself.
            with suppress(PipelineError):
                await self._store.put(CLAIM + name, None)

    async def _claimed(self) -> str:
        deadline = self._clock.monotonic() + CLAIM_LIMIT
        while self._clock.monotonic() < deadline:
            if not self._in_force(await self._store.load()):
                name = uuid.uuid4().hex
                if await self._stands(name):
                    return name
            await asyncio.sleep(_AGAIN + self._chance())
        raise Busy(
            "Other processes hold the claim on the tokens all the time; try again in a "
            "minute."
        )

    async def _stands(self, name: str) -> bool:
        """Write a claim and say whether it is the only one; else it is taken back."""
        claim = msgspec.json.encode(_Claim(self._clock.now() + CLAIM_LIFE))
        stands = False
        try:
            await self._store.put(CLAIM + name, claim)
            found = await self._seen(name)
            stands = self._in_force(found) == {CLAIM + name}
        finally:
            if not stands:
                with suppress(PipelineError):
                    await self._store.put(CLAIM + name, None)
        if stands:  # of processes that died
            for key in found:
                if key.startswith(CLAIM) and key != CLAIM + name:
                    await self._store.put(key, None)
        return stands

    async def _seen(self, name: str) -> dict[str, bytes]:
        """Read until our own claim is there, as an open transaction may hide it.

        Then all claims before it are there too.
        """
        try:
            async with asyncio.timeout(_SEEN_LIMIT):
                while CLAIM + name not in (found := await self._store.load()):  # noqa: ASYNC110  no event
                    await asyncio.sleep(_AGAIN)
        except TimeoutError:
            raise Busy(
                f"What was written to the state topic is not there after "
                f"{_SEEN_LIMIT:.0f} s: a transaction holds it up. Try again in a minute."
            ) from None
        return found

    def _in_force(self, found: dict[str, bytes]) -> set[str]:
        now = self._clock.now()
        return {
            key
            for key, value in found.items()
            if key.startswith(CLAIM) and _until(value) > now
        }

    def _opened(self, sealed: bytes | None) -> Tokens | None:
        if sealed is None:
            return None
        try:
            return msgspec.json.decode(self._seal.decrypt(sealed), type=Tokens)
        except (InvalidToken, msgspec.DecodeError):
            raise SettingsError(
                "The stored tokens cannot be opened with secrets.key: they were sealed "
                "with another one. Put the former key behind the new one, with a comma "
                "between them, or forget them with `klaviyo-pipeline login --replace`."
            ) from None
