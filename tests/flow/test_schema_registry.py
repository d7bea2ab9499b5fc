"""Values in Confluent's wire format, with a registry that comes late, through a run."""

import io
import json
from datetime import date
from decimal import Decimal
from typing import Any

import fastavro
import pytest
from aiohttp import web

from pipeline.demo.shop import Made
from tests.flow.cli import call
from tests.flow.rig import Rig, until

CUSTOMER: dict[str, Any] = {
    "type": "record",
    "name": "Customer",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "email", "type": ["null", "string"], "default": None},
        {"name": "custom_fields", "type": "Fields"},
    ],
}
FIELDS: dict[str, Any] = {
    "type": "record",
    "name": "Fields",
    "fields": [
        {
            "name": "spent",
            "type": {
                "type": "bytes",
                "logicalType": "decimal",
                "precision": 9,
                "scale": 2,
            },
        },
        {"name": "since", "type": {"type": "int", "logicalType": "date"}},
    ],
}
MESSAGE: dict[str, Any] = {
    "type": "record",
    "name": "Message",
    "fields": [
        {"name": "type", "type": "string"},
        {"name": "customer", "type": "Customer"},
    ],
}
SCHEMAS: dict[str, dict[str, Any]] = {
    "1": {
        "schema": json.dumps(MESSAGE),
        "references": [{"name": "Customer", "subject": "customer", "version": 1}],
    },
    "2": {"schema": "{}", "schemaType": "JSON"},
    "5": {"schema": '{"type": "nothing"}'},
    "4": {"schema": 'syntax = "proto3";', "schemaType": "PROTOBUF"},
}
SUBJECTS: dict[str, dict[str, Any]] = {
    "customer": {
        "schema": json.dumps(CUSTOMER),
        "references": [{"name": "Fields", "subject": "fields", "version": 1}],
    },
    "fields": {"schema": json.dumps(FIELDS)},
}


class Registry:
    """The two calls of the registry's API that a reader makes."""

    def __init__(self) -> None:
        self.away = True
        self.asked: list[str] = []

    async def schema(self, request: web.Request) -> web.Response:
        if self.away:
            raise web.HTTPServiceUnavailable
        number = request.match_info["id"]
        self.asked.append(number)
        if number not in SCHEMAS:
            unknown = {"error_code": 40403, "message": "Schema not found"}
            return web.json_response(unknown, status=404)
        return web.json_response(SCHEMAS[number])

    async def version(self, request: web.Request) -> web.Response:
        subject = request.match_info["subject"]
        found = {"subject": subject, "version": 1, "id": 9, **SUBJECTS[subject]}
        return web.json_response(found)


def framed(number: int, data: bytes) -> bytes:
    return b"\0" + number.to_bytes(4) + data


def avro(**customer: Any) -> bytes:
    named: dict[str, Any] = {}
    for schema in (FIELDS, CUSTOMER):
        fastavro.parse_schema(schema, named_schemas=named)
    parsed = fastavro.parse_schema(MESSAGE, named_schemas=named)
    out = io.BytesIO()
    message = {"type": "customer.updated", "customer": customer}
    fastavro.schemaless_writer(out, parsed, message)
    return out.getvalue()


@pytest.mark.timeout(90)
async def test_wire_format(rig: Rig) -> None:
    registry = Registry()
    app = web.Application()
    app.router.add_get("/schemas/ids/{id}", registry.schema)
    app.router.add_get("/subjects/{subject}/versions/{version}", registry.version)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    fields = {"spent": Decimal("12.50"), "since": date(2024, 10, 4)}
    plain = {"type": "customer.updated", "customer": {"id": "C-2"}}
    values = [
        framed(1, avro(id="C-1", email="ada@shop.dev", custom_fields=fields)),
        framed(2, json.dumps(plain).encode()),
        framed(1, b"\xff\xff"),
        framed(3, b"{}"),
        framed(4, b"{}"),
        framed(5, b"{}"),
        json.dumps(plain | {"customer": {"id": "C-3"}}).encode(),
    ]
    await rig.send([Made("shop.customers", b"k", value) for value in values])
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with rig.service(schema_registry__url=url) as service:
            await until(lambda: "the Schema Registry answered 503" in service.output)
            status, _ = await service.get("/readyz")
            assert status == 200, service.output
            registry.away = False
            await rig.drained()
            letters = await rig.read_dead_letters(4)
            assert await service.terminate() == 0
        asked = sorted(registry.asked)
        # Those who look into records by themselves read them too.
        synced = await call(rig, "sync", "customer", "C-1", schema_registry__url=url)
        assert synced.out.startswith("1 records: 1 delivered"), synced
    finally:
        await runner.cleanup()
    held = rig.profile("C-1")
    assert held["email"] == "ada@shop.dev"
    assert held["properties"] == {"spent": "12.50", "since": "2024-10-04"}
    assert rig.profile("C-2")
    assert rig.profile("C-3")
    assert asked == ["1", "2", "3", "4", "5"], "each schema once"
    letters.sort(key=lambda letter: values.index(letter.value() or b""))
    assert [letter.value() for letter in letters] == values[2:6], "as they came"
    said = [dict(one.headers() or ()) for one in letters]
    assert {one["klaviyo.reason"] for one in said} == {b"malformed"}
    assert "only AVRO and JSON" in str(said[2]["__connect.errors.exception.message"])
