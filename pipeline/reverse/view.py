"""What was last published of each profile, and what forward last sent: on local disk.

A copy of the state topic in a temporary SQLite file, so that millions of profiles cost
no memory. It is thrown away with the process and rebuilt from the topic, which is the
truth. Methods block and are called from a thread, one at a time.
"""

import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from schemas.profile_update import Content

__all__ = ["Known", "Sent", "View"]

# With rowids: rows are appended and only the small index is at random places, which is
# four times as fast at a million profiles.
_SCHEMA: Final = """
CREATE TABLE profile (id TEXT PRIMARY KEY, value BLOB, seen INTEGER);
CREATE TABLE sent (name TEXT PRIMARY KEY, value BLOB);
"""
_PUT: Final = """
INSERT INTO profile VALUES (?, ?, ?)
ON CONFLICT (id) DO UPDATE SET value = excluded.value, seen = excluded.seen
"""
_CACHE: Final = 32 * 1024  # KiB


class Known(msgspec.Struct):
    """One profile as last published, or as it was found when we began."""

    content: Content
    at: float = 0.0  # its `updated`, Unix seconds
    sent: float = 0.0  # what forward sent up to here has been seen in Klaviyo


class Sent(msgspec.Struct):
    """What one write made true; `at` in Unix seconds."""

    at: float
    content: Content


_KNOWN: Final = msgspec.json.Decoder(Known)
_SENT: Final = msgspec.json.Decoder(Sent)
_WRITES: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder(
    dict[str, tuple[float, Any]]
)


class View:
    """One file, from `start` to `close`."""

    def __init__(self) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._db: sqlite3.Connection | None = None

    def start(self) -> None:
        """Begin with an empty one."""
        self.close()
        self._folder = tempfile.TemporaryDirectory(prefix="klaviyo-pipeline-")
        path = Path(self._folder.name) / "view.sqlite"
        self._db = db = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False
        )
        # A crash loses the file anyway.
        db.execute("PRAGMA journal_mode = OFF")
        db.execute("PRAGMA synchronous = OFF")
        db.execute(f"PRAGMA cache_size = -{_CACHE}")
        db.executescript(_SCHEMA)

    def close(self) -> None:
        """Forget it."""
        if self._db is not None:
            self._db.close()
            self._db = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    @property
    def _file(self) -> sqlite3.Connection:
        if self._db is None:
            raise RuntimeError("the view is not started")
        return self._db

    # -- profiles ------------------------------------------------------------------------

    def put(self, rows: Iterable[tuple[str, bytes | None]], seen: int) -> None:
        """Set profiles, None for one that is gone; `seen` is the sweep it was seen in."""
        latest = dict(rows)
        there = [(who, value, seen) for who, value in latest.items() if value is not None]
        gone = [(who,) for who, value in latest.items() if value is None]
        db = self._file
        db.execute("BEGIN")
        db.executemany(_PUT, there)
        db.executemany("DELETE FROM profile WHERE id = ?", gone)
        db.execute("COMMIT")

    def get(self, who: str) -> Known | None:
        """Return a profile; None for one never seen, gone, or kept unreadably."""
        found = self._one("SELECT value FROM profile WHERE id = ?", who)
        try:
            return None if found is None else _KNOWN.decode(found)
        except msgspec.DecodeError:  # it will be published, and kept, anew
            return None

    def mark(self, ids: Iterable[str], sweep: int) -> None:
        """Note that the sweep has seen these."""
        db = self._file
        db.execute("BEGIN")
        db.executemany(
            "UPDATE profile SET seen = ? WHERE id = ?", ((sweep, who) for who in ids)
        )
        db.execute("COMMIT")

    def unseen(self, sweep: int, most: int) -> list[str]:
        """Return ids, `most` of them, that this sweep has not seen."""
        found = self._file.execute(
            "SELECT id FROM profile WHERE seen < ? LIMIT ?", (sweep, most)
        )
        return [row[0] for row in found]

    def count(self) -> int:
        """Count the profiles."""
        return int(self._file.execute("SELECT count(*) FROM profile").fetchone()[0])

    # -- what forward sent ---------------------------------------------------------------

    def sent(self, rows: Iterable[tuple[str, bytes | None]]) -> None:
        """Add what forward wrote, by identifier; later writes of a path win."""
        db = self._file
        db.execute("BEGIN")
        for name, value in rows:
            if value is None:
                db.execute("DELETE FROM sent WHERE name = ?", (name,))
                continue
            try:
                write = _SENT.decode(value)
            except msgspec.DecodeError:
                continue  # it comes back as a change: no harm
            writes = dict(self._writes(name))
            for path, content in write.content.items():
                writes[path] = (write.at, content)
            db.execute(
                "INSERT OR REPLACE INTO sent VALUES (?, ?)",
                (name, msgspec.json.encode(writes)),
            )
        db.execute("COMMIT")

    def writes(
        self, names: Iterable[str], after: float
    ) -> dict[str, tuple[float, object]]:
        """Return path -> (when, value) of writes younger than `after`, newest first."""
        found: dict[str, tuple[float, object]] = {}
        for name in names:
            for path, (at, value) in self._writes(name):
                if at > after and at > found.get(path, (0.0, None))[0]:
                    found[path] = (at, value)
        return found

    def _writes(self, name: str) -> Iterator[tuple[str, tuple[float, Any]]]:
        found = self._one("SELECT value FROM sent WHERE name = ?", name)
        if found is not None:
            yield from _WRITES.decode(found).items()

    def _one(self, query: str, key: str) -> bytes | None:
        row = self._file.execute(query, (key,)).fetchone()
        return None if row is None else row[0]
