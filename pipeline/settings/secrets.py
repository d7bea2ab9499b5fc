"""The Klaviyo key of this moment: a mounted secret may change while we run."""

import os
from pathlib import Path
from typing import Final

from pipeline.clock import Clock

__all__ = ["KEY_FILE", "Secrets"]

KEY_FILE: Final = "PIPELINE_KLAVIYO__API_KEY"
LOOK_EVERY: Final = 1.0  # s; a rotation may take that long to be seen, a stat costs 2 us

_Signature = tuple[int, int, int]  # mtime in ns, inode, size


class Secrets:
    """Re-reads the key file when Kubernetes has swapped it.

    `folder` is PIPELINE_SECRETS_DIR, or None when the key cannot come from there (no
    such folder, or the environment holds the key and wins). `key` is what the settings
    gave; it stays in force while the file is missing, unreadable or empty, because half
    a rotation is no reason to forget a key that works.
    """

    def __init__(self, folder: Path | None, key: str, clock: Clock) -> None:
        self._file = folder / KEY_FILE if folder else None
        self._key = key
        self._clock = clock
        self._looked = float("-inf")
        self._seen: _Signature | None = None

    def __repr__(self) -> str:
        return f"Secrets(file={self._file})"

    def current_api_key(self) -> str:
        """Give the key to use now, looking at the file at most once a second.

        Never raises.
        """
        now = self._clock.monotonic()
        if self._file is not None and now - self._looked >= LOOK_EVERY:
            self._looked = now
            self._look(self._file)
        return self._key

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
            self._key = text or self._key
