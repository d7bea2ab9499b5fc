"""Logs: one line per incident, json off a terminal, nothing in them that is private.

Ours come from structlog, those of libraries from `logging`; both leave through one
handler, so that both are masked. Libraries are heard from WARNING on.
"""

import logging
from collections.abc import Callable, Iterable
from typing import Final, TextIO

import structlog

from pipeline.clock import SYSTEM, Clock
from pipeline.observe.mask import Mask
from pipeline.settings import Log

__all__ = ["configure"]

_OURS: Final = "pipeline"
QUIET: Final = 60.0  # s between two lines of one text from a library
_REMEMBERED: Final = 256  # texts; bounded, as some libraries format before they log


def configure(
    settings: Log,
    stream: TextIO,
    *,
    secrets: Callable[[], Iterable[str]] = tuple,
    clock: Clock = SYSTEM,
) -> None:
    """Send every log line to `stream`; calling it again replaces what was before.

    `secrets` gives the secrets in force, which may change while we run.
    """
    readable = settings.format == "readable" or (
        settings.format == "auto" and stream.isatty()
    )
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        _name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        # Text before it is masked, and never with the locals of each frame.
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=_logger,
    )
    render: structlog.typing.Processor = structlog.processors.JSONRenderer()
    if readable:
        render = structlog.dev.ConsoleRenderer(
            colors=stream.isatty(),
            exception_formatter=structlog.dev.plain_traceback,
        )
    handler = _Handler(stream)
    handler.addFilter(_Calm(clock))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _Masked(Mask(secrets)),
                render,
            ],
        )
    )
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    root = logging.getLogger()
    for before in [each for each in root.handlers if isinstance(each, _Handler)]:
        root.removeHandler(before)
    root.addHandler(handler)
    root.setLevel(max(level, logging.WARNING))
    logging.getLogger(_OURS).setLevel(level)
    # Else a line that cannot be written is printed with its arguments, not masked.
    logging.raiseExceptions = False


class _Handler(logging.StreamHandler[TextIO]):
    """Ours, to be found again among others."""


class _Calm(logging.Filter):
    """Lets a library say one thing once a minute: clients repeat theirs per attempt."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._said: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.split(".", 1)[0] == _OURS:
            return True
        what, now = (record.name, str(record.msg)), self._clock.monotonic()
        if now - self._said.get(what, float("-inf")) < QUIET:
            return False
        if len(self._said) >= _REMEMBERED:
            self._said.clear()
        self._said[what] = now
        return True


class _Masked:
    """The mask as a step of structlog; time, level and logger are ours and stay."""

    def __init__(self, mask: Mask) -> None:
        self._mask = mask

    def __call__(
        self, logger: object, method: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        del logger, method
        masked: structlog.typing.EventDict = {}
        masked.update(self._mask.fields(event))
        return masked


def _logger(*names: str) -> logging.Logger:
    return logging.getLogger(".".join((_OURS, *names)))


def _name(
    logger: object, method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Add the part that speaks: `health`, or a library's own name."""
    record = event.get("_record")
    source = logger if record is None else record
    name = str(getattr(source, "name", ""))
    event["logger"] = name.removeprefix(f"{_OURS}.")
    del method
    return event
