"""Log lines: form, level, one pipe for all, and nothing private in any field."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any, cast

import pytest
import structlog

from pipeline.observe.log import configure
from pipeline.settings import Log

PLANTED = (
    "pk_planted00000001",
    "ada@shop.dev",
    "+12025550123",
    "eyToken.planted",
    "s3cr3t!",
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def monotonic(self) -> float:
        return self.time

    def now(self) -> float:
        return self.time


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raising
    logging.getLogger("pipeline").setLevel(logging.NOTSET)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [
        cast("dict[str, Any]", json.loads(line))
        for line in stream.getvalue().splitlines()
    ]


def test_off_a_terminal_a_line_is_one_json_object() -> None:
    stream = io.StringIO()
    configure(Log(), stream)
    structlog.get_logger("health").info("halted", reason="unauthorized", count=3)
    (line,) = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "halted",
        "level": "info",
        "logger": "health",
        "reason": "unauthorized",
        "count": 3,
    }


def test_on_a_terminal_it_is_readable() -> None:
    stream = Terminal()
    configure(Log(), stream)
    structlog.get_logger("health").info("halted", reason="unauthorized")
    text = stream.getvalue()
    assert "halted" in text
    assert not text.startswith("{")


@pytest.mark.parametrize(
    ("form", "stream", "json_expected"),
    [("json", Terminal(), True), ("readable", io.StringIO(), False)],
)
def test_the_setting_decides_over_the_terminal(
    form: str, stream: io.StringIO, *, json_expected: bool
) -> None:
    configure(Log.model_validate({"format": form}), stream)
    structlog.get_logger().warning("x")
    assert stream.getvalue().startswith("{") is json_expected
    assert "\x1b" not in stream.getvalue()


def test_the_level_filters_ours_and_libraries_speak_from_warning_on() -> None:
    stream = io.StringIO()
    configure(Log(level="info"), stream)
    structlog.get_logger("flow").debug("ours debug")
    structlog.get_logger("flow").info("ours info")
    logging.getLogger("aiokafka.client").info("theirs info")
    logging.getLogger("aiokafka.client").warning("theirs %s", "warning")
    assert [(line["logger"], line["event"]) for line in lines(stream)] == [
        ("flow", "ours info"),
        ("aiokafka.client", "theirs warning"),
    ]
    configure(Log(level="error"), stream)
    structlog.get_logger("flow").warning("no")
    logging.getLogger("aiohttp").warning("no")
    assert len(lines(stream)) == 2


def test_configured_twice_a_line_is_written_once() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure(Log(), first)
    configure(Log(), second)
    structlog.get_logger().info("x")
    assert not first.getvalue()
    assert len(lines(second)) == 1


def test_a_library_says_one_thing_once_a_minute() -> None:
    stream, clock = io.StringIO(), Clock()
    configure(Log(), stream, clock=clock)
    for attempt in range(5):
        logging.getLogger("aiokafka").error("no broker, attempt %d", attempt)
    logging.getLogger("aiokafka").error("another thing")
    clock.time = 60.0
    logging.getLogger("aiokafka").error("no broker, attempt %d", 9)
    for number in range(3):
        structlog.get_logger("ours").warning("each", number=number)
    events = [line["event"] for line in lines(stream)]
    assert events[:3] == ["no broker, attempt 0", "another thing", "no broker, attempt 9"]
    assert events[3:] == ["each"] * 3


def _fail(text: str) -> None:
    raise RuntimeError(text)


@pytest.mark.parametrize("form", ["json", "readable"])
@pytest.mark.filterwarnings("error")
def test_nothing_planted_in_any_field_comes_out(form: str) -> None:
    stream = io.StringIO()
    configure(
        Log.model_validate({"format": form, "level": "debug"}),
        stream,
        secrets=lambda: [PLANTED[-1]],
    )
    ours, theirs = structlog.get_logger("flow"), logging.getLogger("aiohttp")
    for planted in PLANTED:
        text = f"Bearer {planted}" if planted.startswith("ey") else planted
        ours.info(f"said {text}")
        ours.info("x", field=text, nested={"a": [text], text: 1}, error=ValueError(text))
        ours.bind(bound=text).warning("formatted %s", text)
        theirs.error("said %s", text)
        theirs.error(f"said {text}")
        with structlog.contextvars.bound_contextvars(context=text):
            ours.debug("x")
        try:
            _fail(text)
        except RuntimeError:
            ours.exception("failed")
            theirs.exception("failed")
    out = stream.getvalue()
    assert "RuntimeError" in out
    for planted in PLANTED:
        assert planted not in out


def test_a_stream_that_breaks_is_no_way_around_the_mask(
    capsys: pytest.CaptureFixture[str],
) -> None:
    stream = io.StringIO()
    configure(Log(), stream)
    stream.close()
    structlog.get_logger().error(PLANTED[0])
    logging.getLogger("aiohttp").error("%s", PLANTED[0])
    assert capsys.readouterr().err == ""
