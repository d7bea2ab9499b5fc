"""The image: what is locked is what is tested, and it installs."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.k8s.tools import K8S, ROOT

IMAGE = K8S / "image"
LOCKS = ("build.lock", "run.lock", "extras.lock", "sandbox.lock")


def pins(file: Path) -> dict[str, tuple[str, frozenset[str]]]:
    """Package -> version with its markers, and hashes."""
    found: dict[str, tuple[str, frozenset[str]]] = {}
    for block in re.split(r"\n(?=\S)", file.read_text()):
        if head := re.match(r"([\w.-]+)==([^\\\n]+)", block):
            hashes = frozenset(re.findall(r"--hash=(\S+)", block))
            found[head[1]] = (head[2].partition(";")[0].strip(), hashes)
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_the_image_has_the_versions_that_are_tested(lock: str) -> None:
    tested, installed = pins(ROOT / "requirements.lock"), pins(IMAGE / lock)
    assert installed
    for package, pin in installed.items():
        assert pin == tested[package], f"{package}: run `make lock`"
        assert pin[1], f"{package} has no hash"


def test_what_only_tests_need_is_not_in_it() -> None:
    installed = pins(IMAGE / "run.lock").keys()
    assert not installed & {"pytest", "mypy", "confluent-kafka", "hatchling", "pip"}
    assert "confluent-kafka" in pins(IMAGE / "sandbox.lock")
    assert pins(IMAGE / "extras.lock").keys() > {"opentelemetry-sdk", "fastavro"}


def test_the_dockerfile_installs_by_the_proven_script_and_runs_as_nobody() -> None:
    lines = (K8S / "Dockerfile").read_text().splitlines()
    installs = [line for line in lines if "install" in line and line.startswith("RUN")]
    assert [line.split()[1] for line in installs if "uninstall" not in line] == [
        "k8s/image/install.sh"
    ] * 2
    assert 'ENTRYPOINT ["klaviyo-pipeline"]' in lines, "a shell would swallow SIGTERM"
    (user,) = [line.split()[1] for line in lines if line.startswith("USER")]
    assert user == "10001:10001", "runAsNonRoot needs a number"
    deployment = (K8S / "base/workload/deployment.yaml").read_text()
    assert f"runAsUser: {user.split(':')[0]}" in deployment


@pytest.mark.timeout(300)
@pytest.mark.parametrize("lock", LOCKS[1:])
def test_it_installs_into_an_empty_environment_and_starts(lock: str) -> None:
    if not os.environ.get("K8S_TESTS_REQUIRED"):
        pytest.skip("downloads packages; K8S_TESTS_REQUIRED=1 or k8s/image/prove.sh")
    done = subprocess.run(
        [IMAGE / "prove.sh", lock], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"installed from {lock} and started" in done.stdout
