"""Who we are at Klaviyo, and the way there, as the settings say."""

import asyncio
import random
from collections.abc import (
    AsyncIterator,
    Callable,
    Mapping,
)
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from pipeline.clock import SYSTEM
from pipeline.errors import PipelineError
from pipeline.kafka.admin import Admin, TopicRefused
from pipeline.kafka.state import State
from pipeline.klaviyo.access import Access
from pipeline.klaviyo.account import AnotherAccount, Belongs
from pipeline.klaviyo.auth import ApiKey, Credential
from pipeline.klaviyo.backoff import backoff
from pipeline.klaviyo.client import Client
from pipeline.klaviyo.connect import Connect
from pipeline.klaviyo.family import Ceiling
from pipeline.klaviyo.limits import BESIDE, POLLER, Limits
from pipeline.klaviyo.look import Account
from pipeline.klaviyo.oauth import App as Registered
from pipeline.klaviyo.oauth import OAuth
from pipeline.klaviyo.revision import Revision
from pipeline.klaviyo.session import Session
from pipeline.klaviyo.tokens import Vault
from pipeline.klaviyo.trust import trust
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from pipeline.settings import Settings

if TYPE_CHECKING:  # OpenTelemetry is an extra, and off
    from pipeline.observe.tracing import Tracing

__all__ = [
    "VERSION",
    "account",
    "connect",
    "owned",
    "same_account",
    "spread",
]

SPREAD: Final = 2.0  # s; more would be felt at each start, and a 429 is waited out
ERASES: Final = "data-privacy:write"  # the scope nobody needs to be asked for otherwise
VERSION: Final = version("klaviyo-pipeline")  # reads a file


@asynccontextmanager
async def connect(
    settings: Settings,
    health: Health,
    metrics: Metrics,
    wrapped: Callable[[Session], Session] | None = None,
    *,
    reverse: bool = False,
    tracing: "Tracing | None" = None,
    spare: bool = False,
) -> AsyncIterator[Client]:
    """Open the way to Klaviyo that the settings describe; leaving the block closes it.

    `wrapped` may put something of its own between the client and the session. Each
    direction has its own: the poller spends from other limits than the writes. `spare`
    takes only the quota that a running service leaves.
    """
    throttle = settings.throttle
    calls, seconds = (
        (throttle.limit_reverse, throttle.seconds_reverse)
        if reverse
        else (throttle.limit, throttle.seconds)
    )
    ceiling = Ceiling(calls, seconds) if calls and seconds else None
    chance = random.Random().random  # noqa: S311  jitter, not a secret
    parts: Mapping[str, float] = {}
    if reverse:
        parts = POLLER
    elif settings.reverse.enabled and not spare:
        parts = BESIDE
    limits = Limits(
        SYSTEM,
        chance,
        share=throttle.quota_share,
        ceiling=ceiling,
        spare=spare,
        parts=parts,
    )
    async with _credential(settings, health, metrics) as credential:
        session = Session(
            api_url=settings.klaviyo.api_url,
            agent=_agent(settings),
            credential=credential,
            revision=Revision(
                settings.klaviyo.api_revision,
                strict=settings.klaviyo.strict_revision,
                metrics=metrics,
                clock=SYSTEM,
            ),
            limits=limits,
            connections=throttle.concurrent_connections,
            health=health,
            metrics=metrics,
            clock=SYSTEM,
            chance=chance,
            trust=trust(settings.klaviyo.ssl_cafile),
            tracing=tracing,
        )
        async with session:
            yield Client(wrapped(session) if wrapped else session, limits)


@asynccontextmanager
async def account(settings: Settings) -> AsyncIterator[Connect]:
    """Open what `login`, `logout` and `status` work with: the app, the stored tokens.

    Makes the state topic if it is missing and may be made. Raises `SettingsError`,
    `KafkaUnreachable`.
    """
    settings.require_oauth()
    state, belongs = _state(settings), _belongs(settings)
    try:
        if settings.topics.create:
            with suppress(TopicRefused):  # said when something is written
                await Admin(settings.kafka).create_missing(
                    settings.topics.state, compact=True
                )
        yield _account(settings, state, belongs)
    finally:
        await state.close()
        await belongs.close()


@asynccontextmanager
async def _credential(
    settings: Settings, health: Health, metrics: Metrics
) -> AsyncIterator[Credential]:
    """What we log in with: the private key, or the tokens of the account connected."""
    if not settings.uses_oauth:
        yield ApiKey(settings.api_key().current, partial(_wrong, settings, health))
        return
    state = _state(settings)
    try:
        async with Access(
            _oauth(settings),
            _vault(settings, state),
            health=health,
            metrics=metrics,
            clock=SYSTEM,
            chance=random.Random().random,  # noqa: S311  jitter, not a secret
        ) as access:
            yield access
    finally:
        await state.close()


async def spread(chance: Callable[[], float]) -> None:
    """Wait for a moment of one's own before asking whose the credential is.

    Klaviyo tells it once a second. Replicas start together, or see a new key together.
    """
    await asyncio.sleep(chance() * SPREAD)


async def _wrong(settings: Settings, health: Health) -> str:
    """Say why the key in force may not be used: blank, or whose it is."""
    chance = random.Random().random  # noqa: S311  jitter, not a secret
    failures = 0
    await spread(chance)
    while True:
        metrics, wait = Metrics(), 0.0
        try:
            async with connect(settings, Health(metrics, SYSTEM), metrics) as client:
                found = await client.look.probe()
            wait = found.wait
            await same_account(settings, found.account)
            why = found.message if found.standing == "unreachable" else ""
        except AnotherAccount as error:
            return str(error)
        except PipelineError as error:
            why = str(error)
        if not why:
            health.back("klaviyo_account")
            return ""  # if the key is refused, the call itself says so
        failures += 1
        health.away("klaviyo_account", f"it is not known whose the new key is: {why}")
        await asyncio.sleep(max(wait, backoff(failures, chance())))


async def same_account(
    settings: Settings,
    found: Account | None,
    *,
    replace: bool = False,
    look_only: bool = False,
) -> None:
    """Make sure that this is the account the subscription delivers to.

    The first one is remembered, unless `look_only`. Raises `AnotherAccount`, and what
    reading and writing the state topic raises.
    """
    if isinstance(found, Account):
        state = _belongs(settings)
        try:
            ask = Belongs(state).check if look_only else Belongs(state).to
            await ask(found.id, found.name or "", replace=replace)
        finally:
            await state.close()


def owned(settings: Settings) -> tuple[Connect, tuple[State, ...]]:
    """Build the connection of a process that stays, and what it closes at its end."""
    state, belongs = _state(settings), _belongs(settings)
    return _account(settings, state, belongs), (state, belongs)


def _belongs(settings: Settings) -> State:
    return State(settings.kafka, settings.topics.state, f"{settings.slug}/account")


def _account(settings: Settings, state: State, belongs: State) -> Connect:
    return Connect(_oauth(settings), _vault(settings, state), Belongs(belongs))


def _state(settings: Settings) -> State:
    return State(settings.kafka, settings.topics.state, f"{settings.slug}/oauth")


def _vault(settings: Settings, state: State) -> Vault:
    chance = random.Random().random  # noqa: S311  jitter, not a secret
    return Vault(state, settings.secrets.key.get_secret_value(), SYSTEM, chance)


def _oauth(settings: Settings) -> OAuth:
    klaviyo = settings.klaviyo
    scopes = klaviyo.scopes
    if settings.deletes.policy == "erase" and ERASES not in scopes:
        scopes = (*scopes, ERASES)
    registered = Registered(
        client_id=klaviyo.client_id,
        client_secret=settings.client_secret().current,
        redirect_url=klaviyo.redirect_url,
        scopes=scopes,
    )
    return OAuth(
        registered,
        klaviyo.api_url,
        _agent(settings),
        klaviyo.api_revision,
        SYSTEM,
        trust(klaviyo.ssl_cafile),
    )


def _agent(settings: Settings) -> str:
    return f"klaviyo-pipeline/{VERSION} ({settings.subscription.version})"
