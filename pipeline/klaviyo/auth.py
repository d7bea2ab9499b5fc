"""Where the credential comes from: a private key here, OAuth in `access.py`.

Source: Klaviyo, "Authenticate API requests": `Authorization: Klaviyo-API-Key pk_...`.
"""

import asyncio
from collections.abc import Callable
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

    async def refused(self, authorization: str) -> None:
        """Hear that Klaviyo answered 401 to that value; get another if possible."""
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
    cure = "set klaviyo.api_key to a valid private key; no restart is needed"
    scope_cure = "a key's scopes are fixed: make a new one and set klaviyo.api_key"

    def __init__(self, read: Callable[[], str]) -> None:
        """`read` returns the key in force; it must be cheap and not block."""
        self._read = read
        self._given = ""

    async def authorization(self) -> str:
        """Return the header value with the key in force."""
        self._given = self._read()
        return f"Klaviyo-API-Key {self._given}"

    async def refused(self, authorization: str) -> None:
        """Do nothing: a key is read anew each time."""

    async def wait_changed(self) -> None:
        """Look once a second for another key."""
        while self._read() == self._given:  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(_POLL)

    def __repr__(self) -> str:
        return "ApiKey(***)"
