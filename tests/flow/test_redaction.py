"""Planted secrets and personal data come out nowhere but in a dead letter's value."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.fernet import Fernet

from pipeline.demo.shop import Made
from tests.brokers.apache import PASSWORD, Apache
from tests.flow.cli import call
from tests.flow.commands import Command, oauth_environ
from tests.flow.rig import Rig, until
from tests.flow.test_dead_letters import headers

KEY = "pk_canary0000000000000000000000000001"
SECRET = "canary-client-secret"
# In any spelling; the phone number as it is sent and as it is repaired.
PLANTED = ("canary", "2025550177", "555-0177", PASSWORD)
PERSON = {
    "email": "canary.mail@shop.dev",
    "phone": "(202) 555-0177",
    "first_name": "Canaryfirst",
    "last_name": "Canarylast",
    "company": "Canary & Sons",
    "address": {"address1": "1 Canary Wharf", "city": "Canaryville", "country": "US"},
    "custom_fields": {"bird": "canary yellow"},
}
MAPPED = """
[mapping.birds]
from_type = "bird.seen"
to = "customer.updated"
[mapping.birds.fields]
customer.id = "bird"
customer.first_name = "abs(bird)"
"""


def customer(who: str, **more: Any) -> dict[str, Any]:
    person = {"id": f"canary-{who}", **PERSON, "email": f"canary.{who}@shop.dev"}
    return {"type": "customer.updated", "customer": {**person, "phone": None, **more}}


def order(number: int, who: str) -> dict[str, Any]:
    return {
        "type": "order.placed",
        "occurred_at": "2026-11-01T10:00:00Z",
        "order": {
            "id": f"canary-O-{number}",
            "total": "n/a canary",
            "customer": {**PERSON, "id": f"canary-{who}"},
            "billing_address": PERSON["address"],
            "lines": [{"id": "1", "name": "canary seed", "quantity": 1, "price": "1"}],
        },
    }


def records() -> Iterator[Made]:
    """Good ones, repaired ones, and one for each way of going wrong."""
    for number in range(30):
        yield made(customer(f"good-{number}"))
        yield made(order(number, f"good-{number}"))
    yield made({"type": "customer.updated", "customer": {**PERSON, "id": "canary-P"}})
    yield made(customer("degraded", phone="canary", locale="canary", image_url="canary"))
    yield made(customer("refused"))
    yield made(customer("conflict"))
    yield made(customer("schema", first_name=["canary"]))
    yield made({"type": "customer.updated", "customer": {"first_name": "canary"}})
    yield made({"type": "canary.mail@shop.dev", "customer": PERSON})
    yield made({"type": "bird.seen", "bird": "canary"})
    yield made({"type": "customer.updated", "customer": "canary"})
    yield made({"type": "order.placed", "order": {"id": "canary", "customer": PERSON}})
    yield Made("shop.customers", b"canary-key", b'{"type":"canary')
    yield Made("shop.customers", b"canary-key", b"\xffcanary")
    yield Made("shop.customers", b"canary-key", None)


def made(message: dict[str, Any]) -> Made:
    return Made("shop.customers", b"canary-key", json.dumps(message).encode())


def refusal(status: int, code: str) -> dict[str, Any]:
    quoted = f"canary.mail@shop.dev of Canaryfirst, +12025550177, {KEY}, is not welcome"
    error = {
        "id": "1",
        "status": status,
        "code": code,
        "title": "Invalid input.",
        "detail": quoted,
        "source": {"pointer": "/data/attributes"},
        "meta": {"duplicate_profile_id": "01CANARY"},
    }
    return {"kind": "status", "status": status, "body": {"errors": [error]}}


def script(rig: Rig) -> None:
    """Everything Klaviyo can answer, with customers quoted where it may quote them."""
    page = {"kind": "status", "status": 503, "text": "canary.mail@shop.dev"}
    lost = {"kind": "reset_after", "processed": True}
    rig.fault(
        {"match": {"nth": 2}, "action": page},
        {"match": {"nth": 3}, "action": {"kind": "garbage", "text": "canary"}},
        {"match": {"nth": 4}, "action": lost},
        {"match": {"contains": "canary-refused"}, "action": refusal(400, "invalid")},
        {"match": {"contains": "canary-conflict"}, "action": refusal(409, "duplicate")},
    )


def clean(where: str, text: str) -> None:
    """Nothing planted is in it."""
    lower = text.lower()
    found = [(one, lower.find(one.lower())) for one in PLANTED if one.lower() in lower]
    assert not found, [f"{where}: …{text[max(0, at - 90) : at + 90]}…" for _, at in found]


@pytest.mark.kafka
@pytest.mark.timeout(120)
async def test_customers_and_secrets_stay_inside(
    kafka: Apache, rig: Rig, tmp_path: Any
) -> None:
    if not kafka.ours:
        pytest.skip("needs a broker of ours, with a login")
    (tmp_path / "pipeline.toml").write_text(MAPPED)
    settings = {
        "config": str(tmp_path / "pipeline.toml"),
        **kafka.encrypted,
        "klaviyo__api_key": KEY,
        "profile__identity_conflict": "dead_letter",
        "topics__state": f"state-{rig.number}",
        "topics__profiles": f"profiles-{rig.number}",
        "reverse__enabled": "true",
        "reverse__interval": "0.5",
        "reverse__start": "all",
        "log__level": "debug",
        "audit__sample": "1",
    }
    script(rig)
    await rig.send(records())
    seen = {}
    async with rig.service(**settings) as service:
        await rig.drained()
        letters = await rig.read_dead_letters(9)
        for path in ("/metrics", "/livez", "/readyz", "/", "/connect", "/canary"):
            seen[path] = str(await service.get(path))
        rig.set(key="pk_another")
        await rig.customer(id="canary-late", email="canary.late@shop.dev")
        await until(lambda: "halted" in service.output, what="a halt")
        seen["/readyz halted"] = str(await service.get("/readyz"))
    rig.set(key=None)
    assert rig.profile("canary-P")["phone_number"] == "+12025550177"
    seen["log"] = service.output
    for letter in letters:
        seen[f"letter {letter.offset()}"] = str(letter.headers())
    reasons = {headers(letter)["klaviyo.reason"] for letter in letters}
    assert {"malformed", "schema", "no_identifier", "mapping_failed"} < reasons
    assert {"refused", "identity_conflict"} < reasons
    shown = f"dead-letters show 0:{letters[0].offset()}"
    commands = ("check", "status", "dead-letters list --each", shown)
    calls = (call(rig, *command.split(), **settings) for command in commands)
    for command, ended in zip(commands, await asyncio.gather(*calls), strict=True):
        seen[command] = ended.out + ended.err
        assert ended.code == 0, seen[command]
    for where, text in seen.items():
        assert text, where
        clean(where, text)


@pytest.mark.timeout(90)
async def test_the_app_its_tokens_and_their_seal_stay_inside(rig: Rig) -> None:
    seal = Fernet.generate_key().decode()
    environ = oauth_environ(
        rig.bootstrap,
        rig.sandbox.url,
        subscription__name=f"test {rig.number}",
        kafka__topics=rig.customers,
        kafka__start="earliest",
        topics__dead_letters=rig.dead_letters,
        topics__state=f"state-{rig.number}",
        reverse__enabled="false",
        secrets__key=seal,
        log__level="debug",
    )
    code, text = await Command.login(environ)
    assert code == 0, text
    wrong = environ | {"PIPELINE_KLAVIYO__CLIENT_SECRET": SECRET}
    said = [text, (await Command.run(environ, "status"))[1]]
    said.append((await Command.run(wrong, "logout"))[1])
    (install,) = rig.sandbox.oauth.installs
    tokens = [*install.access, install.refresh]
    assert all(tokens)
    for one in (seal, SECRET, *tokens):
        assert not [text for text in said if one in text]
