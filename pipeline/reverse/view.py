"""What was last published of each profile, and what forward last sent: on local disk.

A copy of the state topic in a temporary SQLite file, so that millions of profiles cost
no memory. It has no name on the disk, so that nothing is left of it whatever ends the
process; it is rebuilt from the topic, which is the truth. Methods block and are called
from a thread, one at a time.
"""

import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from pipeline.errors import PipelineError
from schemas.profile_content import Content

__all__ = ["Known", "Sent", "View", "ViewUnwritable"]

# With rowids: rows are appended and only the small index is at random places, which is
# four times as fast at a million profiles.
_SCHEMA: Final = """
CREATE TABLE profile (id TEXT PRIMARY KEY, value BLOB, seen INTEGER);
CREATE TABLE record (key TEXT PRIMARY KEY, at REAL);
CREATE TABLE sent (name TEXT, record TEXT, value BLOB);
CREATE INDEX sent_name ON sent (name);
CREATE INDEX sent_record ON sent (record);
"""
_PUT: Final = """
INSERT INTO profile VALUES (?, ?, ?)
ON CONFLICT (id) DO UPDATE SET value = excluded.value, seen = excluded.seen
"""
_UNSEEN: Final = """
SELECT rowid, id FROM profile WHERE rowid > ? AND seen < ? ORDER BY rowid LIMIT ?
"""
_CACHE: Final = 32 * 1024  # KiB


class ViewUnwritable(PipelineError):
    """The folder is read-only, missing or full: a human gives it room."""

    exit_code = 2


class Known(msgspec.Struct, omit_defaults=True):
    """One profile as last published, or as it was found when we began."""

    content: Content
    at: float = 0.0  # its `updated`, Unix seconds
    # Path -> when it was written by forward, so far as that has been seen in Klaviyo.
    sent: dict[str, float] = msgspec.field(default_factory=dict)
    late: dict[str, float] = msgspec.field(default_factory=dict)


class Sent(msgspec.Struct):
    """What one write made true; `at` in Unix seconds of Klaviyo's clock."""

    at: float
    content: Content
    late: bool = False  # Klaviyo accepted it and does it later


class _Told(msgspec.Struct):
    people: list[tuple[str, float, Content]]
    late: bool = False


_KNOWN: Final = msgspec.json.Decoder(Known)
_SENT: Final = msgspec.json.Decoder(Sent)
_TOLD: Final = msgspec.json.Decoder(_Told)


class View:
    """One file, from `start` to `close`. All may raise `ViewUnwritable`."""

    def __init__(self, folder: str = "") -> None:
        """`folder` is where the file is; blank is the system's for temporary files."""
        self._folder = folder
        self._db: sqlite3.Connection | None = None

    def start(self) -> None:
        """Begin with an empty one."""
        self.close()
        with (
            self._writing(),
            tempfile.TemporaryDirectory(
                prefix="klaviyo-pipeline-", dir=self._folder or None
            ) as folder,
        ):
            path = Path(folder) / "view.sqlite"
            self._db = db = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False
            )
            # A crash loses the file anyway. Without a journal there is no other file.
            db.execute("PRAGMA journal_mode = OFF")
            db.execute("PRAGMA synchronous = OFF")
            db.execute("PRAGMA temp_store = MEMORY")
            db.execute(f"PRAGMA cache_size = -{_CACHE}")
            db.executescript(_SCHEMA)

    def close(self) -> None:
        """Forget it."""
        if self._db is not None:
            self._db.close()
            self._db = None

    @property
    def _file(self) -> sqlite3.Connection:
        if self._db is None:
            raise RuntimeError("the view is not started")
        return self._db

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.OperationalError) as error:
            place = self._folder or tempfile.gettempdir()
            raise ViewUnwritable(
                f"What is known of profiles cannot be kept in {place} ({error}): give it "
                "about 1 GB for each million profiles, or name another folder in "
                "reverse.folder"
            ) from None

    # -- profiles ------------------------------------------------------------------------

    def put(self, rows: Iterable[tuple[str, bytes | None]], seen: int) -> None:
        """Set profiles, None for one that is gone; `seen` is the sweep it was seen in."""
        latest = dict(rows)
        there = [(who, value, seen) for who, value in latest.items() if value is not None]
        gone = [(who,) for who, value in latest.items() if value is None]
        db = self._file
        with self._writing():
            db.execute("BEGIN")
            db.executemany(_PUT, there)
            db.executemany("DELETE FROM profile WHERE id = ?", gone)
            db.execute("COMMIT")

    def get(self, who: str) -> Known | None:
        """Return a profile; None for one never seen, or one that is gone.

        One whose record was spoilt is known with nothing in it: it is published anew.
        """
        query = "SELECT value FROM profile WHERE id = ?"
        row = self._file.execute(query, (who,)).fetchone()
        if row is None:
            return None
        try:
            return _KNOWN.decode(row[0])
        except msgspec.MsgspecError:
            return Known({})

    def mark(self, ids: Iterable[str], sweep: int) -> None:
        """Note that the sweep has seen these."""
        db = self._file
        with self._writing():
            db.execute("BEGIN")
            db.executemany(
                "UPDATE profile SET seen = ? WHERE id = ?", ((sweep, who) for who in ids)
            )
            db.execute("COMMIT")

    def unseen(self, sweep: int, after: int, most: int) -> tuple[list[str], int]:
        """Return ids, `most` of them, that this sweep has not seen, and where to go on.

        `after` is 0 or what was returned before.
        """
        found = self._file.execute(_UNSEEN, (after, sweep, most)).fetchall()
        return [row[1] for row in found], found[-1][0] if found else after

    def missing(self, sweep: int) -> int:
        """Count those that this sweep has not seen."""
        query = "SELECT count(*) FROM profile WHERE seen < ?"
        return int(self._file.execute(query, (sweep,)).fetchone()[0])

    def count(self) -> int:
        """Count the profiles."""
        return int(self._file.execute("SELECT count(*) FROM profile").fetchone()[0])

    # -- what forward sent ---------------------------------------------------------------

    def sent(self, rows: Iterable[tuple[str, bytes | None]]) -> None:
        """Add what forward wrote, by key of the record; None forgets that record."""
        db = self._file
        with self._writing():
            db.execute("BEGIN")
            for key, value in rows:
                if value is None:
                    db.execute("DELETE FROM sent WHERE record = ?", (key,))
                    db.execute("DELETE FROM record WHERE key = ?", (key,))
                else:
                    self._told(key, value)
            db.execute("COMMIT")

    def _told(self, key: str, value: bytes) -> None:
        try:
            told = _TOLD.decode(value)
        except msgspec.MsgspecError:
            told = _Told([])  # spoilt: it comes back as changes
        latest = max((at for _, at, _ in told.people), default=0.0)
        db = self._file
        db.execute("INSERT OR REPLACE INTO record VALUES (?, ?)", (key, latest))
        db.executemany(
            "INSERT INTO sent VALUES (?, ?, ?)",
            (
                (name, key, msgspec.json.encode(Sent(at, content, told.late)))
                for name, at, content in told.people
            ),
        )

    def told_before(self, at: float, most: int) -> list[str]:
        """Return keys of records, `most` of them, that tell of nothing younger."""
        query = "SELECT key FROM record WHERE at < ? LIMIT ?"
        return [row[0] for row in self._file.execute(query, (at, most))]

    def writes(self, names: Iterable[str]) -> list[Sent]:
        """Return the writes to these names that the poller has not passed yet."""
        query = "SELECT value FROM sent WHERE name = ?"
        return [
            _SENT.decode(row[0])
            for name in names
            for row in self._file.execute(query, (name,))
        ]
