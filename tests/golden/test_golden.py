"""The examples of every event type become exactly what the golden files say."""

import pytest

from schemas.envelope import decode
from schemas.registry import EVENT_TYPES
from tests.golden.write import FOLDER, files


@pytest.mark.parametrize("tag", EVENT_TYPES)
def test_examples_become_what_is_written(tag: str) -> None:
    """A difference is a change in users' accounts: `python -m tests.golden.write`."""
    for path, content in files(EVENT_TYPES[tag]).items():
        assert path.read_bytes() == content, path.name


@pytest.mark.parametrize("tag", EVENT_TYPES)
def test_every_type_has_examples_of_its_own(tag: str) -> None:
    kind = EVENT_TYPES[tag]
    assert kind.examples
    assert kind.when
    for example in kind.examples:
        assert isinstance(decode(example, ()), kind.event)


def test_no_file_is_left_of_an_example_that_is_gone() -> None:
    wanted = {path for kind in EVENT_TYPES.values() for path in files(kind)}
    assert set(FOLDER.glob("*.json")) == wanted
