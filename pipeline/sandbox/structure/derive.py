"""Derive the sandbox's structure facts from Klaviyo's official OpenAPI documents.

Run `python -m pipeline.sandbox.structure.derive FOLDER`, where FOLDER holds one
official document per revision, named `<revision>.json`. Each becomes a compact file of
the same name beside this module:

    {"revision": "2026-07-15", "operations": [{
        "name": operationId, "method": "POST", "path": "/api/events",   (no trailing
        slash) "burst": requests per second, "steady": requests per minute, "daily": or
        absent, "extra": {"<parameter>=<value>": [burst, steady]},   a second, shared
        bucket "success": [202], "scopes": ["events:write"], "filter": {"<field>":
        ["<operator>"]}, "sort": ["updated"], "page": [default, maximum] or absent,
        "body": JSON Schema or absent}]}

Only facts are kept: names, types, required fields, numbers. No prose crosses over.
Three changes make the documents say what Klaviyo does:

- an object with declared fields refuses others ("'x' is not a valid field for the
  resource"), so it gets additionalProperties false; an object that declares none stays
  free (`properties`, `append`, `unappend`);
- `nullable` of OpenAPI 3.0, also beside a $ref, becomes a union with null;
- a oneOf between plain types becomes a type union, so that a validator's error points at
  the field and not at the alternative.
"""

import re
import sys
from pathlib import Path
from typing import Any, TypeAlias

import orjson

__all__ = ["derive", "main"]

Json: TypeAlias = dict[str, Any]

_VERBS = ("get", "post", "patch", "put", "delete")
_KEPT = ("type", "enum", "format", "required")  # keywords that carry structure, not prose
_LIMIT = re.compile(r"(Burst|Steady|Daily): `(\d+)/[smd]`")
_EXTRA = re.compile(
    r"when using the `([^`]+)` parameter in your API request:(.*?)(?:\n|$|<br><br>)"
)
_FILTER = re.compile(r"`([a-z_.]+)`: ((?:`[a-z-]+`(?:, )?)+)")
_SCOPES = re.compile(r"\*\*Scopes:\*\*\n((?:`[a-z-]+:[a-z]+`\n?)+)")
_FIRST_SUCCESS, _FIRST_REDIRECT = 200, 300


def _types(schema: Json) -> list[str] | None:
    """Return the plain types of a derived schema, None when it is more than that."""
    if set(schema) - {"type", "items"} or "type" not in schema:
        return None
    found = schema["type"]
    return list(found) if isinstance(found, list) else [found]


def _collapse(options: list[Json]) -> Json:
    """Turn oneOf between plain types into one schema with a type union."""
    union: list[str] = []
    merged: Json = {}
    for option in options:
        types = _types(option)
        if types is None:
            return {"oneOf": options}
        union += [name for name in types if name not in union]
        merged |= {key: value for key, value in option.items() if key != "type"}
    return {"type": union, **merged}


def _nullable(schema: Json) -> Json:
    """Let null through as well."""
    if "type" in schema:
        found = schema["type"]
        union = list(found) if isinstance(found, list) else [found]
        schema = {**schema, "type": [*union, "null"]}
        if "enum" in schema:
            schema["enum"] = [*schema["enum"], None]
        return schema
    return {"anyOf": [schema, {"type": "null"}]}


def _schema(node: Json, definitions: Json) -> Json:
    """Derive one schema: references inlined, prose dropped, strict, nulls as types."""
    if "$ref" in node:
        target = _schema(definitions[node["$ref"].rpartition("/")[2]], definitions)
        return _nullable(target) if node.get("nullable") else target
    kept: Json = {key: node[key] for key in _KEPT if key in node}
    if "oneOf" in node:
        kept = _collapse([_schema(option, definitions) for option in node["oneOf"]])
    if "properties" in node:
        kept["type"] = "object"
        kept["properties"] = {
            name: _schema(child, definitions)
            for name, child in node["properties"].items()
        }
        kept["additionalProperties"] = False
    if "items" in node:
        kept["items"] = _schema(node["items"], definitions)
    return _nullable(kept) if node.get("nullable") else kept


def _windows(text: str) -> dict[str, int]:
    return {name.lower(): int(count) for name, count in _LIMIT.findall(text)}


def _query(parameters: list[Json]) -> Json:
    """Filter operators per field, sort keys and page size of a listing."""
    found: Json = {}
    for parameter in parameters:
        name, text, schema = (
            parameter["name"],
            parameter.get("description", ""),
            parameter["schema"],
        )
        if name == "filter":
            found["filter"] = {
                field: re.findall(r"`([a-z-]+)`", operators)
                for field, operators in _FILTER.findall(text)
            }
        elif name == "sort":
            found["sort"] = [key for key in schema["enum"] if not key.startswith("-")]
        elif name == "page[size]":
            found["page"] = [schema["default"], schema["maximum"]]
    return found


def _operation(method: str, path: str, source: Json, definitions: Json) -> Json:
    text = source.get("description", "")
    limits = _windows(text.partition("when using the")[0])
    scopes = _SCOPES.search(text)
    derived: Json = {
        "name": source["operationId"],
        "method": method.upper(),
        "path": path.rstrip("/"),
        **limits,
        "success": [
            int(status)
            for status in source["responses"]
            if status.isdigit() and _FIRST_SUCCESS <= int(status) < _FIRST_REDIRECT
        ],
        "scopes": re.findall(r"`([a-z-]+:[a-z]+)`", scopes.group(1)) if scopes else [],
        **_query(source.get("parameters", [])),
    }
    extra = {
        parameter: [windows["burst"], windows["steady"]]
        for parameter, rest in _EXTRA.findall(
            text.replace("<br>Burst", " Burst").replace("<br>Steady", " Steady")
        )
        if (windows := _windows(rest))
    }
    if extra:
        derived["extra"] = extra
    if "requestBody" in source:
        media = next(iter(source["requestBody"]["content"].values()))
        derived["body"] = _schema(media["schema"], definitions)
    return derived


def derive(document: Json) -> Json:
    """Reduce one official OpenAPI document to the form in the module's docstring."""
    definitions = document["components"]["schemas"]
    return {
        "revision": document["info"]["version"],
        "operations": [
            _operation(method, path, source, definitions)
            for path, item in document["paths"].items()
            for method, source in item.items()
            if method in _VERBS
        ],
    }


def main(folder: Path, target: Path) -> None:
    """Derive every document of `folder` into `target`."""
    for source in sorted(folder.glob("*.json")):
        derived = derive(orjson.loads(source.read_bytes()))
        (target / source.name).write_bytes(orjson.dumps(derived) + b"\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parent)
