"""What kustomize renders is accepted, safe, and fits the program."""

import os
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from cryptography.fernet import Fernet

from pipeline.app import STOPPED
from pipeline.observe.http import STOP_WITHIN
from pipeline.settings import describe, load
from tests.k8s.tools import K8S, ROOT, manifests, only, run, tool

VERSIONS = ("1.29", "1.31", "1.33", "1.35", "1.37")  # sidecars came with 1.29
SLACK = 5  # s from the last bound of ours to the end of the process
# Kinds of others; what Prometheus makes of its own is seen by test_alerts.
OTHERS = {
    "ExternalSecret": "external-secrets.io/v1",
    "PodMonitor": "monitoring.coreos.com/v1",
    "PrometheusRule": "monitoring.coreos.com/v1",
    "ScaledObject": "keda.sh/v1alpha1",
}
# What `run` takes.
ARGUMENTS: tuple[list[str], ...] = ([], ["--only", "forward"], ["--only", "reverse"])
COMPONENTS = ("keda", "external-secrets", "kafka-authority")
RENDERED = ("sandbox", "production", "everything")


@pytest.fixture(scope="module", params=RENDERED)
def rendered(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """Each overlay; `everything` is production with all its optional components."""
    match request.param:
        case "everything":
            folder = tmp_path_factory.mktemp("overlay").resolve()
            here = Path(os.path.relpath(K8S, folder))
            kustomization = {
                "resources": [str(here / "overlays/production")],
                "components": [str(here / "components" / each) for each in COMPONENTS],
            }
            (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        case overlay:
            folder = K8S / "overlays" / overlay
    return run("kustomize", "build", folder)


@pytest.fixture
def documents(rendered: str) -> list[dict[str, Any]]:
    return manifests(rendered)


@pytest.fixture
def deployments(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return only("Deployment", documents)


def pipeline_of(deployment: dict[str, Any]) -> dict[str, Any]:
    pod = deployment["spec"]["template"]["spec"]
    (container,) = [each for each in pod["containers"] if each["name"] == "pipeline"]
    return dict(container)


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_accepts_it(documents: list[dict[str, Any]], version: str) -> None:
    for document in documents:
        if document["kind"] in OTHERS:
            assert document["apiVersion"] == OTHERS[document["kind"]]
        else:
            kubernetes_validate.validate(document, version, strict=True)


def test_a_wrong_field_is_refused(documents: list[dict[str, Any]]) -> None:
    """The validator sees what it is there for."""
    for document in documents:
        if document["kind"] not in OTHERS:
            with pytest.raises(kubernetes_validate.ValidationError):
                kubernetes_validate.validate(
                    document | {"spek": {}}, VERSIONS[-1], strict=True
                )


@pytest.mark.timeout(120)
def test_policies(rendered: str, tmp_path: Path) -> None:
    (tmp_path / "rendered.yaml").write_text(rendered)
    run(
        "checkov", "--config-file", K8S / "checkov.yaml",
        "--framework", "kubernetes", "--directory", tmp_path,
    )  # fmt: skip


@pytest.mark.timeout(120)
def test_policies_of_the_image() -> None:
    run(
        "checkov", "--config-file", K8S / "checkov.yaml",
        "--framework", "dockerfile", "--file", K8S / "Dockerfile",
    )  # fmt: skip


@pytest.mark.timeout(120)
def test_the_policies_see_a_root_user(rendered: str, tmp_path: Path) -> None:
    worse = rendered.replace("runAsNonRoot: true", "runAsNonRoot: false")
    (tmp_path / "rendered.yaml").write_text(worse.replace("runAsUser: 10001", ""))
    with pytest.raises(AssertionError, match="CKV_K8S_"):
        test_policies((tmp_path / "rendered.yaml").read_text(), tmp_path)


def test_the_grace_period_is_longer_than_a_stop(
    deployments: list[dict[str, Any]],
) -> None:
    for deployment in deployments:
        pod = deployment["spec"]["template"]["spec"]
        before = pipeline_of(deployment).get("lifecycle", {}).get("preStop")
        assert before is None, "a preStop counts: add it to the sum below"
        needed = STOPPED + STOP_WITHIN + SLACK
        assert pod["terminationGracePeriodSeconds"] >= needed


def test_no_more_replicas_than_partitions(
    documents: list[dict[str, Any]], deployments: list[dict[str, Any]]
) -> None:
    most = {
        each["spec"]["scaleTargetRef"]["name"]: each["spec"]["maxReplicaCount"]
        for each in documents
        if each["kind"] == "ScaledObject"
    }
    names = {each["metadata"]["name"] for each in deployments}
    assert most.keys() <= names, "it would scale what there is not"
    for deployment in deployments:
        name, spec = deployment["metadata"]["name"], deployment["spec"]
        partitions = deployment["metadata"]["annotations"]["klaviyo-pipeline/partitions"]
        # KEDA and a fixed number would undo each other.
        assert ("replicas" in spec) == (name not in most)
        assert 1 <= most.get(name, spec.get("replicas")) <= int(partitions)


def test_the_settings_are_those_of_the_program(
    documents: list[dict[str, Any]], deployments: list[dict[str, Any]], tmp_path: Path
) -> None:
    """The program itself reads what the pod would be given."""
    secret = {each.variable for each in describe() if each.secret}
    given = secrets_of(documents)
    assert given <= secret, "a secret that is none belongs into settings.env"
    for name in given or secrets_of(
        manifests((K8S / "components/external-secrets/externalsecret.yaml").read_text())
    ):
        (tmp_path / name).write_text("pk_test")
    maps = {
        each["metadata"]["name"]: each["data"] for each in only("ConfigMap", documents)
    }
    for deployment in deployments:
        container = pipeline_of(deployment)
        environment = {each["name"]: each["value"] for each in container["env"]}
        for source in container["envFrom"]:
            environment |= maps[source["configMapRef"]["name"]]
        assert not secret & environment.keys(), "a secret in a ConfigMap"
        mounted = environment.pop("PIPELINE_SECRETS_DIR")
        mounts = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
        volumes = deployment["spec"]["template"]["spec"]["volumes"]
        (volume,) = [each for each in volumes if each["name"] == mounts[mounted]]
        names = {
            each["metadata"]["name"] for each in documents if each["kind"] == "Secret"
        } or {"klaviyo-pipeline"}
        assert volume["secret"]["secretName"] in names

        settings = load(None, environment | {"PIPELINE_SECRETS_DIR": str(tmp_path)})
        settings.require_credential()
        if file := settings.kafka.ssl_cafile:
            assert mounts[str(Path(file).parent)] == "kafka-authority"
        (port,) = container["ports"]
        assert port["containerPort"] == settings.http.port


def secrets_of(documents: list[dict[str, Any]]) -> set[str]:
    """Names of the files that the mounted Secret has, where the manifests say it."""
    names: set[str] = set()
    for each in documents:
        if each["kind"] == "Secret":
            names |= {*each.get("data", {}), *each.get("stringData", {})}
        if each["kind"] == "ExternalSecret":
            names |= {item["secretKey"] for item in each["spec"]["data"]}
    return names


def test_oauth_needs_no_more_than_comments_taken_away(tmp_path: Path) -> None:
    """In the secrets and the settings, and the key put aside."""
    text = (K8S / "components/external-secrets/externalsecret.yaml").read_text()
    text = re.sub(r"(?m)^    # (?=- |  )", "    ", text)
    names = secrets_of(manifests(text)) - {"PIPELINE_KLAVIYO__API_KEY"}
    for name in names:
        value = Fernet.generate_key().decode() if "SECRETS" in name else "x"
        (tmp_path / name).write_text(value)
    lines = (K8S / "overlays/production/settings.env").read_text().splitlines()
    found = [line.removeprefix("# ").partition("=") for line in lines]
    environment = {name: value for name, _, value in found if name.startswith("PIPELINE")}
    settings = load(None, environment | {"PIPELINE_SECRETS_DIR": str(tmp_path)})
    settings.require_oauth()


def test_no_name_of_a_setting_is_misspelt() -> None:
    """In any file, also in comments and in what no overlay renders."""
    known = {each.variable for each in describe()}
    known |= {"PIPELINE_SECRETS_DIR", "PIPELINE_CONFIG"}
    files = [K8S.rglob("*.yaml"), K8S.rglob("*.env"), [ROOT / "README.md"]]
    for file in (each for found in files for each in found):
        named = set(
            re.findall(r"\bPIPELINE_[A-Z]+(?:__[A-Z_]+|_[A-Z]+)", file.read_text())
        )
        assert named <= known, file


def test_probes_and_scraping_ask_the_port_there_is(
    documents: list[dict[str, Any]], deployments: list[dict[str, Any]]
) -> None:
    """What the paths answer is asked of a running service, in test_running."""
    ports: set[str] = set()
    for deployment in deployments:
        container = pipeline_of(deployment)
        ports = {each["name"] for each in container["ports"]}
        paths = {}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert container[probe]["httpGet"]["port"] in ports
            paths[probe] = container[probe]["httpGet"]["path"]
        # Ready waits for a human at a halt; to be restarted for it would help nobody.
        assert paths["startupProbe"] == paths["livenessProbe"] == "/livez"
        assert paths["readinessProbe"] == "/readyz"
    for monitor in (each for each in documents if each["kind"] == "PodMonitor"):
        for endpoint in monitor["spec"]["podMetricsEndpoints"]:
            assert endpoint["port"] in ports


def test_every_selector_finds_its_pods(
    documents: list[dict[str, Any]], deployments: list[dict[str, Any]]
) -> None:
    pods = [each["spec"]["template"]["metadata"]["labels"] for each in deployments]
    for document in documents:
        spec = document.get("spec", {})
        selector = spec.get("selector") or spec.get("podSelector")
        if document["kind"] in {"PodDisruptionBudget", "Deployment"}:
            found = [p for p in pods if selector["matchLabels"].items() <= p.items()]
            assert len(found) == 1, "a budget or a Deployment is for one workload"
        elif document["kind"] in {"NetworkPolicy", "PodMonitor"}:
            assert all(selector["matchLabels"].items() <= pod.items() for pod in pods)


def test_every_workload_has_a_budget_that_lets_nodes_drain(
    documents: list[dict[str, Any]], deployments: list[dict[str, Any]]
) -> None:
    budgets = only("PodDisruptionBudget", documents)
    assert len(budgets) == len(deployments)
    for budget in budgets:
        assert "minAvailable" not in budget["spec"]
        assert budget["spec"]["maxUnavailable"] >= 1
        assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_pods_are_restricted(deployments: list[dict[str, Any]]) -> None:
    """Pod Security Standard `restricted`, and a root file system nobody writes to."""
    for deployment in deployments:
        pod = deployment["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"] + pod.get("initContainers", []):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            resources = container["resources"]
            assert resources["limits"] == {"memory": resources["requests"]["memory"]}


def test_the_commands_are_those_of_the_program(
    deployments: list[dict[str, Any]],
) -> None:
    for deployment in deployments:
        command, *rest = pipeline_of(deployment)["args"]
        assert command == "run"
        assert rest in ARGUMENTS


def test_production_scales_each_direction_alone() -> None:
    documents = manifests(run("kustomize", "build", K8S / "overlays/production"))
    args = [pipeline_of(each)["args"] for each in only("Deployment", documents)]
    assert sorted(args) == [["run", "--only", "forward"], ["run", "--only", "reverse"]]


def test_the_topics_are_those_of_the_settings() -> None:
    defaults = {each.name: each.default for each in describe()}
    documents = manifests(run("kustomize", "build", K8S / "components/strimzi-topics"))
    topics = {each["metadata"]["name"]: each["spec"] for each in documents}
    # klaviyo.profiles and klaviyo.state are the contract's; their settings come later.
    assert topics.keys() == {
        defaults["topics.dead_letters"],
        defaults.get("topics.profiles", "klaviyo.profiles"),
        defaults.get("topics.state", "klaviyo.state"),
    }
    assert topics["klaviyo.dead-letters"]["config"]["retention.ms"] == -1
    assert topics["klaviyo.state"]["config"]["cleanup.policy"] == "compact"


def test_the_tools_are_there_where_they_must_be() -> None:
    for name in ("kustomize", "promtool", "prometheus", "checkov"):
        tool(name)
