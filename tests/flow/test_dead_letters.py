"""One bad record costs one record, and its dead letter says why and where."""

import json
from typing import Any

import pytest

from pipeline.demo.shop import Made
from tests.flow.rig import Rig

BAD: dict[str, tuple[bytes, str, str]] = {
    "not json": (b"{nope", "malformed", ""),
    "invalid utf-8": (
        b'{"type":"customer.updated","customer":{"id":"\xff"}}',
        "malformed",
        "",
    ),
    "nan": (b'{"type":"order.placed","order":{"id":"O","total":NaN}}', "malformed", ""),
    "deep": (b'{"type":"customer.updated","x":' + b"[" * 200_000, "malformed", ""),
    "a list": (b"[1]", "malformed", ""),
    "wrong type": (
        b'{"type":"customer.updated","customer":{"id":"C","email":5}}',
        "schema",
        "$.customer.email",
    ),
    "nobody": (
        b'{"type":"customer.updated","customer":{"first_name":"X"}}',
        "no_identifier",
        "",
    ),
}


def good(number: int) -> Made:
    value = {"type": "customer.updated", "customer": {"id": f"good-{number}"}}
    return Made("shop.customers", b"%d" % number, json.dumps(value).encode())


def headers(message: Any) -> dict[str, str]:
    return {name: value.decode() for name, value in message.headers()}


@pytest.mark.timeout(60)
async def test_each_bad_record_costs_itself_only(rig: Rig) -> None:
    records = [good(0)]
    for number, (name, (value, _, _)) in enumerate(BAD.items(), 1):
        records += [Made("shop.customers", name.encode(), value), good(number)]
    await rig.send(records)
    async with rig.service() as service:
        await rig.drained()
        letters = await rig.read_dead_letters(len(BAD))
        assert await service.terminate() == 0
    by_key = {(letter.key() or b"").decode(): letter for letter in letters}
    assert set(by_key) == set(BAD)
    assert len(letters) == len(BAD)
    for name, (value, reason, path) in BAD.items():
        letter, found = by_key[name], headers(by_key[name])
        assert letter.value() == value
        assert found["klaviyo.reason"] == reason
        assert path in found["klaviyo.pointer"]
        assert found["__connect.errors.topic"] == rig.customers
        assert found["__connect.errors.stage"] in {"decode", "plan"}
        assert found["klaviyo.subscription"] == f"test {rig.number}"
        assert int(found["__connect.errors.offset"]) >= 0
        assert int(found["__connect.errors.partition"]) >= 0
        assert found["__connect.errors.exception.class.name"]
        assert found["__connect.errors.exception.message"]
    assert all(rig.profile(f"good-{n}") for n in range(len(BAD) + 1))


@pytest.mark.timeout(60)
async def test_what_klaviyo_refuses_comes_with_its_pointer(rig: Rig) -> None:
    error = {
        "errors": [
            {
                "id": "1",
                "status": 400,
                "code": "invalid",
                "title": "Invalid input.",
                "detail": "secret@shop.dev is not welcome",
                "source": {"pointer": "/data/attributes/email"},
            }
        ]
    }
    rig.fault(
        {
            "match": {"path": "profile-import", "contains": "bad-one"},
            "action": {"kind": "status", "status": 400, "body": error},
        }
    )
    await rig.customer(id="good-1", email="good-1@shop.dev")
    await rig.customer(email="bad-one@shop.dev", first_name="X")
    await rig.customer(id="good-2", email="good-2@shop.dev")
    async with rig.service():
        await rig.drained()
        (letter,) = await rig.read_dead_letters(1)
    found = headers(letter)
    assert found["klaviyo.reason"] == "refused"
    assert found["klaviyo.status"] == "400"
    assert found["klaviyo.code"] == "invalid"
    assert found["klaviyo.pointer"] == "/data/attributes/email"
    assert found["__connect.errors.stage"] == "deliver"
    assert int(found["klaviyo.attempts"]) == 1
    # Klaviyo's detail may quote the customer; it must not leave the account this way.
    assert "secret" not in "".join(found.values())
    assert rig.profile("good-1")
    assert rig.profile("good-2")


@pytest.mark.timeout(60)
async def test_a_flood_halts_instead_of_dead_lettering_the_world(rig: Rig) -> None:
    await rig.send(Made("shop.customers", b"k", b"garbage") for _ in range(300))
    async with rig.service(deliver__malformed_limit="20") as service:
        letters = await rig.read_dead_letters(19)
        assert len(letters) == 19
        assert await service.metric("halted", {"reason": "malformed_flood"}) == 1
        status, text = await service.get("/readyz")
        assert status == 503
        assert "deliver.malformed_limit" in text
        assert await service.terminate() == 0
    assert await rig.lag() >= 300 - 19
