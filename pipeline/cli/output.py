"""How commands print tables and errors: coloured on a terminal, else plain lines.

And what is done where there is nothing to print to, or no room for it.
"""

import errno
import os
import sys
from collections.abc import Sequence
from typing import Final, TextIO

from pipeline.errors import PipelineError

__all__ = ["Unprinted", "complain", "quiet_end", "streams", "table", "unprinted"]

_GAP: Final = "  "
_WIDE: Final = 60  # letters; a sentence longer than that is not worth aligning to
# What a write says when the disk or the device behind a redirection takes no more.
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


class Unprinted(PipelineError):
    """What a command printed went nowhere."""


def streams() -> None:
    """Put /dev/null where the caller has closed a standard stream.

    Else the first connection would take its number, and be printed into.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
    sys.stdout = sys.stdout or _null(1)
    sys.stderr = sys.stderr or _null(2)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under headings, elsewhere than on a terminal as aligned columns."""
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Column, Table
        from rich.text import Text

        # A name that is cut off is of no use to whoever has to type it.
        drawn = Table(*(Column(each, overflow="fold") for each in headings))
        for row in rows:
            drawn.add_row(*(Text(cell) for cell in row))
        Console().print(drawn)
        return
    widths = [
        max(len(cell) for cell in column if len(cell) <= _WIDE)
        for column in zip(headings, *rows, strict=True)
    ]
    for row in (headings, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(_GAP.join(cells).rstrip())


def complain(error: PipelineError) -> None:
    """Print an error: what is wrong, where, what to do. Never a traceback or a secret."""
    from pipeline.observe.mask import Mask

    text = Mask().text(str(error))
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.text import Text

        Console(stderr=True).print(Text.assemble(("error: ", "bold red"), text))
        return
    try:
        print(f"error: {text}", file=sys.stderr)
    except OSError:  # no room for that either: the exit code says it
        _drop(sys.stderr)


def quiet_end(code: object) -> int:
    """Flush what was printed; a reader that went away (`| head`) is no error of ours.

    Raises `OSError` when it cannot be written.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _drop(sys.stdout)
    return code if isinstance(code, int) else int(code is not None)


def unprinted(error: OSError) -> Unprinted | None:
    """Give the error of an output without room; None if this is something else."""
    if error.errno not in _FULL or error.filename is not None:
        return None
    _drop(sys.stdout)
    return Unprinted(
        f"The output cannot be written ({error.strerror}): part of it is missing. Make "
        "room where it is redirected to, or send it elsewhere."
    )


def _drop(stream: TextIO) -> None:
    """Throw away what is not flushed: Python would complain of it at its own end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _null(number: int) -> TextIO:
    return open(number, "w", encoding="utf-8", closefd=False)
