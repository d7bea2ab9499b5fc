"""How commands print tables and errors: coloured on a terminal, else plain lines."""

import os
import sys
from collections.abc import Sequence
from typing import Final

from pipeline.errors import PipelineError

__all__ = ["complain", "quiet_end", "table"]

_GAP: Final = "  "
_WIDE: Final = 60  # letters; a sentence longer than that is not worth aligning to


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
    else:
        print(f"error: {text}", file=sys.stderr)


def quiet_end(code: object) -> int:
    """Flush what was printed; a reader that went away (`| head`) is no error of ours."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Else Python complains once more when it flushes at its own end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code if isinstance(code, int) else int(code is not None)
