"""Where the credential comes from: a private key here, OAuth in `access.py`.

Source: Klaviyo, "Authenticate API requests": `Authorization: Klaviyo-API-Key pk_...`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from pipeline.observe.health import Halt

__all__ = ["ApiKey", "Credential"]

_POLL: Final = 1.0  # s between looks at the key while Klaviyo refuses the old one


class Credential(Protocol):
    """What proves to Klaviyo who we are."""

    async def authorization(self) -> str:
        """Return the value of the Authorization header, for one attempt.

        Blank while there is nothing to log in with; then nothing is sent.
        """
        ...

    async def refused(self, authorization: str) -> bool:
        """Hear that Klaviyo answered 401 to that value; get another if possible.

        True when the same value deserves a second try before it counts as refused.
        """
        ...

    async def wait_changed(self) -> None:
        """Return when `authorization()` would give another value than it gave last."""
        ...

    @property
    def halt(self) -> Halt:
        """What a 401 is called that no other value can mend."""
        ...

    @property
    def cure(self) -> str:
        """What to do about a 401."""
        ...

    @property
    def scope_cure(self) -> str:
        """What to do about a 403."""
        ...


class ApiKey:
    """A private key, read anew for each attempt so that a rotated Secret is picked up."""

    halt: Halt = "unauthorized"
    scope_cure = "a key's scopes are fixed: make a new one and set klaviyo.api_key"

    def __init__(
        self,
        read: Callable[[], str],
        wrong: Callable[[], Awaitable[str]] | None = None,
    ) -> None:
        """`read` returns the key in force; it must be cheap and not block.

        `wrong` says why a key that came later may not be used; blank when it may.
        """
        self._read = read
        self._wrong = wrong
        self._given: str | None = None
        self._good: str | None = None  # the key that may be used
        self._why = ""
        self._asking = asyncio.Lock()

    async def authorization(self) -> str:
        """Return the header value with the key in force; blank if it may not be used."""
        key = self._given = self._read()
        if self._good is None or self._wrong is None:
            self._good = key  # whoever starts looks whose it is
        if key != self._good:
            async with self._asking:
                if key != self._good and self._wrong is not None:
                    self._why = await self._wrong()
                    if self._why:
                        return ""
                    self._good = key
        self._why = ""
        return f"Klaviyo-API-Key {key}"

    @property
    def cure(self) -> str:
        """What to do about a 401."""
        return self._why or (
            "set klaviyo.api_key to a valid private key; no restart is needed"
        )

    async def refused(self, authorization: str) -> bool:  # noqa: ARG002  any key
        """Do nothing: a key is read anew each time."""
        return False

    async def wait_changed(self) -> None:
        """Look once a second for another key."""
        while self._read() == self._given:  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(_POLL)

    def __repr__(self) -> str:
        return "ApiKey(***)"
