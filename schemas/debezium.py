"""Change rows as Debezium writes them, and the envelope Kafka Connect may put around.

    {"before": {...} | null, "after": {...} | null, "op": "c" | "u" | "d" | "r", ...}
    {"schema": {...}, "payload": <any of it>}       (converter setting schemas.enable)

`op` is create, update, delete, or read for the rows of a snapshot; "t" (truncate) and
"m" (a message without a row) change no row. A delete is followed by a tombstone. See
"Debezium connector for PostgreSQL", data change events.
"""

from typing import Any, Final

__all__ = ["changes_nothing", "payload"]

_ENVELOPE: Final = {"schema", "payload"}
_WITHOUT_ROW: Final = ("t", "m")


def payload(document: Any) -> Any:  # noqa: ANN401  any JSON value
    """Return what stands in Connect's envelope; the document itself without one."""
    if isinstance(document, dict) and document.keys() == _ENVELOPE:
        return document["payload"]
    return document


def changes_nothing(document: Any) -> bool:  # noqa: ANN401
    """Return whether it is Debezium's word about something else than a row."""
    return (
        isinstance(document, dict)
        and document.get("op") in _WITHOUT_ROW
        and {"source", "ts_ms"} <= document.keys()
    )
