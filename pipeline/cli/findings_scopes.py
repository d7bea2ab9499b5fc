"""What `check` says about scopes: a run halts for want of one, so it is a fault here."""

from typing import TYPE_CHECKING, Final

from pipeline.cli.findings import REFUSED, Finding

if TYPE_CHECKING:  # slow to import, and --help needs none
    from pipeline.klaviyo.scopes import Scopes
    from pipeline.settings import Settings

__all__ = ["granted", "look_at_scopes", "needed"]

# What can be read beside that: nothing halts without.
_OPTIONAL: Final = {
    "events:read": "looking at what arrived",
    "metrics:read": "looking at what arrived",
}


def needed(settings: "Settings") -> dict[str, str]:
    """Scope -> what a run with these settings needs it for.

    Source: "Scopes" of each operation in Klaviyo's OpenAPI documents. An import job, by
    which a crowd of customers goes, needs those of lists even without any list.
    """
    imports = ["import jobs"]
    found = {
        "profiles:read": [*imports],
        "profiles:write": ["customers"],
        "lists:read": [*imports],
        "lists:write": [*imports],
    }
    if settings.klaviyo.generate_events:
        found["events:write"] = ["orders"]
    if settings.reverse.enabled:
        found["profiles:read"].append("reverse.enabled")
    if settings.consent.writes:
        for scope in ("profiles:read", "lists:read", "lists:write"):
            found[scope].append("consent.writes")
        found["subscriptions:write"] = ["consent.writes"]
    match settings.deletes.policy:
        case "ignore":
            pass
        case "suppress":
            found.setdefault("subscriptions:write", []).append("deletes.policy")
        case "erase":
            found["data-privacy:write"] = ["deletes.policy"]
    return {scope: ", ".join(uses) for scope, uses in found.items()}


async def look_at_scopes(scopes: "Scopes", settings: "Settings") -> Finding:
    """Try what the credential may do."""
    uses = needed(settings)
    may = await scopes.readable() | await scopes.writable(uses)
    there = [scope for scope, answer in may.items() if answer]
    text = "has " + ", ".join(["accounts:read", *there])
    if unknown := [scope for scope, answer in may.items() if answer is None]:
        text += f"; no answer about {', '.join(unknown)}"
    missing = [scope for scope, answer in may.items() if answer is False]
    if not missing:
        return Finding("ok", "scopes", text)
    text += "; lacks " + ", ".join(
        f"{scope} ({uses.get(scope) or _OPTIONAL[scope]})" for scope in missing
    )
    add = (
        "add them to the app at Klaviyo and to klaviyo.scopes, then: klaviyo-pipeline "
        "login."
        if settings.uses_oauth
        else "make a key with these too; a key's scopes are fixed."
    )
    if any(scope in uses for scope in missing):
        do = f"A run would halt: {add}"
        return Finding("FAULT", "scopes", text, do, REFUSED)
    return Finding("note", "scopes", text, f"If you use that, {add}")


async def granted(settings: "Settings") -> list[Finding]:
    """Look for scopes that the user was asked for, or a run needs, and did not grant."""
    from pipeline.access import account

    async with account(settings) as connect:
        tokens = await connect.connected()
    if tokens is None:
        return []
    fatal = needed(settings).keys() - set(tokens.scopes)
    missing = sorted(fatal.union(connect.missing(tokens)))
    if not missing:
        return []
    return [
        Finding(
            "FAULT" if fatal else "note",
            "missing scopes",
            ", ".join(missing) + ": not granted",
            "Add them to the app at Klaviyo and to klaviyo.scopes, then: "
            "klaviyo-pipeline login"
            + ("." if fatal else "; or take them out of klaviyo.scopes."),
            REFUSED if fatal else 0,
        )
    ]
