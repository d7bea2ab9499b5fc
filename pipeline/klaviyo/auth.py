"""Where the credential comes from.

Source: Klaviyo, "Authenticate API requests": `Authorization: Klaviyo-API-Key pk_...`.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

__all__ = ["ApiKey", "Credential"]

_POLL: Final = 1.0  # s between looks at the key while Klaviyo refuses the old one


class Credential(Protocol):
    """What proves to Klaviyo who we are."""

    async def authorization(self) -> str:
        """Return the value of the Authorization header, for one attempt."""
        ...

    async def wait_changed(self) -> None:
        """Return when `authorization()` would give another value than it gave last."""
        ...


class ApiKey:
    """A private key, read anew for each attempt so that a rotated Secret is picked up."""

    def __init__(self, read: Callable[[], str]) -> None:
        """`read` returns the key in force; it must be cheap and not block."""
        self._read = read
        self._given = ""

    async def authorization(self) -> str:
        """Return the header value with the key in force."""
        self._given = self._read()
        return f"Klaviyo-API-Key {self._given}"

    async def wait_changed(self) -> None:
        """Look once a second for another key."""
        while self._read() == self._given:  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(_POLL)

    def __repr__(self) -> str:
        return "ApiKey(***)"
