"""What a call under test came to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from latchflow.runtime.guard import ServiceCall
from latchflow.runtime.invoking.invoker import Failure, Result, Success, Waiting


@dataclass(frozen=True, kw_only=True)
class ActionRun:
    """One attempt of an action.

    Attributes:
        result: What core makes of it.
        calls: The audited service calls.
        progress: What `call.heartbeat` was given, in order.
        logs: What `call.logger` was given, as it would be written: secrets masked.
    """

    result: Result
    calls: list[ServiceCall]
    progress: list[Any]
    logs: list[Mapping[str, Any]]

    @property
    def output(self) -> Any:
        """The output.

        Raises:
            AssertionError: The action failed; the message says how.
        """
        if isinstance(self.result, Waiting):
            raise AssertionError(f"the action waits: {self.result!r}")
        if isinstance(self.result, Failure):
            raise AssertionError(f"the action failed: {self.result.error_type}: {self.result.message}")
        return self.result.output

    @property
    def waiting(self) -> Waiting:
        """What it waits for: `check_after`, `state` and `deadline` of its `latchflow.sdk.Pending`.

        Raises:
            AssertionError: It did not answer so.
        """
        if not isinstance(self.result, Waiting):
            raise AssertionError(f"the action does not wait: {self.result!r}")
        return self.result

    @property
    def failure(self) -> Failure:
        """How it failed.

        Raises:
            AssertionError: It did not.
        """
        if isinstance(self.result, Success):
            raise AssertionError(f"the action succeeded: {self.result!r}")
        if isinstance(self.result, Waiting):
            raise AssertionError(f"the action waits: {self.result!r}")
        return self.result
