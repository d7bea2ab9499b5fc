"""A newcomer adds one file, and everything else finds it."""

import sys
from pathlib import Path

import msgspec
import pytest

from pipeline.settings import Settings
from schemas import events, registry
from schemas.event import Context, Plan, Rejected, Skipped
from schemas.registry import EVENT_TYPES, METRICS

NEWCOMER = '''"""A cart was left behind; sent by the shop."""

from schemas.event import Context, Event, Plan

EXAMPLES = (b'{"type":"cart.abandoned"}',)


class CartAbandoned(Event, tag="cart.abandoned"):
    def commands(self, context: Context, timestamp_ms: int) -> Plan:
        return Plan([])
'''


def discovered(
    newcomer: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, registry.EventType]:
    """The event types with one file more."""
    (folder / "zz_newcomer.py").write_text(newcomer)
    monkeypatch.setattr(events, "__path__", [*events.__path__, str(folder)])
    try:
        return registry._discovered()
    finally:
        sys.modules.pop("schemas.events.zz_newcomer", None)


def test_the_types_of_the_contract() -> None:
    assert set(EVENT_TYPES) == {
        "customer.created",
        "customer.updated",
        "customer.deleted",
        "order.placed",
        "order.fulfilled",
        "order.cancelled",
        "order.refunded",
    }


def test_one_file_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = discovered(NEWCOMER, tmp_path, monkeypatch)
    assert found.keys() == {*EVENT_TYPES, "cart.abandoned"}
    newcomer = found["cart.abandoned"]
    assert newcomer.when == "A cart was left behind; sent by the shop."
    event = newcomer.decoder.decode(newcomer.examples[0])
    assert event.commands(Context(), 0) == Plan([])


@pytest.mark.parametrize("told", ['tag_field="kind"', "array_like=True"])
def test_one_that_is_told_otherwise_does_not_keep_the_others_from_being_read(
    told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newcomer = NEWCOMER.replace('"cart.abandoned")', f'"cart.abandoned", {told})')
    found = discovered(newcomer, tmp_path, monkeypatch)
    placed = EVENT_TYPES["order.placed"]
    event = registry._reader(found).decode(placed.examples[0])
    assert type(event) is placed.event


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("cart.abandoned", "order.placed"), "the tag order.placed is taken"),
        (("EXAMPLES", "SAMPLES"), "needs EXAMPLES, a tuple of messages as bytes"),
        (("}',)", "}')"), "needs EXAMPLES"),
        (('(Event, tag="cart.abandoned")', ""), "needs one subclass of Event"),
        ((', tag="cart.abandoned"', ""), r"type: class CartAbandoned\(Event, tag="),
        ((', tag="cart.abandoned"', ", tag=7"), "type: class CartAbandoned"),
        (("def commands", "def orders"), r"needs CartAbandoned.commands\(\)"),
    ],
)
def test_a_file_that_is_no_event_type_is_refused(
    change: tuple[str, str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(TypeError, match=complaint):
        discovered(NEWCOMER.replace(*change), tmp_path, monkeypatch)


@pytest.mark.parametrize("setting", ["order_placed", "abandoned cart"])
def test_a_metric_needs_a_setting_of_its_own(
    setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metric = f"from schemas.event import Metric\nMETRIC = Metric({setting!r}, 'X', 'x')\n"
    docstring, _, rest = NEWCOMER.partition("\n")
    found = discovered(f"{docstring}\n{metric}{rest}", tmp_path, monkeypatch)
    with pytest.raises(TypeError, match=f"events.{setting}"):
        registry._metrics(found)


def test_every_metric_has_a_setting() -> None:
    declared = {one.setting for kind in EVENT_TYPES.values() for one in kind.metrics}
    assert declared == set(METRICS) == set(Settings().events.model_dump())


@pytest.mark.parametrize("tag", sorted(EVENT_TYPES))
def test_every_type_has_a_json_schema(tag: str) -> None:
    """The messages are documented from the very structs that read them."""
    assert msgspec.json.schema(EVENT_TYPES[tag].event)


@pytest.mark.parametrize("tag", sorted(EVENT_TYPES))
def test_no_example_loses_anything(tag: str) -> None:
    kind = EVENT_TYPES[tag]
    for example in kind.examples:
        context = Context(default_country="US")
        outcome = kind.decoder.decode(example).commands(context, 1_793_527_200_000)
        match outcome:
            case Plan(degraded=degraded):
                assert degraded == ()
            case Skipped(reason=reason):
                assert reason == "deletes_ignored"
            case Rejected():
                pytest.fail(outcome.message)
