"""What logs in to Klaviyo follows the mounted secret."""

import os
from pathlib import Path

import pytest

from pipeline.settings import Secrets, load

NAME = "PIPELINE_KLAVIYO__API_KEY"


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def monotonic(self) -> float:
        return self.time

    def now(self) -> float:
        raise AssertionError("the wall clock may jump")


class Mount:
    """A secret volume as Kubernetes makes it: files link through `..data`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._number = 0

    def put(self, key: str, name: str = NAME) -> None:
        self._number += 1
        version = self.folder / f"..version{self._number}"
        version.mkdir()
        (version / name).write_text(key)
        os.utime(
            version / name, ns=(0, 0)
        )  # same time, same size: only the inode differs
        link = self.folder / "..data_tmp"
        link.symlink_to(version.name)
        link.replace(self.folder / "..data")
        if not (self.folder / name).is_symlink():
            (self.folder / name).symlink_to(f"..data/{name}")


@pytest.fixture
def mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mount:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "mounted"
    folder.mkdir()
    return Mount(folder)


def watch(mount: Mount, clock: Clock, **environ: str) -> Secrets:
    return load(None, {"PIPELINE_SECRETS_DIR": str(mount.folder), **environ}).api_key(
        clock
    )


def test_a_swapped_secret_is_seen_within_a_second(mount: Mount) -> None:
    mount.put("pk_1")
    clock = Clock()
    secrets = watch(mount, clock)
    assert secrets.current() == "pk_1"
    mount.put("pk_2")
    assert secrets.current() == "pk_1"  # not looked at twice in a second
    clock.time += 1
    assert secrets.current() == "pk_2"


def test_an_unchanged_file_is_not_read_again(
    mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount.put("pk_1")
    clock = Clock()
    secrets = watch(mount, clock)
    assert secrets.current() == "pk_1"
    monkeypatch.delattr(Path, "read_text")
    clock.time += 5
    assert secrets.current() == "pk_1"


def test_a_file_that_goes_away_or_cannot_be_used_leaves_the_key_in_force(
    mount: Mount,
) -> None:
    mount.put("pk_1")
    clock = Clock()
    secrets = watch(mount, clock)
    file = mount.folder / "..data" / NAME
    for content in (b"", b"\xff\xfe", b"pk_a\npk_b\n"):
        file.write_bytes(content)
        clock.time += 1
        assert secrets.current() == "pk_1"
    file.unlink()
    clock.time += 1
    assert secrets.current() == "pk_1"
    mount.put("pk_2")
    clock.time += 1
    assert secrets.current() == "pk_2"


def test_a_key_in_the_environment_wins_and_does_not_follow_the_file(mount: Mount) -> None:
    mount.put("pk_file")
    secrets = watch(mount, Clock(), **{NAME: "pk_environment"})
    assert secrets.current() == "pk_environment"


def test_a_key_that_comes_later_is_found(mount: Mount) -> None:
    clock = Clock()
    secrets = watch(mount, clock)
    assert secrets.current() == ""
    mount.put("pk_late\n")
    clock.time += 1
    assert secrets.current() == "pk_late"


def test_a_watcher_does_not_show_the_key(mount: Mount) -> None:
    mount.put("pk_1")
    assert "pk_1" not in repr(watch(mount, Clock()))


def test_the_secret_of_the_app_follows_its_file_too_and_is_masked(mount: Mount) -> None:
    name = "PIPELINE_KLAVIYO__CLIENT_SECRET"
    mount.put("first", name)
    clock = Clock()
    settings = load(None, {"PIPELINE_SECRETS_DIR": str(mount.folder)})
    secrets = settings.client_secret(clock)
    assert secrets.current() == "first"
    mount.put("later", name)
    clock.time += 1
    assert secrets.current() == "later"
    assert {"first", "later"} <= set(settings.secret_values())


def test_all_there_ever_were_are_masked(mount: Mount) -> None:
    mount.put("pk_1")
    settings = load(None, {"PIPELINE_SECRETS_DIR": str(mount.folder)})
    clock = Clock()
    for key in ("pk_2", "pk_3"):
        mount.put(key)
        clock.time += 1
        assert settings.api_key(clock).current() == key
    assert {"pk_1", "pk_2", "pk_3"} <= set(settings.secret_values())
