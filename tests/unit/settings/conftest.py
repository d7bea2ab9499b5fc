"""Where settings come from, empty."""

from pathlib import Path

import pytest


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def secrets(here: Path) -> Path:
    folder = here / "secrets"
    folder.mkdir()
    return folder
