"""Bookkeeping of steps that run no plugin code: delays, approvals, and finding the items of a ``forEach``.

All are local activities, retried until Postgres answers. A repeat finds what the first has recorded.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.scope import Evaluator, Scope
from latchflow import plan
from latchflow.crypto import Keyring
from latchflow.errors import LatchflowError, UnavailableError
from latchflow.expressions import ExpressionError
from latchflow.masking import readable
from latchflow.model import ActionTask, Expansion, InvocationStatus, Outcome
from latchflow.names import BEGIN_WAIT, EXPAND_ITEMS, FINISH_ITEMS, SETTLE_WAIT
from latchflow.store import approvals, attempts, invocations, items, places
from latchflow.store.attempts import Task
from latchflow.store.database import Database
from latchflow.waits import LONGEST_WAIT, approval_deadline, duration_of, moment_of

MAX_ITEMS = 10_000
"""Of one ``forEach``."""

_NEARLY = timedelta(milliseconds=100)
"""Timers may fire this early by another machine's clock."""


class StepActivities:
    """Activities that evaluate expressions and write to Postgres."""

    def __init__(self, *, database: Database, keyring: Keyring, evaluator: Evaluator) -> None:
        self._database = database
        self._keyring = keyring
        self._scope = Scope(database, keyring, evaluator)

    @activity.defn(name=BEGIN_WAIT)
    async def begin_wait(self, task: ActionTask) -> Outcome:
        """Begin a delay or an approval.

        Returns:
            That it waits and until when, or how it ended: skipped, or failed because its expression did.
        """
        row = await self._load(task)
        if row.ended_at is None and row.status is InvocationStatus.PENDING:
            try:
                if not await self._is_wanted(task, row):
                    return await self._end(row, _skipped(row))
                await self._begin(task, row)
            except UnavailableError:
                raise
            except LatchflowError as error:
                return await self._end(row, _failed(row, error.message), error_type=type(error).__name__)
            except (KeyError, ValueError) as error:  # saved by a version that did not check it
                return await self._end(row, _failed(row, f"It cannot wait: {error}"), error_type="InvalidWait")
            row = await self._load(task)
        return _as_it_stands(row)

    @activity.defn(name=SETTLE_WAIT)
    async def settle_wait(self, task: ActionTask) -> Outcome:
        """Look at a delay or an approval that was woken, or whose time has come.

        Returns:
            How it ended, or that it waits on.
        """
        row = await self._load(task)
        if row.ended_at is not None:
            return _as_it_stands(row)
        if row.kind == "approval":
            return await self._settle_approval(row.invocation_id)
        if row.next_attempt_at is not None and row.next_attempt_at - datetime.now(UTC) > _NEARLY:
            return _as_it_stands(row)
        return await self._end(row, _done(row))

    @activity.defn(name=EXPAND_ITEMS)
    async def expand_items(self, task: ActionTask) -> Expansion:
        """Find the items of a ``forEach`` and give each an invocation, in one transaction.

        Returns:
            How many, or how the step ended at once: skipped, without items, or failed because its expression did.
        """
        row = await self._load(task)
        if row.ended_at is not None:
            return Expansion(outcome=_as_it_stands(row))
        if row.item_count is not None:
            return Expansion(count=row.item_count)
        try:
            if not await self._is_wanted(task, row):
                return Expansion(outcome=await self._end(row, _skipped(row)))
            found = await self._items(task, row)
        except UnavailableError:
            raise
        except LatchflowError as error:
            return Expansion(outcome=await self._end(row, _failed(row, error.message), error_type=type(error).__name__))
        sealed = []
        for index, item in enumerate(found):
            item_id = plan.item_invocation_id(row.invocation_id, index)
            sealed.append((item_id, self._keyring.seal_json(item, places.invocation_item(item_id))))
        async with self._database.transaction() as connection:
            return Expansion(count=await items.add_items(connection, row.invocation_id, sealed))

    @activity.defn(name=FINISH_ITEMS)
    async def finish_items(self, outcome: Outcome) -> Outcome:
        """Record how a ``forEach`` step ended whose items have all ended."""
        async with self._database.connection() as connection:
            await invocations.end_invocation(connection, outcome, error_type="ItemsFailed")
        return outcome

    async def _begin(self, task: ActionTask, row: Task) -> None:
        now = datetime.now(UTC)
        if row.kind == "approval":
            deadline = approval_deadline(row.wait or {}, now)
            waiting_for, until = "decision", deadline
        else:
            waiting_for, until, deadline = "time", await self._end_of_delay(task, row, now), None
        async with self._database.connection() as connection:
            await invocations.begin_waiting(
                connection, row.invocation_id, waiting_for=waiting_for, until=until, deadline=deadline
            )

    async def _end_of_delay(self, task: ActionTask, row: Task, now: datetime) -> datetime:
        wait = row.wait or {}
        if "for" in wait:
            return now + duration_of(wait["for"])
        source = wait["until"]
        until = moment_of(source)
        if until is None:
            variables = await self._scope.variables(task, row, source)
            until = moment_of(await self._scope.evaluate(source, variables))
        if until is None:
            raise ExpressionError(f"`until` must be a time with its offset, {source!r} is none")
        # A step that is reached late goes on at once; a time that was past when the event fired is a mistake.
        if until < row.fired_at:
            raise ExpressionError(f"`until` is {until:%Y-%m-%d %H:%M:%S} UTC, before the event fired: {source!r}")
        if until - now > LONGEST_WAIT:
            raise ExpressionError(f"`until` is more than {LONGEST_WAIT.days} days away: {source!r}")
        return until

    async def _settle_approval(self, invocation_id: UUID) -> Outcome:
        # Under its lock, so that a decision is not answered with 202 while its timeout settles it.
        async with self._database.transaction() as connection:
            await invocations.lock(connection, invocation_id)
            row = await attempts.load(connection, invocation_id)
            if row is None:
                raise _unknown(invocation_id)
            decision = row.decision or _decision_of_timeout(row, datetime.now(UTC))
            if row.ended_at is not None or decision is None:
                return _as_it_stands(row)
            if row.decision is None:
                await approvals.keep(connection, invocation_id, decision)
            outcome, error_type = _decided(row, decision)
            output = self._keyring.seal_json(dict(decision), places.invocation_output(invocation_id))
            await invocations.end_invocation(
                connection,
                outcome,
                error_type=error_type,
                output_sealed=output if outcome.status.is_success else None,
            )
            return outcome

    async def _items(self, task: ActionTask, row: Task) -> list[Any]:
        source = row.for_each or ""
        found = await self._scope.evaluate(source, await self._scope.variables(task, row, source))
        if not isinstance(found, list):
            raise ExpressionError(f"`forEach` must be a list, {source!r} is {type(found).__name__}")
        if len(found) > MAX_ITEMS:
            raise ExpressionError(f"`forEach` has {len(found)} items, at most {MAX_ITEMS} are carried out: {source!r}")
        return found

    async def _is_wanted(self, task: ActionTask, row: Task) -> bool:
        if row.when is None:
            return True
        return await self._scope.is_wanted(row.when, await self._scope.variables(task, row, row.when))

    async def _load(self, task: ActionTask) -> Task:
        async with self._database.connection() as connection:
            row = await attempts.load(connection, task.step.invocation_id)
        if row is None:
            raise _unknown(task.step.invocation_id)
        return row

    async def _end(self, row: Task, outcome: Outcome, *, error_type: str | None = None) -> Outcome:
        async with self._database.connection() as connection:
            if await invocations.end_invocation(connection, outcome, error_type=error_type):
                return outcome
            ended = await attempts.load(connection, row.invocation_id)
        return _as_it_stands(ended or row)


def _as_it_stands(row: Task) -> Outcome:
    reason = row.skipped_reason or (row.error or {}).get("message")
    until = None
    if row.status is InvocationStatus.WAITING:
        until = row.next_attempt_at or datetime.now(UTC) + LONGEST_WAIT
        if row.decision is not None:
            until = datetime.now(UTC)  # it came before anybody waited for it
    return Outcome(
        invocation_id=row.invocation_id,
        status=row.status,
        reason=reason,
        wait_until=until,
        is_partial=row.is_partial,
    )


def _decision_of_timeout(row: Task, now: datetime) -> dict[str, Any] | None:
    """What the timeout decides; None while there is time."""
    deadline = row.pending_deadline
    if deadline is None or deadline - now > _NEARLY:
        return None
    on_timeout = (row.wait or {}).get("onTimeout") or "fail"
    return {"decision": on_timeout, "comment": None, "by": None, "at": now.isoformat()}


def _decided(row: Task, decision: Mapping[str, Any]) -> tuple[Outcome, str | None]:
    """How an approval ends by its decision, and the type of the error."""
    what, by, comment = decision["decision"], decision["by"], decision["comment"]
    if what == "approve":
        return _done(row), None
    if by is None:
        status = InvocationStatus.FAILED_PERMANENT if what == "reject" else InvocationStatus.TIMED_OUT
        reason, error_type = "Nobody decided in time.", "NotDecided"
    else:
        status, error_type = InvocationStatus.FAILED_PERMANENT, "Rejected"
        reason = f"Rejected by {by}: {comment}" if comment else f"Rejected by {by}."
    return Outcome(invocation_id=row.invocation_id, status=status, reason=readable(reason)), error_type


def _unknown(invocation_id: UUID) -> ApplicationError:
    message = f"There is no invocation {invocation_id} in the database."
    return ApplicationError(message, type="UnknownInvocation", non_retryable=True)


def _done(row: Task) -> Outcome:
    return Outcome(invocation_id=row.invocation_id, status=InvocationStatus.SUCCEEDED)


def _skipped(row: Task) -> Outcome:
    reason = f"when is false: {row.when}"
    return Outcome(invocation_id=row.invocation_id, status=InvocationStatus.SKIPPED, reason=reason)


def _failed(row: Task, message: str) -> Outcome:
    reason = readable(message)
    return Outcome(invocation_id=row.invocation_id, status=InvocationStatus.FAILED_PERMANENT, reason=reason)
