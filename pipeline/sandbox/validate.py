"""Check a body against the structure of its operation.

Klaviyo refuses a whole request for one wrong field and names each with a JSON pointer,
for a batch with the row's index: /data/attributes/profiles/data/3/attributes/email.
"""

from typing import Any

import jsonschema_rs
import orjson

from pipeline.sandbox.structure.load import Operation, validator
from pipeline.sandbox.wire import Problem, Refused

__all__ = ["check", "loads"]


def loads(raw: bytes) -> tuple[Any, str | None]:
    """Return the JSON value of a body, or None and why it has none."""
    try:
        return orjson.loads(raw), None
    except orjson.JSONDecodeError as error:
        return None, str(error)


def check(operation: Operation, revision: str, body: Any, fault: str | None) -> None:  # noqa: ANN401 - any JSON
    """Raise the 400 of a body that does not fit `operation`, one problem per fault.

    `body` and `fault` come from `loads`; an operation without a body takes anything.
    """
    structure = validator(revision, operation.key)
    if structure is None:
        return
    if fault is not None:
        problem = Problem(f"JSON parse error - {fault}", "/data", code="parse_error")
        raise Refused(400, [problem])
    if not structure.is_valid(body):
        errors = structure.iter_errors(body)
        raise Refused(400, [found for error in errors for found in _problems(error)])


def _pointer(parts: list[str | int]) -> str:
    return "".join(
        f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in parts
    )


def _problems(error: jsonschema_rs.ValidationError) -> list[Problem]:
    """Put a schema fault into Klaviyo's words; the pointer names the field itself."""
    place = list(error.instance_path)
    match error.kind:
        case jsonschema_rs.ValidationErrorKind.AdditionalProperties(unexpected=names):
            owner = _resource(place)
            return [
                Problem(
                    f"'{name}' is not a valid field for the resource '{owner}'.",
                    _pointer([*place, name]),
                )
                for name in names
            ]
        case jsonschema_rs.ValidationErrorKind.Required(property=name):
            detail = (
                f"'{name}' is a required field for the resource '{_resource(place)}'."
            )
            return [Problem(detail, _pointer([*place, name]))]
        case _:
            return [Problem(error.message, _pointer(place) or "/data")]


def _resource(place: list[str | int]) -> str:
    """Name the resource that owns a place: the nearest name that is not a wrapper."""
    for part in reversed(place):
        if isinstance(part, str) and part not in ("data", "attributes"):
            return part.removesuffix("s") if part in ("profiles", "events") else part
    return "data"
