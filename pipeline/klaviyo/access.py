"""The access token in force: refreshed ahead of its end and when Klaviyo refuses it.

One refresh at a time in this process (one task that all callers wait for) and over all
replicas (a claim, see `tokens.py`). What a refresh brings is stored before it is used,
and stored again and again until it is, because a refresh token that was rotated and lost
is a connection lost. `invalid_grant` ends in the halt `needs_authorisation`; the store is
looked at every few seconds then, so that a login anywhere ends it without a restart.

Source: Klaviyo, "Make API calls using OAuth".
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Self

from pipeline.clock import Clock
from pipeline.errors import PipelineError, SettingsError
from pipeline.klaviyo.backoff import backoff
from pipeline.klaviyo.oauth import ClientRefused, NotGranted, OAuth, Unavailable
from pipeline.klaviyo.tokens import Tokens, Vault
from pipeline.observe.health import Halt, Health
from pipeline.observe.metrics import Metrics

__all__ = ["LOGIN", "Access"]

LOGIN: Final = "klaviyo-pipeline login"
AHEAD: Final = 300.0  # s before its end that a token is refreshed, or
_AHEAD_PART: Final = 0.2  # of its life, if that is less
_SPREAD: Final = 0.5  # of that, by chance, so that one of many replicas is the first
LOOK: Final = 60.0  # s between looks for what another process has stored
LOOK_HALTED: Final = 5.0  # s, while nobody is connected
YOUNG: Final = 60.0  # s; a token as young as that is not refreshed for being refused,
DOUBT: Final = 2.0  # s; but tried again so much later, once: it may not be known yet
STOP_LIMIT: Final = 4.0  # s for a refresh under way at a stop, so that it is stored
_WAIT: Final = "klaviyo_oauth"


class Access:
    """A `Credential`: the access token of the account that is connected."""

    scope_cure = (
        f"add them to klaviyo.scopes and to the app at Klaviyo, then `{LOGIN}` again"
    )

    def __init__(
        self,
        oauth: OAuth,
        vault: Vault,
        *,
        health: Health,
        metrics: Metrics,
        clock: Clock,
        chance: Callable[[], float],
    ) -> None:
        """`chance` draws from [0, 1)."""
        self._oauth = oauth
        self._vault = vault
        self._health = health
        self._metrics = metrics
        self._clock = clock
        self._chance = chance
        self._tokens: Tokens | None = None
        self._given = ""
        self._lack = ""  # why there is nothing to log in with; blank when there is
        self._hopeless = False  # the tokens cannot be refreshed any more
        self._doubted: Tokens | None = None  # refused while they were young
        self._doubt_ends = 0.0  # monotonic s
        self._changed = asyncio.Event()
        self._due = 0.0  # Unix s of the refresh ahead of the end
        self._renewal: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None

    # -- Credential --------------------------------------------------------------------

    async def authorization(self) -> str:
        """Return the header's value, blank while nobody is connected."""
        tokens = self._tokens
        if tokens and not self._lack and self._clock.now() >= tokens.expires:
            await self._renew(tokens)
        self._given = self._header()
        return self._given

    async def refused(self, authorization: str) -> bool:
        """Refresh, unless that was done since, or so lately that it would be vain.

        Then it only looks whether another process has logged out or in, and gives the
        token a second chance.
        """
        tokens = self._tokens
        if tokens is None or authorization != self._header():
            return False
        young = self._clock.now() - tokens.obtained < YOUNG
        await self._renew(tokens, look_only=young)
        return young and self._tokens is tokens and await self._second_chance(tokens)

    async def wait_changed(self) -> None:
        """Return when there are other tokens than the ones given last."""
        while self._header() == self._given:
            changed = self._changed
            await changed.wait()

    @property
    def halt(self) -> Halt:
        """What a refusal is called."""
        return "needs_authorisation" if self._lack else "unauthorized"

    @property
    def cure(self) -> str:
        """What to do about a refusal."""
        return self._lack or (
            f"if this lasts, authorise the app again: `{LOGIN}`, or /connect of the "
            "running service; no restart is needed"
        )

    async def _second_chance(self, tokens: Tokens) -> bool:
        """Give it, after a pause, to all calls refused by then; once for these tokens."""
        if self._doubted is not tokens:
            self._doubted = tokens
            self._doubt_ends = self._clock.monotonic() + DOUBT
        pause = self._doubt_ends - self._clock.monotonic()
        if pause <= 0:
            return False
        await asyncio.sleep(pause)
        return True

    # -- life --------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Load the tokens and keep them fresh from now on.

        Raises `SettingsError` when they were sealed with another key, and what the store
        raises.
        """
        self._take(await self._vault.read())
        self._keeper = asyncio.create_task(self._keep())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop; a refresh under way may end, so that what it brings is stored."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        if self._renewal is not None:
            await asyncio.wait([self._renewal], timeout=STOP_LIMIT)
            if not self._renewal.done():
                self._renewal.cancel()
                await asyncio.wait([self._renewal], timeout=1.0)

    @property
    def tokens(self) -> Tokens | None:
        """What is in force, None when nobody is connected."""
        return self._tokens

    def __repr__(self) -> str:
        return "Access(***)"

    async def _keep(self) -> None:
        while True:
            tokens = self._tokens
            pause = LOOK_HALTED if self._health.halted else LOOK
            if tokens is not None and not self._hopeless:
                if self._clock.now() >= self._due:
                    await self._renew(tokens)
                pause = min(pause, max(self._due - self._clock.now(), 1.0))
            changed = self._changed  # a halt shortens the pause
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await changed.wait()
            # Kafka being away is said by those who cannot do without it.
            with suppress(PipelineError):
                stored = await self._vault.read()
                if self._is_news(stored):
                    self._take(stored)

    def _is_news(self, stored: Tokens | None) -> bool:
        """Whether it came after ours: an open transaction may hide what is newer.

        Where ours are dead, any others are: a login by a clock far behind counts too.
        """
        if stored is None or self._tokens is None:
            return stored is not self._tokens
        if self._hopeless:
            return stored != self._tokens
        return stored.serial > self._tokens.serial

    # -- refresh -----------------------------------------------------------------------

    async def _renew(self, old: Tokens, *, look_only: bool = False) -> None:
        """Wait for the one refresh; a caller that is cancelled does not cancel it."""
        if self._renewal is None or self._renewal.done():
            if self._tokens is not old:
                return
            self._renewal = asyncio.create_task(self._refresh(old, look_only=look_only))
        await asyncio.shield(self._renewal)

    async def _refresh(self, old: Tokens, *, look_only: bool) -> None:
        failures = 0
        while True:
            try:
                await self._refresh_once(old, look_only=look_only)
            except NotGranted as error:
                self._lacking(f"{error} Use `{LOGIN}`, or /connect of the service.")
                self._hopeless = True
            except ClientRefused as error:
                self._lacking(
                    f"{error} A klaviyo.client_secret that changes in "
                    "PIPELINE_SECRETS_DIR is used within a minute; else restart."
                )
                self._due = self._clock.now() + LOOK
            except SettingsError as error:  # sealed anew with a key that is not ours
                self._lacking(f"{error} Then restart.")
                self._due = self._clock.now() + LOOK
            except PipelineError as error:  # Klaviyo does not answer, or the state topic
                failures += 1
                self._health.away(_WAIT, f"the token cannot be refreshed: {error}")
                wait = error.wait if isinstance(error, Unavailable) else 0.0
                await asyncio.sleep(max(wait, backoff(failures, self._chance())))
                continue
            self._health.back(_WAIT)
            return

    async def _refresh_once(self, old: Tokens, *, look_only: bool) -> None:
        stored = await self._vault.read()
        if not self._is_news(stored):
            if look_only:
                return
            async with self._vault.claim():
                stored = await self._vault.read()
                if not self._is_news(stored):
                    stored = await self._refreshed(old)
        self._take(stored)

    async def _refreshed(self, old: Tokens) -> Tokens | None:
        try:
            fresh = await self._oauth.refresh(old)
        except NotGranted:
            # Another may have been faster, if clocks are far apart.
            stored = await self._vault.read()
            if not self._is_news(stored):
                raise
            return stored
        failures = 0
        while True:
            try:
                await self._vault.write(fresh)
            except PipelineError as error:
                failures += 1
                self._health.away(_WAIT, f"the new token cannot be stored: {error}")
                await asyncio.sleep(backoff(failures, self._chance()))
            else:
                return fresh

    def _take(self, tokens: Tokens | None) -> None:
        """Use these from now on."""
        self._tokens, self._hopeless = tokens, False
        if tokens is None:
            self._lacking(
                "no account is connected: use "
                f"`{LOGIN}`, or /connect of the running service; no restart is needed"
            )
            return
        self._lack = ""
        ahead = min(AHEAD, tokens.lifetime * _AHEAD_PART)
        self._due = tokens.expires - ahead * (1 + _SPREAD * self._chance())
        self._metrics.token_expires.set(tokens.expires)
        self._health.resume("needs_authorisation")
        self._notify()

    def _lacking(self, message: str) -> None:
        self._lack = message
        self._metrics.token_expires.set(0)
        self._health.halt("needs_authorisation", message)
        self._notify()

    def _header(self) -> str:
        if self._tokens is None or self._lack:
            return ""
        return f"Bearer {self._tokens.access_token}"

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
