"""Who may call: private keys, access tokens, and their scopes.

`Authorization: Klaviyo-API-Key pk_...`, else 401; a scope that is missing is 403. System
webhooks are for OAuth apps: a private key gets 403 there. Sources: Klaviyo, "Authenticate
API requests", "Working with system webhooks".
"""

from collections.abc import Mapping

from pipeline.sandbox.oauth import Install, OAuth
from pipeline.sandbox.settings import Settings
from pipeline.sandbox.structure.load import Operation
from pipeline.sandbox.wire import Problem, Refused

__all__ = ["authenticate", "authorize"]

_SCHEME = "Klaviyo-API-Key "
_BEARER = "Bearer "
_EVERY = "*"


def authenticate(
    headers: Mapping[str, str], settings: Settings, oauth: OAuth
) -> Install | None:
    """Raise `Refused` with 401 unless the call carries a key or a token that is good.

    Returns the installation of a token, None for a key.
    """
    given = headers.get("Authorization", "")
    if not given:
        raise _unauthorized(
            "Missing or invalid authorization header.", "not_authenticated"
        )
    if given.startswith(_BEARER) and _EVERY not in settings.revoked_keys:
        install = oauth.install(given.removeprefix(_BEARER))
        if install is not None:
            return install
    key = given[len(_SCHEME) :].strip()
    known = key == settings.key if settings.key else key.startswith("pk_")
    revoked = key in settings.revoked_keys or _EVERY in settings.revoked_keys
    if not given.startswith(_SCHEME) or not known or revoked:
        raise _unauthorized(
            "Incorrect authentication credentials.", "authentication_failed"
        )
    return None


def authorize(
    operation: Operation, settings: Settings, install: Install | None = None
) -> None:
    """Raise `Refused` with 403 when a scope of `operation` is missing."""
    missing = [
        scope
        for scope in operation.scopes
        if scope in settings.missing_scopes
        or (install is not None and scope not in install.scopes)
    ]
    if missing or operation.key in settings.forbidden:
        raise _forbidden(
            f"The key lacks a scope: {', '.join(missing or operation.scopes)}."
        )
    if install is None and operation.path.startswith("/api/webhook"):
        raise _forbidden("System webhooks are not available to this key.")


def _unauthorized(detail: str, code: str) -> Refused:
    return Refused(401, [Problem(detail, code=code, title="Authentication failed.")])


def _forbidden(detail: str) -> Refused:
    problem = Problem(detail, code="permission_denied", title="Permission denied.")
    return Refused(403, [problem])
