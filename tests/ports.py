"""Ports for programs under test: below those that the system gives to whoever asks."""

import itertools
import os
import socket
from typing import Final

__all__ = ["free_port"]

_EACH: Final = 1000  # ports of one worker
_FIRST: Final = 20_000 + _EACH * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
_NUMBERS: Final = itertools.count(os.getpid())  # two runs at once begin apart


def free_port() -> int:
    """Return a port that nobody listens on, and nobody else is given for a while."""
    for number in _NUMBERS:
        port = _FIRST + number % _EACH
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError
