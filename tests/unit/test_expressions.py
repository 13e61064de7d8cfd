import threading
from typing import Any

import pytest

from latchflow import expressions
from latchflow.expressions import ExpressionError, check, check_template, evaluate, evaluate_template

VARIABLES: dict[str, Any] = {"event": {"context": {"count": 3, "name": "Ada", "tags": ["a", "b"]}}}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("event.context.count + 1", 4),
        ("event.context.tags.map(t, t + '!')", ["a!", "b!"]),
        ("has(event.context.missing)", False),
        ("1.5", 1.5),
        ("null", None),
        ("{'a': [true]}", {"a": [True]}),
        ("{2: 'x', true: 'y'}", {"2": "x", "true": "y"}),
        ("timestamp('2020-01-01T00:00:00Z')", "2020-01-01T00:00:00Z"),
        ("timestamp('2020-01-01T00:00:00.5+02:00')", "2020-01-01T00:00:00.500000+02:00"),
        ("duration('90m')", "PT5400S"),
        ("duration('-1.5s')", "-PT1.5S"),
        ("optional.none()", None),
        ("optional.of(1)", 1),
        ("type(1)", "int"),
    ],
)
def test_a_result_is_a_json_value(source: str, expected: Any) -> None:
    assert evaluate(source, VARIABLES) == expected


def test_integers_of_json_stay_integers() -> None:
    result = evaluate("event.context.count", VARIABLES)

    assert type(result) is int


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("event.context.missing", "missing"),
        ("event.context.tags[9]", "out of bounds"),
        ("1 / 0", "division by zero"),
        ("'a' + 1", "string + int"),
        ("b'abc'", "bytes"),
        ("[b'abc']", "bytes"),
        ("1.0 / 0.0", "inf"),
        ("nosuch(1)", "nosuch"),
    ],
)
def test_a_failed_evaluation_says_which_expression_and_why(source: str, reason: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        evaluate(source, VARIABLES)

    assert repr(source) in caught.value.message
    assert reason in caught.value.message


@pytest.mark.parametrize(
    ("source", "line", "column"),
    [("1 +", 1, 4), ("", 1, 1), ("1 +\n  * 2", 2, 3), ("event.", 1, 7)],
)
def test_a_syntax_error_has_its_line_and_column(source: str, line: int, column: int) -> None:
    with pytest.raises(ExpressionError) as caught:
        check(source)

    assert (caught.value.line, caught.value.column) == (line, column)


@pytest.mark.parametrize(
    ("source", "name", "line", "column"),
    [
        ("evnt.context", "evnt", 1, 1),
        ("event.context.a +\n  nope", "nope", 2, 3),
        ("[1].map(x, x + y)", "y", 1, 16),
        ("[1].map(x, x) + [x]", "x", 1, 18),
        ("x.map(x, x)", "x", 1, 1),
        ("'evnt' + evnt.a", "evnt", 1, 10),
        ("has(foo.bar)", "foo", 1, 5),
        (".evnt.a", "evnt", 1, 2),
        ("{key: 1}", "key", 1, 2),
        ("true || foo", "foo", 1, 9),
    ],
)
def test_an_unknown_variable_is_refused_where_it_stands(source: str, name: str, line: int, column: int) -> None:
    with pytest.raises(ExpressionError, match=f"Unknown variable '{name}'") as caught:
        check(source)

    assert (caught.value.line, caught.value.column) == (line, column)


@pytest.mark.parametrize(
    "source",
    [
        "event.context.a == 1 && steps.first.output.ok",
        "[1].map(x, x * 2)",
        "[[1]].map(x, x.map(y, y + x[0]))",
        "event.context.items.filter(i, i.id == event.id).size() > 0",
        "event.context.items.exists(event, event.ok)",
        "event.context.x.all(y, y > 0) ? steps : trigger",
        "type(event) == map",
        "optional.of(event)",
        "'x' + \"y\" + r'\\' + '''it's'''",
        "event['context'].map // .map(z, nope)",
    ],
)
def test_known_and_bound_variables_pass(source: str) -> None:
    check(source)


def test_known_variables_can_be_narrowed() -> None:
    with pytest.raises(ExpressionError, match="There are: event"):
        check("item", {"event"})


def test_a_template_evaluates_its_strings_at_any_depth() -> None:
    template = {"to": ["event.context.name"], "n": 5, "deep": {"x": [{"y": "event.context.count"}]}, "none": None}

    assert evaluate_template(template, VARIABLES) == {
        "to": ["Ada"],
        "n": 5,
        "deep": {"x": [{"y": 3}]},
        "none": None,
    }


def test_a_template_fault_names_its_place() -> None:
    with pytest.raises(ExpressionError, match=r"^At /a/1: 'event\.nope'"):
        evaluate_template({"a": ["1", "event.nope"]}, VARIABLES)


def test_check_template_yields_every_fault_with_its_pointer() -> None:
    faults = list(check_template({"a/b": ["1", "1 +"], "ok": "event.id", "bad": "nope", "n": 1}))

    assert [(pointer, error.column) for pointer, error in faults] == [("/a~1b/1", 4), ("/bad", 1)]


def test_a_source_over_the_limit_is_refused() -> None:
    with pytest.raises(ExpressionError, match="4096 are allowed"):
        check("1" * 4097)


@pytest.mark.parametrize("source", ["(" * 2000 + "1" + ")" * 2000, "[" * 2048 + "]" * 2048, "{'a':" * 600 + "1"])
def test_deeply_nested_sources_are_an_error_and_no_crash(source: str) -> None:
    with pytest.raises(ExpressionError):
        check(source)


def test_data_nested_too_deep_for_the_evaluator_is_refused_before_it_sees_it() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]

    with pytest.raises(ExpressionError, match="nested deeper than 128"):
        evaluate("1", {"event": deep})


def test_the_longest_chain_fits_the_stack_of_a_thread() -> None:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(evaluate("+".join(["1"] * 2048), {})))
    thread.start()
    thread.join()

    assert results == [2048]


def test_programs_are_compiled_once() -> None:
    assert expressions.compile_expression("1 + 1") is expressions.compile_expression("1 + 1")
