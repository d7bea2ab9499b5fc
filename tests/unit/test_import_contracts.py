"""Each import contract bites: one wrong import makes `lint-imports` fail and name it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BREAKS = {
    "imports go one way": (
        "pipeline/kafka/connection.py",
        "import pipeline.forward.flow",
    ),
    "every file has its place": ("pipeline/drawer.py", ""),
    "the sandbox is a second witness": (
        "pipeline/sandbox/ids.py",
        "import pipeline.records",
    ),
    "schemas are pure": ("schemas/money.py", "import asyncio"),
    "event types do not know each other": (
        "schemas/events/order_placed.py",
        "import schemas.events.order_refunded",
    ),
    "only kafka/ talks to Kafka": ("pipeline/forward/source.py", "import aiokafka"),
    "only klaviyo/, observe/http": ("pipeline/forward/deliver.py", "import aiohttp"),
    "stages do not import stages": (
        "pipeline/forward/batch.py",
        "import pipeline.forward.checkpoint",
    ),
    "state machines do no I/O": ("pipeline/forward/checkpoint.py", "import socket"),
}


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    tool = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [tool, "--no-cache"], cwd=root, capture_output=True, text=True, check=False
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for folder in ("pipeline", "schemas"):
        ignored = shutil.ignore_patterns("__pycache__", "*.json")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.timeout(60)
def test_the_tree_as_it_is_keeps_them(tree: Path) -> None:
    done = lint(tree)
    assert done.returncode == 0, done.stdout


@pytest.mark.timeout(60)
@pytest.mark.parametrize("contract", BREAKS)
def test_one_wrong_import_breaks_its_contract(tree: Path, contract: str) -> None:
    file, line = BREAKS[contract]
    path = tree / file
    before = path.read_text() if path.exists() else '"""A drawer."""\n'
    path.write_text(before + line + "\n")
    done = lint(tree)
    assert done.returncode != 0
    broken = [row for row in done.stdout.splitlines() if "BROKEN" in row]
    assert any(contract in row for row in broken)
