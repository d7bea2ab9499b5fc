"""One JMESPath expression of a mapping: compiled once, checked at start.

The library makes a new interpreter for every search, which is most of what a plain path
costs; here all expressions share one. It keeps no state but a cache of its own methods.
"""

import difflib
import inspect
from collections.abc import Callable, Iterator
from typing import Any, Final

from jmespath import compile as compiled
from jmespath.exceptions import (
    EmptyExpressionError,
    JMESPathError,
    JMESPathTypeError,
    ParseError,
)
from jmespath.visitor import Options, TreeInterpreter

from schemas.mapping.functions import Functions

__all__ = ["Constant", "Expression", "Node", "Unusable", "nodes"]

Node = dict[str, Any]  # of JMESPath's syntax tree: type, children, often value

_VISIT: Final[Callable[[Any, Any], Any]] = TreeInterpreter(
    Options(custom_functions=Functions())
).visit


class Unusable(Exception):
    """The text is no expression that can work; says why."""


class Expression:
    """An expression as the user wrote it, ready to read documents."""

    __slots__ = ("text", "tree")

    def __init__(self, text: str) -> None:
        """Compile `text`. Raises `Unusable`."""
        self.text = text
        try:
            tree: Any = compiled(text).parsed
        except EmptyExpressionError:
            raise Unusable("is blank; write a JMESPath expression") from None
        except ParseError as error:
            raise Unusable(
                f"is no JMESPath expression, see column {error.lex_position + 1}"
            ) from None
        except JMESPathError as error:  # an unclosed quote
            raise Unusable(f"is no JMESPath expression: {error}") from None
        self.tree: Node = tree
        for node in nodes(self.tree):
            if node["type"] == "function_expression":
                _callable(node["value"], len(node["children"]))

    def __call__(self, document: Any) -> Any:  # noqa: ANN401  any JSON value
        """Return what it yields; raises whatever the functions in it raise."""
        return _VISIT(self.tree, document)

    def failed(self, error: Exception) -> str:
        """Say why it failed on a document, without the document's values."""
        if isinstance(error, JMESPathTypeError):
            expected = " or ".join(map(str, error.expected_types))
            return (
                f"{error.function_name}() takes {expected}, not the {error.actual_type}"
                " it was given"
            )
        return f"raised {type(error).__name__}"


class Constant:
    """A number, true or false that stands in place of an expression."""

    __slots__ = ("text", "tree", "value")

    def __init__(self, value: float | bool) -> None:  # noqa: FBT001  a value, no flag
        self.value = value
        self.text = str(value)
        self.tree: Node = {"type": "literal", "children": [], "value": value}

    def __call__(self, document: Any) -> Any:  # noqa: ANN401, ARG002
        """Return the constant."""
        return self.value

    def failed(self, error: Exception) -> str:
        """Say that a constant cannot fail."""
        return f"raised {type(error).__name__}"


def nodes(tree: Node) -> Iterator[Node]:
    """Return each node of a syntax tree."""
    yield tree
    for child in tree.get("children", ()):
        if isinstance(child, dict):  # a slice has numbers
            yield from nodes(child)


def _callable(name: str, given: int) -> None:
    """Check a call before it is made: JMESPath itself looks only when it comes to it."""
    known = Functions.FUNCTION_TABLE
    if name == "to_string":
        raise Unusable("to_string() makes the text null of a missing field; use text()")
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]}()?" if close else ""
        raise Unusable(f"there is no function {name}(){hint}")
    parameters = list(inspect.signature(known[name]["function"]).parameters.values())[1:]
    if any(one.kind is one.VAR_POSITIONAL for one in parameters):
        most, least = given, 1
    else:
        most = len(parameters)
        least = sum(one.default is one.empty for one in parameters)
    if not least <= given <= most:
        wanted = str(least) if least == most else f"{least} to {most}"
        raise Unusable(f"{name}() takes {wanted} arguments, not {given}")
