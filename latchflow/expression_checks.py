"""Checking the expressions of a definition when it is saved, so that no event finds the mistake first."""

from collections.abc import Collection, Iterator
from typing import Any

from latchflow import expressions
from latchflow.errors import FieldError
from latchflow.expressions import KNOWN_VARIABLES, ExpressionError


def check_expressions(
    value: Any, pointer: str, *, where: str, is_template: bool, also_known: Collection[str] = ()
) -> Iterator[FieldError]:
    """Compile what a definition holds.

    Args:
        value: One expression, or with `is_template` a value whose strings are expressions at any depth.
        pointer: Where the value stands in the request.
        where: Named in the message, for example ``step 'mail', when``.
        is_template: Which of the two it is.
        also_known: Variables beside those that every step has.
    """
    known = KNOWN_VARIABLES | set(also_known)
    if is_template:
        for below, error in expressions.check_template(value, known):
            yield _fault(pointer + below, where, error)
        return
    try:
        expressions.check(value, known)
    except ExpressionError as error:
        yield _fault(pointer, where, error)


def _fault(pointer: str, where: str, error: ExpressionError) -> FieldError:
    message = f"{where}, line {error.line}, column {error.column}: {error.message}"
    return FieldError(pointer=pointer, message=message)
