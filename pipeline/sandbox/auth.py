"""Who may call: private keys and scopes.

`Authorization: Klaviyo-API-Key pk_...`, else 401; a scope that is missing is 403. System
webhooks are for OAuth apps: a private key gets 403 there. Sources: Klaviyo, "Authenticate
API requests", "Working with system webhooks".
"""

from collections.abc import Mapping

from pipeline.sandbox.settings import Settings
from pipeline.sandbox.structure.load import Operation
from pipeline.sandbox.wire import Problem, Refused

__all__ = ["authenticate", "authorize"]

_SCHEME = "Klaviyo-API-Key "
_EVERY = "*"


def authenticate(headers: Mapping[str, str], settings: Settings) -> None:
    """Raise `Refused` with 401 unless the call carries a key that is good."""
    given = headers.get("Authorization", "")
    if not given:
        raise _unauthorized(
            "Missing or invalid authorization header.", "not_authenticated"
        )
    key = given[len(_SCHEME) :].strip()
    known = key == settings.key if settings.key else key.startswith("pk_")
    revoked = key in settings.revoked_keys or _EVERY in settings.revoked_keys
    if not given.startswith(_SCHEME) or not known or revoked:
        raise _unauthorized(
            "Incorrect authentication credentials.", "authentication_failed"
        )


def authorize(operation: Operation, settings: Settings) -> None:
    """Raise `Refused` with 403 when a scope of `operation` is missing."""
    missing = [scope for scope in operation.scopes if scope in settings.missing_scopes]
    if missing or operation.key in settings.forbidden:
        raise _forbidden(
            f"The key lacks a scope: {', '.join(missing or operation.scopes)}."
        )
    if operation.path.startswith("/api/webhook"):
        raise _forbidden("System webhooks are not available to this key.")


def _unauthorized(detail: str, code: str) -> Refused:
    return Refused(401, [Problem(detail, code=code, title="Authentication failed.")])


def _forbidden(detail: str) -> Refused:
    problem = Problem(detail, code="permission_denied", title="Permission denied.")
    return Refused(403, [problem])
