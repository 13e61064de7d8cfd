"""CEL: compile, check, evaluate. Pure: called when definitions are saved and from activities, never from workflow code.

A template is a JSON value whose strings are CEL expressions, at any depth; its other leaves stand for themselves.
"""

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

import cel
from cel.stdlib import add_stdlib_to_context

from latchflow.errors import LatchflowError

KNOWN_VARIABLES = frozenset({"event", "trigger", "pipeline", "steps"})
"""The roots that the expressions of a step may name."""
ITEM_VARIABLES = frozenset({"item", "index"})
"""Further roots of a step with ``forEach``."""
MAX_LENGTH = 4096
"""Characters of one expression. The evaluator recurses over it: this many need less than 2 MiB of stack."""
MAX_DEPTH = 128
"""Levels of lists and mappings in a template or a variable. The evaluator has no bound of its own and would overrun
the stack, which ends the process."""

_LONGEST_RANGE = 10_000
_BUILT_IN_NAMES = frozenset(
    {"bool", "bytes", "double", "int", "list", "map", "null_type", "optional", "string", "type", "uint"}
)
_BINDING_MACROS = frozenset({"all", "exists", "exists_one", "filter", "map"})
_STEPS = re.compile(
    r"""(?<![\w.])steps\b(?:\s*\.\s*([A-Za-z_]\w*)|\s*\[\s*(?:"([A-Za-z_]\w*)"|'([A-Za-z_]\w*)')\s*\])?"""
)
_ERROR_AT = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")
_STRING = r'"""(?:\\.|(?!""").)*"""|\'\'\'(?:\\.|(?!\'\'\').)*\'\'\'|"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\''
_RAW_STRING = r'"""(?:(?!""").)*"""|\'\'\'(?:(?!\'\'\').)*\'\'\'|"[^"]*"|\'[^\']*\''
_TOKEN = re.compile(
    rf"(?P<space>\s+|//[^\n]*)|(?:[bB]?[rR][bB]?)(?:{_RAW_STRING})|[bB]?(?:{_STRING})"
    r"|(?P<name>[A-Za-z_]\w*)|\d[\w]*|.",
    re.DOTALL,
)


class ExpressionError(LatchflowError):
    """An expression that cannot be compiled or evaluated; whoever wrote the definition must change it.

    Attributes:
        line: Where in the expression, from 1.
        column: From 1.
    """

    code = "expression"

    def __init__(self, message: str, line: int = 1, column: int = 1) -> None:
        super().__init__(message)
        self.line = line
        self.column = column


@lru_cache(maxsize=2048)
def compile_expression(source: str) -> cel.Program:
    """Compile; the same source is compiled once.

    Raises:
        ExpressionError: A syntax error, with its line and column, or a source that is too long.
    """
    if len(source) > MAX_LENGTH:
        raise ExpressionError(f"The expression has {len(source)} characters, {MAX_LENGTH} are allowed. Shorten it.")
    try:
        return cel.compile(source)
    except Exception as error:
        raise _syntax_error(str(error)) from None
    except BaseException as error:
        raise _unless_panic(error, source) from None


def check(source: str, known_variables: Collection[str] = KNOWN_VARIABLES) -> None:
    """Check what can be known without evaluating: the syntax, and that every variable exists.

    Raises:
        ExpressionError: With the line and column of the first fault.
    """
    program = compile_expression(source)
    suspects = {name for name in program.variables() if name not in known_variables and name not in _BUILT_IN_NAMES}
    for token in _free_names(source) if suspects else ():
        if token.text in suspects or "." + token.text in suspects:
            line = source.count("\n", 0, token.start) + 1
            column = token.start - (source.rfind("\n", 0, token.start) + 1) + 1
            known = ", ".join(sorted(known_variables))
            raise ExpressionError(f"Unknown variable {token.text!r}. There are: {known}.", line, column)


def evaluate(source: str, variables: Mapping[str, Any]) -> Any:
    """Evaluate over JSON values; the result is a JSON value.

    Timestamps and durations become ISO 8601 strings, an absent optional becomes null, keys of maps become strings.

    Raises:
        ExpressionError: The expression and the reason, for example a field that is not there.
    """
    return _evaluate(source, _context(variables))


def steps_named(value: Any) -> frozenset[str] | None:
    """The steps that an expression, or the strings of a template, name as ``steps.NAME`` or ``steps["NAME"]``.

    Returns:
        None when some ``steps`` stands there without a name, so that any step may be meant.
    """
    found = [match for _, source in _strings(value) for match in _STEPS.finditer(source)]
    names = [match[1] or match[2] or match[3] for match in found]
    return frozenset(names) if all(names) else None


def check_template(
    value: Any, known_variables: Collection[str] = KNOWN_VARIABLES
) -> Iterator[tuple[str, ExpressionError]]:
    """Yield the JSON pointer and the fault of every string in `value` that does not pass `check`."""
    for pointer, source in _strings(value):
        try:
            check(source, known_variables)
        except ExpressionError as error:
            yield pointer, error


def evaluate_template(
    value: Any, variables: Mapping[str, Any], *, before_each: Callable[[str], None] | None = None
) -> Any:
    """Evaluate every string of `value`, at any depth; everything else stays as it is.

    Args:
        value: The template.
        variables: What its expressions see.
        before_each: Called with each expression before it is evaluated.

    Raises:
        ExpressionError: The first fault; its message names the place in the template.
    """
    context = _context(variables)

    def fill(node: Any, pointer: str) -> Any:
        if isinstance(node, str):
            if before_each is not None:
                before_each(node)
            try:
                return _evaluate(node, context)
            except ExpressionError as error:
                raise ExpressionError(f"At {pointer or '/'}: {error.message}", error.line, error.column) from None
        if isinstance(node, Mapping):
            return {key: fill(child, _below(pointer, key)) for key, child in node.items()}
        if isinstance(node, list | tuple):
            return [fill(child, _below(pointer, position)) for position, child in enumerate(node)]
        return node

    _refuse_depth(value, "The template")
    return fill(value, "")


class _Token(NamedTuple):
    text: str
    start: int
    is_name: bool


def _free_names(source: str) -> Iterator[_Token]:
    """The names in `source` that no comprehension around them binds, in order; fields and functions are none."""
    tokens = [
        _Token(match[0], match.start(), match["name"] is not None)
        for match in _TOKEN.finditer(source)
        if match["space"] is None
    ]
    texts = ["", "", "", *(token.text for token in tokens), ""]  # padded, so that neighbours always exist
    bound: list[str] = []  # one entry per open bracket; "" binds nothing
    for position, token in enumerate(tokens, start=3):
        before, after = texts[position - 1], texts[position + 1]
        if token.text in ("(", "[", "{"):
            opens_macro = token.text == "(" and before in _BINDING_MACROS and texts[position - 2] == "."
            bound.append(after if opens_macro else "")
        elif token.text in (")", "]", "}"):
            if bound:
                bound.pop()
        elif token.is_name and after != "(" and token.text not in bound:
            is_field = before == "." and (texts[position - 2][-1:].isalnum() or texts[position - 2][-1:] in "_)]}\"'")
            if not is_field or not texts[position - 2]:
                yield token


def _evaluate(source: str, context: cel.Context) -> Any:
    program = compile_expression(source)
    try:
        result = program.execute(context)
    except KeyError as error:
        raise _failure(source, f"there is no field {error.args[0]}") from None
    except Exception as error:
        raise _failure(source, str(error)) from None
    except BaseException as error:
        raise _unless_panic(error, source) from None
    return _as_json(result, source)


def _context(variables: Mapping[str, Any]) -> cel.Context:
    # Converting the variables costs more than everything else, so a template converts them once.
    _refuse_depth(variables, "The data")
    context = cel.Context(dict(variables))
    add_stdlib_to_context(context)
    context.add_function("lists.range", _bounded_range)  # the library's would fill the memory for a sender's number
    return context


def _bounded_range(count: int) -> list[int]:
    if count > _LONGEST_RANGE:
        raise ValueError(f"lists.range({count}) is longer than {_LONGEST_RANGE}")
    return list(range(count))


def _as_json(value: Any, source: str) -> Any:
    if isinstance(value, cel.OptionalValue):
        value = value.value() if value.has_value() else None
    if isinstance(value, Mapping):
        return {_as_key(key): _as_json(child, source) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(child, source) for child in value]
    return _leaf_as_json(value, source)


def _leaf_as_json(value: Any, source: str) -> Any:
    match value:
        case None | bool() | int() | str():
            return value
        case float() if math.isfinite(value):
            return value
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case timedelta():
            return _iso_duration(value)
        case bytes():
            raise _failure(source, "the result holds bytes, which JSON cannot hold; convert them with string(…)")
        case _:
            raise _failure(source, f"the result {value!r} cannot be written as JSON")


def _as_key(key: Any) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)


def _iso_duration(value: timedelta) -> str:
    microseconds = value // timedelta(microseconds=1)
    seconds, fraction = divmod(abs(microseconds), 1_000_000)
    digits = f"{seconds}.{fraction:06d}".rstrip("0").rstrip(".")
    return f"{'-' if microseconds < 0 else ''}PT{digits}S"


def _strings(value: Any) -> Iterator[tuple[str, str]]:
    _refuse_depth(value, "The template")
    pending = [("", value)]
    while pending:
        pointer, node = pending.pop()
        if isinstance(node, str):
            yield pointer, node
        elif isinstance(node, Mapping):
            pending.extend((_below(pointer, key), node[key]) for key in reversed(list(node)))
        elif isinstance(node, list | tuple):
            pending.extend((_below(pointer, position), node[position]) for position in reversed(range(len(node))))


def _below(pointer: str, key: object) -> str:
    return f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}"


def _refuse_depth(value: Any, what: str) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        containers = [node for node in level if isinstance(node, Mapping | list | tuple)]
        if not containers:
            return
        level = [child for node in containers for child in (node.values() if isinstance(node, Mapping) else node)]
    raise ExpressionError(f"{what} is nested deeper than {MAX_DEPTH} levels. Make it flatter.")


def _syntax_error(text: str) -> ExpressionError:
    found = _ERROR_AT.search(text)
    if found is None:
        return ExpressionError(text)
    line, column, reason = found.groups()
    return ExpressionError(reason, int(line), int(column))


def _failure(source: str, reason: str) -> ExpressionError:
    return ExpressionError(f"{source!r} cannot be evaluated: {reason}")


def _unless_panic(error: BaseException, source: str) -> BaseException:
    """Turn a panic of the evaluator, which no ``except Exception`` catches, into an ordinary error."""
    if type(error).__name__ == "PanicException":
        return _failure(source, "the evaluator gave up")
    return error
