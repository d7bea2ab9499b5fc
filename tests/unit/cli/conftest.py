"""Commands set up the log of the whole process; each test gives it back as it was."""

import logging
from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raising
    logging.disable(logging.NOTSET)
    logging.getLogger("pipeline").setLevel(logging.NOTSET)
    structlog.reset_defaults()
