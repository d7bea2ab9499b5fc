"""ONE table: what a status or an exception means.

    accepted      done, or taken for processing
    refused       the request's own fault, said by Klaviyo: never sent again as it is
    too_large     the same, for its size: split it
    throttled     429: the family pauses, then again
    outage        the server or the way to it failed: wait, again, for ever
    unexpected    not Klaviyo's word: a proxy, a captive portal, a changed API: as an
                  outage, since a record must never be dead-lettered for it
    unauthorized, forbidden, retired
                  a human must act: the flow halts and goes on by itself afterwards

Source: Klaviyo, "Rate limits, status codes, and errors" and "API versioning and
deprecation policy"; 502, 408 and the exceptions are ours. Exceptions are known by name,
for aiohttp is not imported here.
"""

from typing import Any, Final, Literal, TypeAlias

import msgspec

__all__ = [
    "FAILURES",
    "Fault",
    "Kind",
    "classify",
    "explain",
    "faults",
    "name_failure",
]

Kind: TypeAlias = Literal[
    "accepted",
    "refused",
    "too_large",
    "throttled",
    "outage",
    "unexpected",
    "unauthorized",
    "forbidden",
    "retired",
]

_ALWAYS: Final[dict[int, Kind]] = {
    401: "unauthorized",
    403: "forbidden",
    408: "outage",
    410: "retired",
    413: "too_large",
    429: "throttled",
}
_WITH_DOCUMENT: Final[dict[int, Kind]] = {
    400: "refused",
    404: "refused",
    409: "refused",
    422: "refused",
}
_ACCOUNTS: Final = "get_accounts"  # takes no input of ours, so it has no fault of its own
_BAD_REQUEST, _SERVER_ERROR = 400, 500

FAILURES: Final[dict[str, str]] = {
    # exception class, or one of its parents -> reason, as in api_retries_total
    "TimeoutError": "timeout",
    "ServerTimeoutError": "timeout",
    "ClientConnectorDNSError": "dns",
    "ClientSSLError": "tls",
    "ServerFingerprintMismatch": "tls",
    "SSLError": "tls",
    "ClientConnectorError": "connect",
    "ServerDisconnectedError": "reset",
    "ClientConnectionError": "reset",
    "ClientPayloadError": "reset",
    "ConnectionError": "reset",
    "OSError": "connect",
    "ClientError": "protocol",
}


class Fault(msgspec.Struct, frozen=True):
    """One entry of the error document. Never log `detail`: it may quote a customer."""

    code: str
    pointer: str  # JSON pointer into the request, or the name of a parameter
    title: str
    detail: str
    duplicate_profile_id: str = ""  # with 409: whose profile has these identifiers

    @property
    def safe(self) -> str:
        """What may be shown anywhere."""
        where = f" at {self.pointer}" if self.pointer else ""
        return f"{self.code}: {self.title}{where}"

    def __repr__(self) -> str:
        return f"Fault({self.safe})"


class _Errors(msgspec.Struct):
    errors: list[dict[str, Any]]


_ERRORS: Final = msgspec.json.Decoder(_Errors)
_LONGEST: Final = 500  # characters of one text of theirs that we keep


def faults(body: bytes) -> tuple[Fault, ...]:
    """Read Klaviyo's faults; empty when `body` is not its error document."""
    try:
        errors = _ERRORS.decode(body).errors
    except (msgspec.DecodeError, RecursionError):
        return ()
    found = tuple(_fault(error) for error in errors)
    # An entry without any word of Klaviyo's is somebody else's document.
    return found if all(each.code or each.title or each.detail for each in found) else ()


def classify(
    operation: str, status: int, accepted: frozenset[int], document: tuple[Fault, ...]
) -> Kind:
    """Say what an answer means; `accepted` are the documented good statuses."""
    kind = _classify(status, accepted, document)
    if operation == _ACCOUNTS and kind in ("refused", "too_large"):
        # Any status but 400 says that this is not where the API is: all records would
        # be refused there.
        return "unauthorized" if status == _BAD_REQUEST else "unexpected"
    return kind


def _classify(status: int, accepted: frozenset[int], document: tuple[Fault, ...]) -> Kind:
    if status in accepted:
        return "accepted"
    if status >= _SERVER_ERROR:
        return "outage"
    if (always := _ALWAYS.get(status)) is not None:
        return always
    if not document:
        return "unexpected"
    kind = _WITH_DOCUMENT.get(status, "unexpected")
    if kind == "refused" and any(each.pointer == "revision" for each in document):
        return "retired"  # the header's fault: each record would be refused for it
    return kind


def name_failure(error: BaseException) -> str | None:
    """Name the reason there was no answer; None for what is no failure of the network."""
    for parent in type(error).__mro__:
        if (reason := FAILURES.get(parent.__name__)) is not None:
            return reason
    return None


def explain(reason: str) -> str:
    """Say more of a reason that an operator may have to act on."""
    if reason == "tls":
        return (
            "tls: it does not prove to be Klaviyo; klaviyo.ssl_cafile says whom to trust"
        )
    if reason == "unexpected":
        return "unexpected: not Klaviyo's answer; is klaviyo.api_url right?"
    return reason


def _fault(error: dict[str, Any]) -> Fault:
    source, meta = error.get("source"), error.get("meta")
    if not isinstance(source, dict):
        source = {}
    if not isinstance(meta, dict):
        meta = {}
    return Fault(
        code=_text(error.get("code")),
        pointer=_text(source.get("pointer")) or _text(source.get("parameter")),
        title=_text(error.get("title")),
        detail=_text(error.get("detail")),
        duplicate_profile_id=_text(meta.get("duplicate_profile_id")),
    )


def _text(value: object) -> str:
    return value[:_LONGEST] if isinstance(value, str) else ""
