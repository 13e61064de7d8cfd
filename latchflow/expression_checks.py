"""Checking the expressions of a definition when it is saved, so that no event finds the mistake first."""

import importlib
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, cast

from latchflow.errors import FieldError

KNOWN_VARIABLES = frozenset({"event", "trigger", "pipeline", "steps"})
"""The roots an expression of a step may name."""


class _ExpressionError(Protocol):
    message: str
    line: int
    column: int


class _Expressions(Protocol):
    ExpressionError: type[Exception]

    def check(self, source: str, known_variables: Iterable[str]) -> object: ...
    def check_template(self, value: Any, known_variables: Iterable[str]) -> Iterable[tuple[str, _ExpressionError]]: ...


def check_expressions(value: Any, pointer: str, *, where: str, is_template: bool) -> Iterator[FieldError]:
    """Compile what a definition holds.

    Args:
        value: One expression, or with `is_template` a value whose strings are expressions at any depth.
        pointer: Where the value stands in the request.
        where: Named in the message, for example ``step 'mail', when``.
        is_template: Which of the two it is.
    """
    expressions = _expressions()
    if expressions is None:
        return
    if is_template:
        for below, error in expressions.check_template(value, KNOWN_VARIABLES):
            yield _fault(pointer + below, where, error)
        return
    try:
        expressions.check(value, KNOWN_VARIABLES)
    except expressions.ExpressionError as error:
        yield _fault(pointer, where, cast("_ExpressionError", error))


def _expressions() -> _Expressions | None:
    try:
        return cast("_Expressions", importlib.import_module("latchflow.expressions"))
    except ModuleNotFoundError:
        return None


def _fault(pointer: str, where: str, error: _ExpressionError) -> FieldError:
    message = f"{where}, line {error.line}, column {error.column}: {error.message}"
    return FieldError(pointer=pointer, message=message)
