"""What a call under test came to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from latchflow.runtime.guard import ServiceCall
from latchflow.runtime.invoker import Failure, Success


@dataclass(frozen=True, kw_only=True)
class ActionRun:
    """One attempt of an action.

    Attributes:
        result: What core makes of it.
        calls: The audited service calls.
        progress: What `call.heartbeat` was given, in order.
        logs: What `call.logger` was given, as it would be written: secrets masked.
    """

    result: Success | Failure
    calls: list[ServiceCall]
    progress: list[Any]
    logs: list[Mapping[str, Any]]

    @property
    def output(self) -> Any:
        """The output.

        Raises:
            AssertionError: The action failed; the message says how.
        """
        if not isinstance(self.result, Success):
            raise AssertionError(f"the action failed: {self.result.error_type}: {self.result.message}")
        return self.result.output

    @property
    def failure(self) -> Failure:
        """How it failed.

        Raises:
            AssertionError: It succeeded.
        """
        if not isinstance(self.result, Failure):
            raise AssertionError(f"the action succeeded: {self.result!r}")
        return self.result
