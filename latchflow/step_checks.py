"""Checking the steps of a pipeline when they are saved, so that no event finds the mistake first."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from latchflow.errors import FieldError
from latchflow.expression_checks import check_expressions
from latchflow.expressions import ITEM_VARIABLES, steps_named
from latchflow.waits import duration_of, moment_of

MAX_INPUT_BYTES = 64 * 1024

_OF_ACTIONS = {
    "action_id": "actionId",
    "input": "input",
    "for_each": "forEach",
    "max_parallel": "maxParallel",
    "retry_policy": "retryPolicy",
    "timeout_seconds": "timeoutSeconds",
}
_OF_WAITS = {"delay": ("for", "until"), "approval": ("approvers", "timeout", "onTimeout")}


def check_step(values: Mapping[str, Any], pointer: str) -> Iterator[FieldError]:
    """Check one step by itself.

    Args:
        values: The fields of `latchflow.store.pipelines.Step`.
        pointer: Where the step stands in the request.
    """
    yield from _check_kind(values, pointer)
    yield from _check_expressions(values, pointer)
    wait = values["wait"] or {}
    for field in ("for", "timeout"):
        if wait.get(field) is not None:
            try:
                duration_of(wait[field])
            except ValueError as error:
                yield FieldError(pointer=f"{pointer}/{field}", message=str(error))
    yield from _check_until(values["name"], wait.get("until"), pointer)


def check_references(steps: Sequence[Any], failure_steps: Sequence[Any]) -> Iterator[FieldError]:
    """Check that expressions name only steps that come before their own.

    Args:
        steps: Each with the attributes of `latchflow.store.pipelines.Step`.
        failure_steps: Those for a failure: every step comes before them.
    """
    places = {step.name: (False, step.sort_order) for step in steps}
    places |= {step.name: (True, step.sort_order) for step in failure_steps}
    for step in (*steps, *failure_steps):
        sources = [step.when, step.input, step.for_each, (step.wait or {}).get("until")]
        for name in sorted(steps_named(sources) or ()):
            if name not in places:
                known = ", ".join(sorted(places)) or "none"
                yield FieldError(
                    pointer="/steps",
                    message=f"The step {step.name!r} names steps.{name}, which this pipeline has not. It has: {known}.",
                )
            elif places[name] >= places[step.name]:
                yield FieldError(
                    pointer="/steps",
                    message=f"The step {step.name!r} names steps.{name}, which does not come before it. Give "
                    f"{step.name!r} a greater sortOrder.",
                )


def _check_kind(values: Mapping[str, Any], pointer: str) -> Iterator[FieldError]:
    kind, wait = values["kind"], values["wait"] or {}
    if kind == "action":
        if values["action_id"] is None:
            yield FieldError(pointer=f"{pointer}/actionId", message="A step of the kind action needs an actionId.")
    else:
        for field, name in _OF_ACTIONS.items():
            if values[field] is not None:
                yield FieldError(pointer=f"{pointer}/{name}", message=f"A step of the kind {kind} has no {name}.")
    for field in wait:
        if field not in _OF_WAITS.get(kind, ()):
            yield FieldError(pointer=f"{pointer}/{field}", message=f"A step of the kind {kind} has no {field}.")
    if kind == "delay" and ("for" in wait) == ("until" in wait):
        yield FieldError(pointer=f"{pointer}/for", message="A delay needs either `for` or `until`.")
    if "onTimeout" in wait and "timeout" not in wait:
        yield FieldError(pointer=f"{pointer}/onTimeout", message="onTimeout needs a timeout.")
    if values["max_parallel"] is not None and values["for_each"] is None and kind == "action":
        yield FieldError(pointer=f"{pointer}/maxParallel", message="maxParallel needs a forEach.")


def _check_expressions(values: Mapping[str, Any], pointer: str) -> Iterator[FieldError]:
    also = ITEM_VARIABLES if values["for_each"] is not None else frozenset[str]()
    for field, name, is_template in (("when", "when", False), ("input", "input", True), ("for_each", "forEach", False)):
        value = values[field]
        if value is None:
            continue
        where = f"step {values['name']!r}, {name}"
        variables = also if field == "input" else frozenset[str]()
        yield from check_expressions(
            value, f"{pointer}/{name}", where=where, is_template=is_template, also_known=variables
        )
        if len(json.dumps(value)) > MAX_INPUT_BYTES:
            message = f"{where}: over {MAX_INPUT_BYTES} bytes of JSON. Let the step read large values from outputs."
            yield FieldError(pointer=f"{pointer}/{name}", message=message)


def _check_until(step_name: str, until: str | None, pointer: str) -> Iterator[FieldError]:
    if until is None:
        return
    moment = moment_of(until)
    if moment is None:
        where = f"step {step_name!r}, until"
        yield from check_expressions(until, f"{pointer}/until", where=where, is_template=False)
    elif moment <= datetime.now(UTC):
        message = f"until is {until}, which is past. Write a time to come, or an expression."
        yield FieldError(pointer=f"{pointer}/until", message=message)
