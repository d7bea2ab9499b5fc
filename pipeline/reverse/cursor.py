"""How far the poller has come, by Klaviyo's clock, and what to ask for next. No I/O."""

from datetime import UTC, datetime

import msgspec

from pipeline.errors import PipelineError

__all__ = ["Cursor", "CursorLost", "decode", "encode", "stamp"]

_AHEAD = 300  # s; Klaviyo's servers do not differ that much


class CursorLost(PipelineError):
    """The cursor cannot be used; a human says where to go on."""

    exit_code = 2


class Cursor(msgspec.Struct, frozen=True):
    """Times are whole Unix seconds of Klaviyo's clock; they never go back."""

    updated: int  # every change up to here is published
    suppressed: int  # the same for suppressions, which do not move `updated`
    since: int  # what changed up to here was there before us and is not published
    swept: int = 0  # when all profiles were last read; 0 never

    def advanced(
        self,
        *,
        updated: int | None = None,
        suppressed: int | None = None,
        swept: int | None = None,
    ) -> "Cursor":
        """Move forward; a smaller value than the present one changes nothing."""
        return Cursor(
            max(self.updated, updated or 0),
            max(self.suppressed, suppressed or 0),
            self.since,
            max(self.swept, swept or 0),
        )


_CURSOR = msgspec.json.Decoder(Cursor)


def decode(
    value: bytes | None, now: float, start: str, since: int, *, lost: bool = False
) -> Cursor:
    """Read the stored cursor; the first one if there is none.

    `now` is Klaviyo's clock, `start` the setting, `since` where it would begin. A cursor
    that is lost, corrupt or of the future is replaced when the setting names a time, and
    else raises `CursorLost`: going on from now would lose changes silently, and all would
    be published again.
    """
    if value is None and lost and start in {"now", "all"}:
        raise CursorLost(
            "The state topic has no cursor, though the topic for profiles was written "
            "to: the state topic was lost, or subscription.name or topics.state is "
            "another than before. Say once from when on changes are to be published, "
            f"those since then that were published before included: {_command(now)}"
        )
    if value is None:
        return Cursor(since, since, since)
    try:
        found = _CURSOR.decode(value)
        newest = max(found.updated, found.suppressed, found.swept)
        wrong = "" if newest <= now + _AHEAD else "newer"
    except msgspec.MsgspecError:
        found, wrong = None, "corrupt"
    if found is not None and not wrong:
        return found
    if start not in {"now", "all"}:
        return Cursor(since, since, min(since, found.since) if found else 0)
    what = "is newer than Klaviyo's clock" if wrong == "newer" else "cannot be read"
    raise CursorLost(
        f"The poller's cursor in the state topic {what}. Say once from when on changes "
        "are to be looked at; what is published already is not published again: "
        f"{_command(now)}"
    )


def _command(now: float) -> str:
    """What to run; a day is a guess that the reader can correct."""
    return (
        f"PIPELINE_REVERSE__START={stamp(int(now) - 86_400)} "
        "klaviyo-pipeline run --only reverse"
    )


def encode(cursor: Cursor) -> bytes:
    """Return the cursor as it is stored."""
    return msgspec.json.encode(cursor)


def stamp(at: int) -> str:
    """Return Unix seconds as the listing's filter takes them: `2026-11-01T10:00:00Z`."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
