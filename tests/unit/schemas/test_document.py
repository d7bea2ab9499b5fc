"""The documents agree with real messages and with the official validators."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from schemas.document import OUT, asyncapi, json_schema
from schemas.profile_content import changed, content
from schemas.profile_update import message
from schemas.registry import EVENT_TYPES

PARSER = """
const { Parser } = require('@asyncapi/parser');
new Parser().parse(require('fs').readFileSync(0, 'utf8')).then(({ diagnostics }) => {
  const errors = diagnostics.filter(each => each.severity === 0);
  console.log(JSON.stringify(errors.map(each => [each.message, each.path])));
});
"""


def document() -> dict[str, Any]:
    out = {name: f"klaviyo.{name}" for name in OUT}
    return asyncapi("1.2.3", ["shop.customers", "shop/orders"], out)


@pytest.mark.parametrize("tag", EVENT_TYPES)
def test_every_example_fits_the_json_schema(tag: str) -> None:
    validator = jsonschema_rs.validator_for(json_schema())
    for example in EVENT_TYPES[tag].examples:
        message = json.loads(example)
        assert validator.is_valid(message)
        assert not validator.is_valid({**message, "type": "no.such.type"})
        assert not validator.is_valid({**message, "occurred_at": 5})


def test_what_comes_back_fits_the_json_schema() -> None:
    whole = json_schema()
    validator = jsonschema_rs.validator_for(
        {"$ref": "#/$defs/ProfileChanged", "$defs": whole["$defs"]}
    )
    at = "2026-01-01T00:00:00+00:00"
    suppressed = {"reason": "HARD_BOUNCE", "timestamp": at}
    marketing = {
        "consent": "UNSUBSCRIBED",
        "can_receive_email_marketing": False,
        "consent_timestamp": at,
        "suppression": [suppressed],
        "list_suppressions": [{**suppressed, "list_id": "L1"}],
    }
    attributes = {
        "email": "ada@shop.dev",
        "location": {"city": "NY"},
        "properties": {"tier": ["gold", 1]},
        "subscriptions": {"email": {"marketing": marketing}},
    }
    found = content(attributes)
    bare = content({})
    made = message("created", "01J", found, occurred_at=at, observed_at=1e9)
    updated = message(
        "updated",
        "01J",
        bare,
        occurred_at=at,
        observed_at=1e9,
        paths=changed(found, bare),
        before=found,
    )
    gone = message("deleted", "01J", found, occurred_at="", observed_at=1e9)
    for text in (made, updated, gone):
        assert list(validator.iter_errors(json.loads(text))) == []
    assert not validator.is_valid({**json.loads(made), "profile": {}})


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    whole = document()
    references: list[str] = []

    def walk(part: Any) -> None:
        if isinstance(part, dict):
            references.extend(v for k, v in part.items() if k == "$ref")
            for value in part.values():
                walk(value)
        elif isinstance(part, list):
            for value in part:
                walk(value)

    walk(whole)
    assert references
    for reference in references:
        place: Any = whole
        for step in reference.removeprefix("#/").split("/"):
            place = place[step.replace("~1", "/").replace("~0", "~")]


@pytest.fixture(scope="session")
def parser() -> Path:
    """Where node finds @asyncapi/parser; fetched once, as Kafka's jars are."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        assert not os.environ.get("ASYNCAPI_TESTS_REQUIRED"), "node and npm are required"
        pytest.skip("the official AsyncAPI parser needs node and npm")
    root = Path(__file__).parents[3]
    wanted, folder = root / "tests" / "asyncapi", root / ".cache" / "asyncapi"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes may start at once
        whole, part = folder / _versions(wanted), folder / "part"
        if not whole.exists():  # it gets its name when all is there
            shutil.rmtree(part, ignore_errors=True)
            shutil.copytree(wanted, part)
            install = [npm, "ci", "--silent", "--ignore-scripts"]
            subprocess.run(install, cwd=part, check=True)
            part.rename(whole)
    return whole


def _versions(wanted: Path) -> str:
    lock = (wanted / "package-lock.json").read_bytes()
    return hashlib.sha256(lock).hexdigest()[:12]


@pytest.mark.timeout(120)
def test_the_official_parser_takes_the_asyncapi_document(parser: Path) -> None:
    def errors(given: dict[str, Any]) -> Any:
        parsed = subprocess.run(
            ["node", "-e", PARSER],  # noqa: S607  found by the fixture
            input=json.dumps(given),
            capture_output=True,
            text=True,
            cwd=parser,
            check=True,
        )
        return json.loads(parsed.stdout)

    assert errors(document()) == []
    assert errors({**document(), "operations": {"x": {"action": "dance"}}})
