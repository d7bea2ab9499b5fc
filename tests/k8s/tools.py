"""Programs that are no Python packages: found on PATH or where `go install` puts them."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

__all__ = ["K8S", "ROOT", "manifests", "only", "rules_files", "run", "tool"]

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"


def tool(name: str) -> str:
    """Its path; without it the test is skipped, or in CI fails."""
    go = Path(os.environ.get("GOPATH") or Path.home() / "go") / "bin"
    found = shutil.which(name) or shutil.which(name, path=str(go))
    if found is None:
        if os.environ.get("K8S_TESTS_REQUIRED"):
            pytest.fail(f"{name} is required here, but it is neither on PATH nor in {go}")
        pytest.skip(f"{name} is not installed")
    return found


def run(name: str, *arguments: str | Path, cwd: Path = ROOT) -> str:
    """Its output; fails the test with both its outputs when it fails."""
    done = subprocess.run(
        [tool(name), *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def manifests(text: str) -> list[dict[str, Any]]:
    """The documents of a YAML stream."""
    return [each for each in yaml.safe_load_all(text) if each]


def only(kind: str, documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of that kind; at least one."""
    found = [each for each in documents if each["kind"] == kind]
    assert found, f"no {kind}"
    return found


def rules_files(folder: Path) -> list[Path]:
    """Write the rules of the PrometheusRules as files that Prometheus reads."""
    written = []
    for name in ("slo.yaml", "alerts.yaml"):
        resource = yaml.safe_load((K8S / "components/monitoring" / name).read_text())
        written.append(folder / name)
        written[-1].write_text(yaml.safe_dump(resource["spec"]))
    return written
