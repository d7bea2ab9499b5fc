"""Rewrites the generated tables of README.md: `python -m pipeline.cli.readme`.

A table stands between two markers, `<!-- settings -->` and `<!-- /settings -->`, and the
same for `metrics`. What is between them comes from the declarations in the code, so it
cannot be wrong for long; a test compares.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from pipeline.errors import PipelineError
from pipeline.observe.metrics import Metrics
from pipeline.settings import describe

__all__ = ["README", "TABLES", "metrics", "rewritten", "settings"]

README: Final = Path(__file__).parents[2] / "README.md"


def settings() -> str:
    """List the settings with default and meaning."""
    return _markdown(
        ("setting", "default", "meaning"),
        (
            (
                f"`{one.name}`",
                one.default if one.default == "blank" else f"`{one.default}`",
                one.meaning + (" A secret." if one.secret else ""),
            )
            for one in describe()
        ),
    )


def metrics() -> str:
    """List the metrics with labels and meaning."""
    return _markdown(
        ("metric", "labels", "meaning"),
        (
            (
                f"`{_exposed(metric)}`",
                ", ".join(metric._labelnames),  # noqa: SLF001  no public way to ask
                metric._documentation,  # noqa: SLF001
            )
            for metric in vars(Metrics()).values()
            if isinstance(metric, Counter | Gauge | Histogram)
        ),
    )


TABLES: Final[dict[str, Callable[[], str]]] = {"settings": settings, "metrics": metrics}


def rewritten(text: str) -> str:
    """Return the README with all tables renewed.

    Raises `PipelineError` when the markers of a table are missing.
    """
    for name, table in TABLES.items():
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, found, rest = text.partition(start)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise PipelineError(
                f"README.md has no place for the {name}: write a line {start.strip()} "
                f"and under it a line {end} where the table belongs."
            )
        text = f"{before}{start}{table()}{end}{after}"
    return text


def _exposed(metric: Counter | Gauge | Histogram) -> str:
    name: str = metric._name  # noqa: SLF001
    return f"{name}_total" if isinstance(metric, Counter) else name


def _markdown(headings: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [headings, tuple("---" for _ in headings)]
    lines += [tuple(cell.replace("|", "\\|") for cell in row) for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    README.write_text(rewritten(README.read_text(encoding="utf-8")), encoding="utf-8")
