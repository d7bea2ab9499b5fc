"""What `check` says about Klaviyo: credential, revision really served, quota.

What the credential may do is in findings_scopes.py.
"""

from typing import TYPE_CHECKING, Final

from pipeline.cli.findings import FAILED, REFUSED, Finding
from pipeline.cli.findings_scopes import granted, look_at_scopes
from pipeline.errors import PipelineError

if TYPE_CHECKING:  # slow to import, and --help needs none
    from pipeline.klaviyo.look import Findings
    from pipeline.settings import Settings

__all__ = ["look_at_klaviyo"]

SKEW: Final = 30.0  # s; events in the future, and windows of limits, bear less
_LEFT: Final = {
    0: "served",
    12: "served for less than a year more,",
    18: "served for less than six months more,",
    23: "served for less than a month more,",
}
USED: Final = ("create_or_update_profile", "create_event")  # operations of a run


async def look_at_klaviyo(settings: "Settings") -> list[Finding]:
    """Ask Klaviyo once, in the way a run does."""
    from pipeline.access import connect
    from pipeline.clock import SYSTEM
    from pipeline.observe.health import Health
    from pipeline.observe.metrics import Metrics

    metrics = Metrics()
    try:
        async with connect(settings, Health(metrics, SYSTEM), metrics) as client:
            found = await client.look.probe()
            if found.standing == "unreachable":
                # Accounts allow one call a second: a second `check`, or a run that has
                # just started, is met by a 429. The next look waits for its turn.
                found = await client.look.probe()
            rows = _rows(found, settings)
            if found.standing == "ok":
                rows += await _belongs(found, settings)
                rows.append(await look_at_scopes(client.scopes, settings))
        if settings.uses_oauth:  # after the look, which may have refreshed the token
            rows += await granted(settings)
    except PipelineError as error:
        return [Finding.fault("klaviyo", error)]
    return rows


def _rows(found: "Findings", settings: "Settings") -> list[Finding]:
    """Put what a probe found in rows."""
    looked = [_credential(found, settings)]
    if found.served is not None and found.standing != "revision_retired":
        looked.append(_revision(found, settings))
        looked += _history(found, settings)
    if found.standing == "ok":
        looked.append(_quota(found, settings))
    if found.ahead is not None:
        looked.append(_clock(found.ahead))
    return looked + _readable_by_all(settings.klaviyo.api_url)


def _readable_by_all(url: str) -> list[Finding]:
    """Look whether the credential goes unencrypted to another machine."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    if parts.scheme == "https" or parts.hostname in {"localhost", "127.0.0.1", "::1"}:
        return []
    return [
        Finding(
            "note",
            "encryption",
            f"none: {url} is http, so all between here and there can read the "
            "credential and the customers",
            "Set klaviyo.api_url to one that starts with https://.",
        )
    ]


async def _belongs(found: "Findings", settings: "Settings") -> list[Finding]:
    """Compare the account with the one that was delivered to before."""
    from pipeline.access import same_account
    from pipeline.klaviyo.account import AnotherAccount

    try:
        await same_account(settings, found.account, look_only=True)
    except AnotherAccount as error:
        return [Finding.fault("account", error)]
    except PipelineError:
        pass  # Kafka is looked at by itself
    return []


def _clock(ahead: float) -> Finding:
    if abs(ahead) <= SKEW:
        return Finding("ok", "clock", "agrees with Klaviyo's")
    side = "ahead of" if ahead > 0 else "behind"
    return Finding(
        "note",
        "clock",
        f"{abs(ahead):.0f} s {side} Klaviyo's",
        "Set this machine's clock by NTP.",
    )


def _credential(found: "Findings", settings: "Settings") -> Finding:
    match found.standing:
        case "ok":
            account = found.account
            name = f"{account.name} ({account.id})" if account else "unnamed"
            kind = "OAuth token" if settings.uses_oauth else "private key"
            return Finding("ok", "credential", f"{kind} accepted; account {name}")
        case "unauthorized":
            return Finding(
                "FAULT",
                "credential",
                found.message,
                "Authorise the app: klaviyo-pipeline login."
                if settings.uses_oauth
                else "Set klaviyo.api_key (PIPELINE_KLAVIYO__API_KEY) to a private key "
                "of the account; it begins with pk_, and is not the public one.",
                REFUSED,
            )
        case "forbidden":
            return Finding(
                "FAULT",
                "credential",
                found.message,
                "Add the scope to the app at Klaviyo and to klaviyo.scopes, then: "
                "klaviyo-pipeline login."
                if settings.uses_oauth
                else "Make a key with accounts:read, profiles:write and events:write; "
                "the scopes of a key cannot be changed.",
                REFUSED,
            )
        case "revision_retired":
            return Finding(
                "FAULT",
                "revision",
                found.message,
                "Set klaviyo.api_revision to a newer one, or klaviyo.strict_revision to "
                "false.",
                FAILED,
            )
        case "unreachable":
            return Finding(
                "FAULT",
                "klaviyo",
                f"{settings.klaviyo.api_url}: {found.message}",
                "Check klaviyo.api_url and the way to it (DNS, proxy, firewall); a run "
                "would wait.",
                FAILED,
            )


def _revision(found: "Findings", settings: "Settings") -> Finding:
    served = found.served or found.asked
    if served != found.asked:
        return Finding(
            "note",
            "revision",
            f"asked for {found.asked} ({found.stage}), served {served}, "
            f"until {found.served_retires}",
            f"Set klaviyo.api_revision to {served} or newer, so that it changes only "
            "when you want.",
        )
    if found.stage == "stable" or settings.klaviyo.api_revision.endswith(".pre"):
        return Finding("ok", "revision", f"{served}, {found.stage}")
    return Finding(
        "note",
        "revision",
        f"{served}, {found.stage}, {_LEFT[found.milestone]} until {found.retires}",
        "Set klaviyo.api_revision to a newer one before that day.",
    )


def _history(found: "Findings", settings: "Settings") -> list[Finding]:
    from pipeline.stages import context, require_history

    try:
        require_history(context(settings), found.served or found.asked)
    except PipelineError as error:
        cure = "Or leave deliver.backfill_after blank."
        return [Finding("FAULT", "backfill", str(error), cure, error.exit_code)]
    return []


def _quota(found: "Findings", settings: "Settings") -> Finding:
    from pipeline.klaviyo.quotas import QUOTAS

    windows = {operation: QUOTAS[operation][:2] for operation in USED}
    windows |= {each: of for each, of in found.quotas.items() if each in USED}
    limits = ", ".join(
        f"{operation} {burst}/s {steady}/min"
        for operation, (burst, steady) in windows.items()
    )
    throttle = settings.throttle
    text = f"{limits}; our share {throttle.quota_share:.0%}"
    if throttle.limit is not None:
        text += f", at most {throttle.limit} calls in {throttle.seconds:g} s"
    return Finding("ok", "quota", text)
