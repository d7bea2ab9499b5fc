"""On which line of a TOML file a key stands; the parser itself does not say."""

import re
import tomllib
from collections.abc import Iterator
from typing import Final

__all__ = ["line_of"]

_HEADER: Final = re.compile(r"\s*\[([^\[\]]+)\]\s*(?:#.*)?$")
_KEY: Final = re.compile(r"""\s*((?:"[^"]*"|'[^']*'|[\w-]+|\s*\.\s*)+)\s*=""")

Keys = tuple[str, ...]


def line_of(text: str, path: Keys) -> int:
    """Return the line, from 1, of the key at `path`, or of what is nearest above it."""
    best, line = 0, 1
    for number, keys in _keys(text):
        # A longer key, or the shortest that leads to it: whatever agrees for longer.
        shared = min(len(keys), len(path))
        if keys[:shared] == path[:shared] and shared > best:
            best, line = shared, number
    return line


def _keys(text: str) -> Iterator[tuple[int, Keys]]:
    table: Keys = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            table = _parsed(header[1])
            yield number, table
        elif key := _KEY.match(line):
            yield number, (*table, *_parsed(key[1]))


def _parsed(key: str) -> Keys:
    """Take a dotted key apart as the parser does; nothing for what is no key."""
    try:
        inner = tomllib.loads(f"{key} = 0")
    except tomllib.TOMLDecodeError:
        return ()
    keys: list[str] = []
    here: object = inner
    while isinstance(here, dict):
        ((name, here),) = here.items()
        keys.append(name)
    return tuple(keys)
