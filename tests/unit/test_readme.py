"""The README's tables are those of the code."""

import re

import pytest

from pipeline.cli.readme import README, TABLES, metrics, rewritten, settings
from pipeline.demo.foreign import MAPPINGS
from pipeline.errors import PipelineError
from pipeline.observe.metrics import Metrics
from pipeline.settings import describe
from schemas.mapping.functions import Functions


@pytest.mark.parametrize("name", TABLES)
def test_the_readme_holds_the_generated_table(name: str) -> None:
    text = README.read_text(encoding="utf-8")
    block = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", text, re.DOTALL)
    assert block, f"README.md lacks the lines <!-- {name} --> and <!-- /{name} -->"
    assert block[1] == TABLES[name](), "README.md is out of date: run `make docs`"


def test_every_setting_and_every_metric_has_its_row() -> None:
    assert [row.split("`")[1] for row in settings().splitlines()[2:]] == [
        setting.name for setting in describe()
    ]
    registry = Metrics().registry
    exposed = {
        metric.name + ("_total" if metric.type == "counter" else "")
        for metric in registry.collect()
    }
    assert {row.split("`")[1] for row in metrics().splitlines()[2:]} == exposed


def test_only_what_is_between_the_markers_is_rewritten_and_twice_is_once() -> None:
    text = (
        "a\n<!-- settings -->\n| of before |\n<!-- /settings -->\nb\n"
        "<!-- metrics -->\n<!-- /metrics -->\nc"
    )
    once = rewritten(text)
    assert once.startswith("a\n<!-- settings -->\n| setting |")
    assert "of before" not in once
    assert "<!-- /settings -->\nb\n<!-- metrics -->\n| metric |" in once
    assert once.endswith("<!-- /metrics -->\nc")
    assert rewritten(once) == once


@pytest.mark.parametrize("text", ["", "<!-- settings -->\n", "<!-- /settings -->"])
def test_missing_markers_are_said(text: str) -> None:
    with pytest.raises(PipelineError, match="no place for the settings"):
        rewritten(text)


def test_its_mappings_are_those_of_the_demo() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    assert "\n".join(b for b in blocks if b.startswith("[mapping.")) == MAPPINGS


def test_the_readme_names_every_function_of_ours() -> None:
    ours = {name.removeprefix("_func_") for name in vars(Functions) if "_func_" in name}
    section = README.read_text(encoding="utf-8").partition("## Your own messages")[2]
    assert ours == {
        name
        for name in re.findall(r"`(\w+)\(", section.partition("\n## ")[0])
        if name in ours
    }
