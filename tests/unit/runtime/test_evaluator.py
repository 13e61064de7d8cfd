import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvloop

import latchflow
from latchflow import expressions
from latchflow.expressions import ExpressionError
from latchflow.runtime.evaluator import Evaluator
from latchflow.runtime.evaluator_process import frame

FROZEN = "size(event.items.filter(a, !event.items.exists(b, b == a + 1000000))) > 0"
MANY: dict[str, Any] = {"event": {"items": list(range(25_000))}}


@pytest.fixture
async def evaluator() -> AsyncIterator[Evaluator]:
    evaluator = Evaluator(limit_seconds=1.0)
    yield evaluator
    await evaluator.aclose()


def process_of_evaluator() -> psutil.Process:
    (child,) = [
        child
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE and any("evaluator_process" in word for word in child.cmdline())
    ]
    return child


@pytest.mark.parametrize(
    "source",
    [
        "event.a + 1",
        "event.float",
        "event",
        "'é\\u0000😀'",
        "[1, 1.0, true, null, {'k': 'v', 2: 3}]",
        "9223372036854775807",
        "timestamp('2020-01-01T00:00:00.5+02:00')",
        "duration('90m')",
        "optional.none()",
        "''",
    ],
)
async def test_a_value_is_the_same_as_without_the_process(evaluator: Evaluator, source: str) -> None:
    variables = {"event": {"a": 2**53 + 1, "float": 2.0, "text": "é\u2028\x7f", "empty": {}, "list": [None, [], 1e300]}}

    value = await evaluator.evaluate(source, variables)

    expected = expressions.evaluate(source, variables)
    assert json.dumps(value, sort_keys=True) == json.dumps(expected, sort_keys=True)  # 1 is not 1.0


async def test_a_template_is_filled_at_any_depth(evaluator: Evaluator) -> None:
    template = {"a": ["event.n", 5, None], "b": {"c/d": "event.n + 1", "e": 1.5}}

    assert await evaluator.evaluate_template(template, {"event": {"n": 1}}) == {
        "a": [1, 5, None],
        "b": {"c/d": 2, "e": 1.5},
    }


@pytest.mark.parametrize("source", ["1 +\n +* 2", "event.missing", "b'abc'", "'x' * 2", "+".join(["1"] * 4096)])
async def test_an_error_is_the_same_as_without_the_process(evaluator: Evaluator, source: str) -> None:
    with pytest.raises(ExpressionError) as expected:
        expressions.evaluate(source, {"event": {}})

    with pytest.raises(ExpressionError) as caught:
        await evaluator.evaluate(source, {"event": {}})

    assert (caught.value.message, caught.value.line, caught.value.column) == (
        expected.value.message,
        expected.value.line,
        expected.value.column,
    )


async def test_an_error_in_a_template_names_its_place(evaluator: Evaluator) -> None:
    with pytest.raises(ExpressionError, match="At /a/1: ") as caught:
        await evaluator.evaluate_template({"a": ["1", "1 +\n +* 2"]}, {})

    assert (caught.value.line, caught.value.column) == (2, 2)


async def test_an_expression_without_end_is_stopped_while_the_loop_goes_on(evaluator: Evaluator) -> None:
    await evaluator.evaluate("1", {})
    longest_pause = 0.0

    async def tick() -> None:
        nonlocal longest_pause
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.01)
            longest_pause = max(longest_pause, time.monotonic() - last)
            last = time.monotonic()

    ticking = asyncio.create_task(tick())
    started = time.monotonic()
    with pytest.raises(ExpressionError) as caught:
        await evaluator.evaluate(FROZEN, MANY)
    took = time.monotonic() - started
    ticking.cancel()

    assert repr(FROZEN) in caught.value.message
    assert "longer than 1 s" in caught.value.message
    assert took < 3
    assert longest_pause < 0.5
    assert await evaluator.evaluate("1 + 1", {}) == 2


async def test_of_a_template_the_expression_that_took_too_long_is_named(evaluator: Evaluator) -> None:
    with pytest.raises(ExpressionError) as caught:
        await evaluator.evaluate_template({"quick": "1", "slow": FROZEN, "later": "2"}, MANY)

    assert repr(FROZEN) in caught.value.message


async def test_waiting_for_another_expression_does_not_count(evaluator: Evaluator) -> None:
    frozen = [asyncio.create_task(evaluator.evaluate(FROZEN, MANY)) for _ in range(2)]
    await asyncio.sleep(0)

    assert await evaluator.evaluate("1 + 1", {}) == 2
    assert all(isinstance(error, ExpressionError) for error in await asyncio.gather(*frozen, return_exceptions=True))


async def test_a_process_killed_in_between_is_replaced(evaluator: Evaluator) -> None:
    await evaluator.evaluate("1", {})
    first = process_of_evaluator()
    first.send_signal(signal.SIGKILL)

    assert await evaluator.evaluate("1 + 1", {}) == 2
    assert process_of_evaluator().pid != first.pid


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
async def test_an_expression_that_ends_the_process_is_an_error(number: signal.Signals) -> None:
    evaluator = Evaluator(limit_seconds=30)
    await evaluator.evaluate("1", {})
    evaluation = asyncio.create_task(evaluator.evaluate(FROZEN, MANY))
    process = process_of_evaluator()
    while process.cpu_times().user < 0.5:
        await asyncio.sleep(0.01)
    process.send_signal(number)

    with pytest.raises(ExpressionError) as caught:
        await evaluation

    assert repr(FROZEN) in caught.value.message
    assert number.name in caught.value.message
    assert await evaluator.evaluate("1 + 1", {}) == 2
    await evaluator.aclose()


@pytest.mark.skipif(sys.platform != "linux", reason="only there the memory is bounded")
async def test_an_expression_that_wants_all_memory_is_an_error() -> None:
    evaluator = Evaluator(limit_seconds=60)

    with pytest.raises(ExpressionError) as caught:
        await evaluator.evaluate("size(lists.range(10000).map(n, event + 'x'))", {"event": "x" * 16 * 1024 * 1024})

    assert "memory" in caught.value.message
    assert await evaluator.evaluate("1 + 1", {}) == 2
    await evaluator.aclose()


async def test_a_cancelled_caller_leaves_the_evaluator_usable(evaluator: Evaluator) -> None:
    await evaluator.evaluate("1", {})
    process = process_of_evaluator()
    evaluation = asyncio.create_task(evaluator.evaluate(FROZEN, MANY))
    await asyncio.sleep(0.2)
    evaluation.cancel()

    with pytest.raises(asyncio.CancelledError):
        await evaluation

    assert not process.is_running()
    assert await evaluator.evaluate("1 + 1", {}) == 2


async def test_large_values_pass_in_both_directions(evaluator: Evaluator) -> None:
    text = "aé😀\n" * (1024 * 1024)

    assert await evaluator.evaluate("event + '!'", {"event": text}) == text + "!"


async def test_what_the_library_cannot_take_is_an_error_and_no_end(evaluator: Evaluator) -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]

    for data in (deep, "\ud800"):
        with pytest.raises(ExpressionError):
            await evaluator.evaluate("event", {"event": data})
    assert await evaluator.evaluate("1 + 1", {}) == 2


async def test_the_process_knows_no_secret_and_has_a_session_of_its_own(
    evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENCRYPTION_KEY", "k")
    monkeypatch.setenv("DATABASE_URL", "d")
    await evaluator.evaluate("1", {})
    process = process_of_evaluator()

    environment = process.environ()

    assert not {"ENCRYPTION_KEY", "DATABASE_URL"} & environment.keys()
    assert os.getsid(process.pid) == process.pid
    await evaluator.aclose()
    assert not process.is_running()


@pytest.mark.parametrize("is_frozen", [False, True])
def test_the_process_ends_after_its_parent(is_frozen: bool) -> None:
    home = str(Path(latchflow.__file__).parent.parent)
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "latchflow.runtime.evaluator_process", "0.5"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": home},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.read(len(frame(["ready"])))
    if is_frozen:
        process.stdin.write(frame(["expression", FROZEN, MANY]))
    process.stdin.close()  # what its parent's death does

    status = process.wait(timeout=10)

    assert status == (-signal.SIGALRM if is_frozen else 0)
    process.stdout.close()


def test_it_works_under_uvloop() -> None:
    async def main() -> None:
        evaluator = Evaluator(limit_seconds=1.0)
        assert await evaluator.evaluate("event", {"event": "x" * 4_000_000}) == "x" * 4_000_000
        with pytest.raises(ExpressionError, match="longer than"):
            await evaluator.evaluate(FROZEN, MANY)
        assert await evaluator.evaluate("1 + 1", {}) == 2
        process_of_evaluator().kill()
        assert await evaluator.evaluate("1 + 1", {}) == 2
        process_of_evaluator().kill()
        await asyncio.sleep(0.2)  # long enough for the loop to notice
        assert await evaluator.evaluate("1 + 1", {}) == 2
        await evaluator.aclose()

    uvloop.run(main())
