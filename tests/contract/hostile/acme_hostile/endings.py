"""How a hostile plugin ends its attempts."""

import logging
from datetime import timedelta
from typing import Any

from latchflow.sdk import ActionResult, Emit, PermanentFailure, Retry, RetryAfter, ServiceError

from .lies import Forever, Raising, Turning


class Mute(Exception):  # noqa: N818
    """It cannot be shown."""

    def __str__(self) -> str:
        raise SystemExit("no text for you")


class Masked(Exception):  # noqa: N818
    """Its text slips out of the hands of whoever masks it."""

    def __init__(self, secret: str) -> None:
        self.secret = secret

    def __str__(self) -> str:
        return Turning(f"the secret is {self.secret}")


class Nasty(ActionResult):
    """A result that raises when it is looked at."""

    @property
    def output(self) -> Any:
        raise SystemError("got you")


class Shifty(dict[str, Any]):
    """An output that is another one at each look."""

    def items(self) -> Any:
        return {"looked": "at", "by": logging.getLogger}.items()


async def mute_exception(call: Any) -> Any:
    raise Mute


async def masked_exception(call: Any) -> Any:
    raise Masked(call.secrets["apiKey"])


async def secret_in_type(call: Any) -> Any:
    raise PermanentFailure("x", error_type=call.secrets["apiKey"])


async def huge_error(call: Any) -> Any:
    raise PermanentFailure("x" * 5_000_000, error_type="y" * 5_000_000)


async def terminal_codes(call: Any) -> Any:
    raise PermanentFailure("\x1b]0;owned\x07\x1b[2J\x9b31m\r\u202eevil\x00", error_type="\x1b[31mRed")


async def error_of_no_kind(call: Any) -> Any:
    raise ServiceError(Raising(), "x", retry_after="soon")  # type: ignore[arg-type]


async def negative_wait(call: Any) -> Any:
    raise Retry(after=timedelta(days=-999999999), reason="x")


async def endless_wait(call: Any) -> Any:
    return ActionResult(retry=RetryAfter(after=timedelta.max, reason="x"))


async def lying_wait(call: Any) -> Any:
    raise ServiceError("retryable", "x", retry_after=Forever(days=999999999))


async def wait_of_text(call: Any) -> Any:
    raise ServiceError("retryable", "x", retry_after="inf")  # type: ignore[arg-type]


async def nasty_result(call: Any) -> Any:
    return object.__new__(Nasty)


async def shifty_output(call: Any) -> Any:
    return ActionResult(output=Shifty(a=1))


async def coroutine_output(call: Any) -> Any:
    return call.services.http.request


async def generator_output(call: Any) -> Any:
    return (number for number in range(3))


async def emitting(call: Any) -> Any:
    return Emit(context={}, key="of another trigger")


ENDINGS = {
    trick.__name__: trick
    for trick in (
        mute_exception,
        masked_exception,
        secret_in_type,
        huge_error,
        terminal_codes,
        error_of_no_kind,
        negative_wait,
        endless_wait,
        lying_wait,
        wait_of_text,
        nasty_result,
        shifty_output,
        coroutine_output,
        generator_output,
        emitting,
    )
}
