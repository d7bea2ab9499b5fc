"""What is known stands on disk, and nothing of it stays there."""

from pathlib import Path

import pytest

from pipeline.reverse.view import View, ViewUnwritable


def test_nothing_of_it_has_a_name_on_the_disk(tmp_path: Path) -> None:
    view = View(str(tmp_path))
    view.start()
    view.put([(f"P{n}", b'{"content":{}}' + b" " * 1000) for n in range(100_000)], 0)
    assert list(tmp_path.iterdir()) == []
    assert view.count() == 100_000
    view.close()


def test_a_folder_that_cannot_be_used_names_its_setting(tmp_path: Path) -> None:
    with pytest.raises(ViewUnwritable, match=r"reverse\.folder"):
        View(str(tmp_path / "missing")).start()


def test_the_unseen_are_given_piece_by_piece() -> None:
    view = View()
    view.start()
    view.put([(f"P{n}", b"{}") for n in range(10)], 0)
    view.mark(["P1", "P4"], 7)
    found, place = [], 0
    while True:
        ids, place = view.unseen(7, place, 3)
        if not ids:
            break
        found += ids
    assert found == ["P0", "P2", "P3", "P5", "P6", "P7", "P8", "P9"]
    assert view.missing(7) == 8
    view.close()
