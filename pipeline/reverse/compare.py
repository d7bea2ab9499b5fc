"""Is it a change, and whose? A page of profiles in, what to publish out.

A path is a change if it differs from what was last published and was not written by our
own forward direction. A write of ours explains a path once: a marketer who later puts
the same value back is published. Pure but for the view, which it only reads.
"""

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias

import msgspec
from msgspec import Raw

from pipeline.reverse.view import Known, Sent, View
from schemas import profile_content, profile_update
from schemas.profile_content import Content, Row

__all__ = ["Change", "Compared", "Kind", "Origin", "compare", "gone"]

Kind: TypeAlias = Literal["created", "updated", "deleted"]
Origin: TypeAlias = Literal["poll", "consent", "sweep"]

SKEW: Final = 60.0  # s by which Klaviyo's own machines may differ
# s that Klaviyo may take over an event, and the profile in it ("minutes", Events API
# overview); other writes are done when it answers.
LATE: Final = 900.0


class Change(msgspec.Struct, frozen=True):
    """One message to publish."""

    who: str
    kind: Kind
    external_id: str | None
    value: bytes


class Compared(msgspec.Struct):
    """What a page came to; `known` is to be remembered with the messages, or never."""

    changes: list[Change] = msgspec.field(default_factory=list)
    known: dict[str, bytes | None] = msgspec.field(default_factory=dict)
    forgotten: list[str] = msgspec.field(default_factory=list)  # records of forward's
    seen: list[str] = msgspec.field(default_factory=list)
    newest: float = 0.0  # `updated` of the last row, Unix seconds; 0 if not ascending
    echoes: int = 0
    malformed: int = 0
    lost: int = 0  # properties left out, too large for a message
    late: int = 0  # changes that the polls had missed
    again: int = 0  # no changes: asked for by name, and published as they are


def compare(
    view: View,
    rows: Iterable[Raw],
    *,
    origin: Origin,
    bound: int,
    since: int,
    polled: int,
    now: float,
    asked: bool = False,
) -> Compared:
    """Compare a page with what is known.

    `bound`: what changed later is left to the next poll. `since`: what a sweep finds
    unchanged since then is only remembered. `polled`: the polls have come so far.
    `asked`: somebody wants these profiles whether they changed or not.
    """
    found = Compared()
    page: dict[str, Known] = {}
    ascending = True
    for raw in rows:
        try:
            row = profile_content.row(raw)
        except (msgspec.MsgspecError, RecursionError, AttributeError, TypeError):
            found.malformed += 1
            continue
        found.seen.append(row.id)
        ascending = ascending and row.at >= found.newest
        found.newest = row.at
        known = page.get(row.id) or view.get(row.id)
        if bound < row.at <= now + SKEW:
            continue  # settles still; what is dated beyond would for ever
        if known is not None and row.at < known.at:  # an older sight of it than we had
            if asked:
                found.changes.append(_as_known(row.id, known, now))
                found.again += 1
            continue
        if known is None and origin == "sweep" and row.at <= since:
            after = Known(row.content, row.at)  # was there before us
        else:
            late = origin == "sweep" and row.at <= polled
            after = _compared(
                view, found, row, known, now, polled=polled, late=late, asked=asked
            )
        if after != known:
            page[row.id] = after
            found.lost += row.lost
    found.known |= {who: msgspec.json.encode(known) for who, known in page.items()}
    if not ascending:
        found.newest = 0.0
    return found


def gone(view: View, ids: Iterable[str], now: float) -> Compared:
    """Compare with profiles that Klaviyo no longer has."""
    found = Compared()
    for who in ids:
        known = view.get(who)
        if known is None:
            continue
        found.known[who] = None
        message = profile_update.message(
            "deleted", who, known.content, occurred_at="", observed_at=now
        )
        external_id = known.content.get("external_id")
        found.changes.append(Change(who, "deleted", external_id, message))
    return found


def _compared(
    view: View,
    found: Compared,
    row: Row,
    known: Known | None,
    now: float,
    *,
    polled: int,
    late: bool,
    asked: bool,
) -> Known:
    before: Content = known.content if known else {}
    after = profile_content.carried(before, row)
    paths = profile_content.changed(before, after)
    writes = view.writes(_names(after))
    marks = _Marks(known, polled - LATE)
    # Which of two writes in one second came last nobody knows.
    ours = [
        path
        for path in paths
        if any(marks.fresh(each, path) and _shows(path, each, after) for each in writes)
    ]
    theirs = [path for path in paths if path not in ours]
    for write in writes:
        if _seen(write, ours, after, row.at):
            marks.add(write)
    if paths and not theirs:
        found.echoes += 1
    if theirs or (known is None and not paths) or asked:
        kind: Kind = "updated" if known or ours else "created"
        message = profile_update.message(
            kind,
            row.id,
            after,
            occurred_at=row.updated,
            observed_at=now,
            last_active=row.last_active,
            paths=theirs if kind == "updated" else None,
            before=before if kind == "updated" else None,
        )
        found.changes.append(Change(row.id, kind, after.get("external_id"), message))
        found.late += late
        found.again += kind == "updated" and not theirs
    if not paths and known is not None and not marks.added:
        return known  # moved by an event, or read again: nothing to remember
    return Known(after, min(row.at, now), marks.sent, marks.late)


def _as_known(who: str, known: Known, now: float) -> Change:
    message = profile_update.message(
        "updated",
        who,
        known.content,
        occurred_at=datetime.fromtimestamp(int(known.at), UTC).isoformat(),
        observed_at=now,
        paths=[],
        before=known.content,
    )
    return Change(who, "updated", known.content.get("external_id"), message)


def _names(content: Content) -> list[str]:
    """Name the profile as `Identity.names` does."""
    fields = (("i:", "external_id"), ("e:", "email"), ("p:", "phone"))
    return [prefix + str(content[name]) for prefix, name in fields if name in content]


def _shows(path: str, write: Sent, after: Content) -> bool:
    if path not in write.content:
        return False
    value, now = write.content[path], after.get(path)
    if path.startswith("consent.") and isinstance(value, dict) and isinstance(now, dict):
        return value.get("status") == now.get("status")  # all that we said
    return not profile_content.changed({path: value}, {path: now})


def _seen(write: Sent, ours: Collection[str], after: Content, updated: float) -> bool:
    """Whether all that it did shows by now; it explains nothing any more.

    A write is atomic: one path of it seen is all of it seen. A profile that has moved
    since shows it, or somebody has overwritten it.
    """
    return (
        updated >= write.at + (LATE if write.late else 0.0)
        or any(_shows(path, write, after) for path in ours)
        or all(_shows(path, write, after) for path in write.content)
    )


class _Marks:
    """Up to when the writes of a path have been seen; late ones come in any order."""

    def __init__(self, known: Known | None, floor: float) -> None:
        """Writes older than `floor` are seen, or were never done."""
        self._floor = floor
        self.added = False
        self.sent, self.late = (
            {path: at for path, at in held.items() if at >= floor}
            for held in ((known.sent, known.late) if known else ({}, {}))
        )

    def fresh(self, write: Sent, path: str) -> bool:
        """Whether it may still explain this path."""
        held = self.late if write.late else self.sent
        return write.at >= self._floor and write.at > held.get(path, float("-inf"))

    def add(self, write: Sent) -> None:
        """It has been seen."""
        held = self.late if write.late else self.sent
        for path in write.content:
            if self.fresh(write, path):
                held[path] = write.at
                self.added = True
