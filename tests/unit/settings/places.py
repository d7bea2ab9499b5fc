"""Files of settings, and what is said about them."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.errors import SettingsError
from pipeline.settings import load

__all__ = ["SECRET", "refused", "toml"]

SECRET = "pk_planted0000000000000000000000001"


def refused(config: Path | None, environ: Mapping[str, str]) -> str:
    with pytest.raises(SettingsError) as caught:
        load(config, environ)
    assert caught.value.exit_code == 2
    assert caught.value.__cause__ is None
    assert not isinstance(caught.value.__context__, ValidationError)  # it has the values
    return str(caught.value)


def toml(folder: Path, text: str, name: str = "mine.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path
