"""The structure facts: what was derived, and how strictly a body is read."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from pipeline.sandbox import Sandbox
from pipeline.sandbox.structure.derive import derive
from pipeline.sandbox.structure.load import REVISIONS, operations, validator

Ask = Callable[..., Awaitable[tuple[int, Any, Mapping[str, str]]]]

DOCUMENT: dict[str, Any] = {
    "info": {"version": "2030-01-15"},
    "components": {
        "schemas": {
            "Place": {
                "type": "object",
                "description": "Prose",
                "properties": {
                    "title": {
                        "type": "string",
                        "description": "Prose",
                        "example": "Prose",
                    },
                    "latitude": {
                        "nullable": True,
                        "oneOf": [{"type": "string"}, {"type": "number"}],
                    },
                },
            }
        }
    },
    "paths": {
        "/api/things/": {
            "post": {
                "operationId": "create_thing",
                "description": "Prose.<br><br>*Rate limits*:<br>Burst: `3/s`<br>"
                "Steady: `60/m`<br>Daily: `150/d`<br><br>Rate limits when using the "
                "`include=lists` parameter in your API request:<br>Burst: `1/s`<br>"
                "Steady: `15/m`\n\n**Scopes:**\n`things:write`\n`lists:read`",
                "parameters": [
                    {
                        "name": "filter",
                        "description": "Allowed:<br>`id`: `any`, `equals`<br>",
                        "schema": {"type": "string"},
                    }
                ],
                "requestBody": {
                    "content": {
                        "application/json": {
                            "schema": {
                                "type": "object",
                                "required": ["place"],
                                "properties": {
                                    "place": {
                                        "$ref": "#/components/schemas/Place",
                                        "nullable": True,
                                    },
                                    "free": {"type": "object"},
                                },
                            }
                        }
                    }
                },
                "responses": {"201": {}, "4XX": {}},
            }
        }
    },
}


def test_derivation_keeps_facts_and_drops_prose() -> None:
    (operation,) = derive(DOCUMENT)["operations"]
    assert operation == {
        "name": "create_thing",
        "method": "POST",
        "path": "/api/things",
        "burst": 3,
        "steady": 60,
        "daily": 150,
        "extra": {"include=lists": [1, 15]},
        "success": [201],
        "scopes": ["things:write", "lists:read"],
        "filter": {"id": ["any", "equals"]},
        "body": {
            "type": "object",
            "required": ["place"],
            "properties": {
                "place": {
                    "type": ["object", "null"],
                    "properties": {
                        "title": {"type": "string"},
                        "latitude": {"type": ["string", "number", "null"]},
                    },
                    "additionalProperties": False,
                },
                "free": {"type": "object"},
            },
            "additionalProperties": False,
        },
    }


def test_every_revision_has_its_limits_and_bodies() -> None:
    assert len(REVISIONS) == 14
    for revision in REVISIONS:
        for operation in operations(revision).values():
            assert 0 < operation.burst < operation.steady
            assert operation.success
            if operation.method in ("POST", "PATCH"):
                assert validator(revision, operation.key) is not None


def meta_places(revision: str) -> dict[str, bool]:
    """Where an event of that revision may carry meta.patch_properties."""
    check = validator(revision, "POST /api/events")
    assert check is not None
    meta = {"patch_properties": {"unset": "x"}}

    def fits(person: dict[str, Any]) -> bool:
        return check.is_valid(
            {
                "data": {
                    "type": "event",
                    "attributes": {
                        "properties": {},
                        "metric": {
                            "data": {"type": "metric", "attributes": {"name": "m"}}
                        },
                        "profile": {"data": {"type": "profile", **person}},
                    },
                }
            }
        )

    return {
        "data.meta": fits({"attributes": {}, "meta": meta}),
        "attributes.meta": fits({"attributes": {"meta": meta}}),
    }


def test_meta_stands_where_the_revision_has_it() -> None:
    assert meta_places("2023-10-15") == {"data.meta": True, "attributes.meta": False}
    assert meta_places("2024-02-15") == {"data.meta": False, "attributes.meta": True}


@pytest.mark.parametrize(
    ("attributes", "pointer"),
    [
        ({"email": "a@b.co", "nickname": "x"}, "/data/attributes/nickname"),
        ({"email": 7}, "/data/attributes/email"),
        (
            {"email": "a@b.co", "location": {"town": "x"}},
            "/data/attributes/location/town",
        ),
        ({"email": "a@b.co", "anonymous_id": "x"}, "/data/attributes/anonymous_id"),
        ({"email": "a@b.co", "properties": []}, "/data/attributes/properties"),
    ],
)
async def test_an_unknown_or_wrong_field_is_named(
    ask: Ask, attributes: dict[str, Any], pointer: str
) -> None:
    body = {"data": {"type": "profile", "attributes": attributes}}
    status, answer, _ = await ask("POST", "/api/profile-import", body)
    assert status == 400
    assert [e["source"]["pointer"] for e in answer["errors"]] == [pointer]
    assert answer["errors"][0]["code"] == "invalid"


async def test_all_faults_come_at_once(ask: Ask) -> None:
    body = {"data": {"attributes": {"a": 1, "b": 2}}}
    _, answer, _ = await ask("POST", "/api/profile-import", body)
    pointers = {e["source"]["pointer"] for e in answer["errors"]}
    assert pointers == {"/data/type", "/data/attributes/a", "/data/attributes/b"}


async def test_what_a_revision_dropped_or_lacks_is_refused_there(ask: Ask) -> None:
    body = {"data": {"type": "profile", "attributes": {"external_id": "1"}}}
    body["data"]["attributes"]["anonymous_id"] = "a"  # type: ignore[index]
    assert (await ask("POST", "/api/profile-import", body, revision="2025-01-15"))[
        0
    ] == 201
    assert (await ask("POST", "/api/profile-import", body, revision="2026-07-15"))[
        0
    ] == 400


async def test_a_body_must_be_json_of_a_known_type_and_size(
    ask: Ask, sandbox: Sandbox
) -> None:
    path = "/api/profile-import"
    status, answer, _ = await ask("POST", path, b"{")
    assert (status, answer["errors"][0]["code"]) == (400, "parse_error")
    assert (await ask("POST", path))[0] == 400
    assert (await ask("POST", path, b"{}", headers={"Content-Type": "text/plain"}))[
        0
    ] == 415
    plain = {"Content-Type": "application/json; charset=utf-8"}
    assert (await ask("POST", path, b"{}", headers=plain))[0] == 400
    assert (await ask("POST", path, b" " * (sandbox.settings.max_body + 1)))[0] == 413
