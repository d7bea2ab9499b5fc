"""The Schema Registry's extra, and values in its format without it."""

import sys

import pytest

from pipeline.clock import SYSTEM
from pipeline.errors import SettingsError
from pipeline.forward.plan import Planner
from pipeline.kafka.schema_registry import SchemaRegistry
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from pipeline.records import Dead, Record
from pipeline.settings import SchemaRegistry as Settings
from schemas.event import Context


@pytest.mark.parametrize("missing", ["confluent_kafka.schema_registry", "fastavro"])
def test_without_the_extra_the_cure_is_named(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    health = Health(Metrics(), SYSTEM)
    with pytest.raises(SettingsError, match=r"'klaviyo-pipeline\[registry\]'"):
        SchemaRegistry(Settings(url="http://127.0.0.1:1"), health)


def test_without_a_registry_the_setting_is_named() -> None:
    record = Record("t", 0, 0, 0, None, b"\0\0\0\0\1{}")
    planned = Planner(Context()).plan(record)
    assert isinstance(planned, Dead)
    assert planned.reason == "malformed"
    assert "set schema_registry.url" in planned.message
