"""JSON as it was sent (numbers exact, nothing ambiguous) and RFC 9535 paths over it, with their work bounded.

A path costs at most the size of the document, times its nesting, times MAX_SELECTORS: nodes are taken once, however
many ways lead to them, and a filter asks for single values only.
"""

import functools
import json
from collections.abc import Iterator
from typing import Any

import jsonpath_rfc9535 as jsonpath
from jsonpath_rfc9535 import filter_expressions as filters
from jsonpath_rfc9535.function_extensions import ExpressionType, FilterFunction
from jsonpath_rfc9535.selectors import FilterSelector

from domain.text import clean, compiled

MAX_DEPTH = 64
"""Levels of nesting that a document may have; below every recursion limit, so that no machine answers differently."""

MAX_SELECTORS = 20
"""Selectors that a path may have."""


class ExactNumber(float):
    """A JSON number that is no integer: a float to a path's comparisons, and `text` as it stands in the document."""

    text: str

    def __new__(cls, text: str) -> "ExactNumber":
        """The number that `text` writes."""
        number = super().__new__(cls, text)
        number.text = text
        return number


def parse(body: bytes) -> Any:
    """The content of a JSON document: int and ExactNumber for numbers; NaN and Infinity, which are none, as texts.

    Raises:
        ValueError: it is not JSON, gives a name twice, or is nested deeper than MAX_DEPTH.
    """
    try:
        content = json.loads(
            body, parse_int=_integer, parse_float=ExactNumber, parse_constant=str, object_pairs_hook=_object
        )
    except RecursionError as error:
        raise ValueError(f"the document is nested deeper than {MAX_DEPTH} levels") from error
    except _DuplicateNameError as error:
        raise ValueError(f"the document gives the name {str(error)[:40]!r} twice in one object") from error
    except ValueError as error:
        raise ValueError("the document is not JSON") from error
    level = [content]
    for _ in range(MAX_DEPTH + 1):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return content
    raise ValueError(f"the document is nested deeper than {MAX_DEPTH} levels")


def find(path: str, content: Any) -> list[Any]:
    """The values that a path leads to, each once, in the order of RFC 9535.

    Raises:
        ValueError: `path` is refused; the message is a sentence.
    """
    query = compiled_path(path)
    nodes = [jsonpath.JSONPathNode(value=content, location=(), parent=None, root=content)]
    for segment in query.segments:
        nodes = list({node.location: node for node in segment.resolve(nodes)}.values())
    return [node.value for node in nodes]


@functools.lru_cache(maxsize=256)
def compiled_path(path: str) -> jsonpath.JSONPathQuery:
    """A path, parsed.

    Raises:
        ValueError: it is not RFC 9535, or asks for more work than is bounded; the message is a sentence.
    """
    if max(path.count("("), path.count("[")) > MAX_SELECTORS:
        raise ValueError(f"json path {path!r} has more than {MAX_SELECTORS} brackets")
    try:
        query = _ENVIRONMENT.compile(path)
    except (jsonpath.JSONPathError, ValueError, ArithmeticError) as error:
        raise ValueError(f"json path {path!r} is not RFC 9535: {error}") from error
    selectors = [selector for segment in query.segments for selector in segment.selectors]
    if len(selectors) > MAX_SELECTORS:
        raise ValueError(f"json path {path!r} has more than {MAX_SELECTORS} selectors")
    for operand in (o for s in selectors if isinstance(s, FilterSelector) for o in _operands(s.expression)):
        if isinstance(operand, filters.FilterQuery) and not operand.query.singular_query():
            raise ValueError(f"json path {path!r} has a filter that asks for more than single values")
        # The library reads integers as floats, and would take one for its neighbour.
        if isinstance(operand, filters.IntegerLiteral) and abs(operand.value) >= 2**53:
            raise ValueError(f"json path {path!r} compares with an integer of 2**53 or more")
    return query


def _operands(expression: filters.Expression) -> Iterator[filters.Expression]:
    match expression:
        case filters.FilterExpression():
            yield from _operands(expression.expression)
        case filters.LogicalExpression() | filters.ComparisonExpression():
            yield from _operands(expression.left)
            yield from _operands(expression.right)
        case filters.PrefixExpression():
            yield from _operands(expression.right)
        case filters.FunctionExtension():
            for argument in expression.args:
                yield from _operands(argument)
        case _:
            yield expression


class _Regex(FilterFunction):
    """`match` and `search` of RFC 9535 by RE2: the library's own backtrack, and can take for ever."""

    arg_types = [ExpressionType.VALUE, ExpressionType.VALUE]  # noqa: RUF012 - declared so by the library
    return_type = ExpressionType.LOGICAL

    def __init__(self, method: str) -> None:
        self._method = method

    def __call__(self, text: object, pattern: object) -> bool:
        if not isinstance(text, str) or not isinstance(pattern, str) or len(pattern) > 500:
            return False
        try:
            return getattr(compiled(pattern), self._method)(clean(text)) is not None
        except ValueError:
            return False


class _Environment(jsonpath.JSONPathEnvironment):
    max_recursion_depth = MAX_DEPTH + 2

    def setup_function_extensions(self) -> None:
        super().setup_function_extensions()
        self.function_extensions["match"] = _Regex("fullmatch")
        self.function_extensions["search"] = _Regex("search")


_ENVIRONMENT = _Environment()


class _DuplicateNameError(ValueError):
    pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # RFC 8259: "the behavior of software that receives such an object is unpredictable"; so it is no evidence.
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        raise _DuplicateNameError(next(name for name in names if names.count(name) > 1))
    return members


def _integer(text: str) -> int | ExactNumber:
    # Python refuses to read very long integers, by a limit that the process can set.
    return int(text) if len(text) <= 400 else ExactNumber(text)


def _children(parent: Any) -> list[Any]:
    return list(parent.values()) if isinstance(parent, dict) else parent if isinstance(parent, list) else []
