"""The addresses under which invocations are called back."""

from uuid import UUID

from latchflow.errors import UnavailableError
from latchflow.sdk import ServiceError
from latchflow.store import callbacks
from latchflow.store.database import Database
from latchflow.store.tokens import new_token


class Callbacks:
    """Implements `latchflow.runtime.guard.CallbackBackend`.

    Args:
        database: Where they are.
        public_url: Under which the API is reached from outside; empty: nobody can be told an address.
    """

    def __init__(self, database: Database, *, public_url: str) -> None:
        self._database = database
        self._public_url = public_url

    async def mint(self, invocation_id: UUID, *, attempt: int) -> str:
        """A new address.

        Raises:
            ServiceError: ``fatal`` without a public address, or with too many that nobody has used; ``denied`` when
                the attempt is over; ``retryable`` while the database is away.
        """
        if not self._public_url:
            message = "Callbacks need LATCHFLOW_PUBLIC_URL, the address under which the API is reached. Set it."
            raise ServiceError("fatal", message)
        token = new_token()
        try:
            async with self._database.transaction() as connection:
                refusal = await callbacks.mint(connection, invocation_id, token, attempt=attempt)
        except UnavailableError as error:
            raise ServiceError("retryable", error.message) from error
        if refusal == "over":
            raise ServiceError("denied", "The attempt is over: its time was up, or another one has begun.")
        if refusal == "too_many":
            raise ServiceError(
                "fatal",
                f"This invocation has {callbacks.MOST_OPEN} callback addresses that nobody has called. Make one, and "
                "keep it in the state of Pending.",
            )
        return f"{self._public_url}/callbacks/{token}"
