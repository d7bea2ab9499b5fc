"""Mappings in the configuration file: what is wrong is said with its line."""

from pathlib import Path

import pytest

from pipeline.demo.foreign import MAPPINGS
from pipeline.errors import SettingsError
from pipeline.settings import load
from pipeline.settings.lines import line_of

BROKEN = """\
[klaviyo]
api_revision = "2026-07-15"

[mapping."web orders"]  # a comment
from_topic = "web.orders"
to = "order.placed"

[mapping."web orders".fields]
order.id = "text(id)"
order.customer . id = "customr.id"
order.totl = "total"
order.lines = '''
  lines[*].{
    sku: sku,
    titel: title
  }'''
order.tax = "mony(tax)"
"""


def test_the_readmes_mappings_load(tmp_path: Path) -> None:
    file = tmp_path / "pipeline.toml"
    file.write_text(MAPPINGS, "utf-8")
    settings = load(file, {})
    assert len(settings.mapping) == 5
    assert settings.mapping.topics == (
        "web.orders",
        "plugin.orders",
        "crm.public.customers",
    )
    assert len(load(None, {}).mapping) == 0


def test_every_fault_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "pipeline.toml"
    file.write_text(BROKEN + '[mapping.empty]\nto = "order.placed"\n[topicz]\n', "utf-8")
    with pytest.raises(SettingsError) as raised:
        load(file, {})
    said = str(raised.value)
    place = f"from {file}, line"
    assert f"mapping.web orders.fields.order.totl, {place} 11: " in said
    assert f"mapping.web orders.fields.order.lines, {place} 12: " in said
    assert f"mapping.web orders.fields.order.tax, {place} 17: " in said
    assert f"mapping.empty, {place} 18: takes no message" in said
    assert f"mapping.empty.fields, {place} 18: is needed" in said
    assert "topicz" in said
    assert "customr" not in said, "what a message holds is not known here"


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (("klaviyo", "api_revision"), 2),
        (("mapping", "web orders"), 4),
        (("mapping", "web orders", "to"), 6),
        (("mapping", "web orders", "when"), 4),
        (("mapping", "web orders", "fields", "order", "customer", "id"), 10),
        (("nothing",), 1),
    ],
)
def test_lines_of_keys(keys: tuple[str, ...], line: int) -> None:
    assert line_of(BROKEN, keys) == line


def test_a_mapping_in_the_environment_is_refused() -> None:
    with pytest.raises(SettingsError, match="stand in the configuration file only"):
        load(None, {"PIPELINE_MAPPING__ORDERS": "x"})


def test_a_mapping_that_is_no_table_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "pipeline.toml"
    file.write_text("mapping = 5\n", "utf-8")
    with pytest.raises(SettingsError, match="mapping"):
        load(file, {})
