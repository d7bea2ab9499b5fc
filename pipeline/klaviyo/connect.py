"""Connecting an account and letting go of it: what `login`, `logout`, /connect share."""

import msgspec

from pipeline.errors import SettingsError
from pipeline.klaviyo.account import Belongs
from pipeline.klaviyo.oauth import Asked, OAuth
from pipeline.klaviyo.tokens import Tokens, Vault

__all__ = ["Connect"]


class Connect:
    """One account at a time is connected; where several want to, they take turns."""

    def __init__(self, oauth: OAuth, vault: Vault, belongs: Belongs) -> None:
        self._oauth = oauth
        self._vault = vault
        self._belongs = belongs

    @property
    def authorize_origin(self) -> str:
        """Scheme and host of the page the user is sent to."""
        return self._oauth.authorize_origin

    @property
    def redirect_url(self) -> str:
        """Where the user comes back to."""
        return self._oauth.app.redirect_url

    def ask(self) -> Asked:
        """Begin: where to send the user."""
        return self._oauth.ask()

    async def known(self) -> None:
        """Make sure that Klaviyo knows the app. Raises `ClientRefused`."""
        await self._oauth.known()

    async def connected(self) -> Tokens | None:
        """Read who is connected. Raises `SettingsError` and what the store raises."""
        return await self._vault.read()

    def missing(self, tokens: Tokens) -> list[str]:
        """List the scopes that were asked for and not granted."""
        return [each for each in self._oauth.app.scopes if each not in tokens.scopes]

    async def finish(
        self, asked: Asked, callback: str, *, replace: bool = False
    ) -> Tokens:
        """Store what the user came back with; stored when it returns.

        `replace` takes another account than the one connected, and tokens nobody can
        open. Raises `AnotherAccount`, what `OAuth.exchange` and `OAuth.account` raise,
        and what the store raises.
        """
        fresh = await self._oauth.account(await self._oauth.exchange(asked, callback))
        async with self._vault.claim():
            try:
                before = await self._vault.read()
            except SettingsError:
                if not replace:
                    raise
                before = None
            # What was granted is not revoked then: that would take the app from another
            # service that delivers to that account.
            await self._belongs.to(fresh.account_id, fresh.account_name, replace=replace)
            if before is not None:
                serial = max(fresh.serial, before.serial + 1)
                fresh = msgspec.structs.replace(fresh, serial=serial)
            await self._vault.write(fresh)
        return fresh

    async def disconnect(self) -> Tokens | None:
        """Revoke and forget the tokens; None if nobody was connected.

        Raises `ClientRefused` and `Unavailable`, with the tokens still stored, and what
        the store raises.
        """
        async with self._vault.claim():
            tokens = await self._vault.read()
            if tokens is not None:
                await self._oauth.revoke(tokens)
                await self._vault.write(None)
        return tokens
