"""A secret as it is now: a mounted one may change while we run."""

import os
from pathlib import Path
from typing import Final

from pipeline.clock import Clock

__all__ = ["FILES", "Secrets"]

# Field of klaviyo -> its file in the folder. All other secrets need a restart.
FILES: Final = {
    "api_key": "PIPELINE_KLAVIYO__API_KEY",
    "client_secret": "PIPELINE_KLAVIYO__CLIENT_SECRET",
}
LOOK_EVERY: Final = 1.0  # s; a rotation may take that long to be seen, a stat costs 2 us

_Signature = tuple[int, int, int]  # mtime in ns, inode, size


class Secrets:
    """Re-reads one secret's file when Kubernetes has swapped it.

    `file` is None when the secret cannot come from one (no PIPELINE_SECRETS_DIR, or the
    environment holds it and wins). `value` is what the settings gave; it stays in force
    while the file is missing, unreadable or empty, because half a rotation is no reason
    to forget a secret that works.
    """

    def __init__(self, file: Path | None, value: str, clock: Clock) -> None:
        self._file = file
        self._value = value
        self.given = {value}  # all there ever were: what is late may still name them
        self._clock = clock
        self._looked = float("-inf")
        self._seen: _Signature | None = None

    def __repr__(self) -> str:
        return f"Secrets(file={self._file})"

    def current(self) -> str:
        """Give the secret to use now, looking at the file at most once a second.

        Never raises.
        """
        now = self._clock.monotonic()
        if self._file is not None and now - self._looked >= LOOK_EVERY:
            self._looked = now
            self._look(self._file)
        return self._value

    def _look(self, file: Path) -> None:
        try:
            status = os.stat(file)  # noqa: PTH116  follows the link Kubernetes swaps
            signature = (status.st_mtime_ns, status.st_ino, status.st_size)
            if signature == self._seen:
                return
            text = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return
        self._seen = signature
        if text.isascii() and text.isprintable():
            self._value = text or self._value
            self.given.add(self._value)
