"""Connecting to Temporal with its standard environment (``TEMPORAL_ADDRESS``, ``TEMPORAL_NAMESPACE``, TLS, API key)."""

from datetime import timedelta
from typing import Any

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.envconfig import ClientConfig
from temporalio.runtime import Runtime
from temporalio.service import RetryConfig, RPCError, RPCStatusCode

from latchflow.crypto import Keyring
from latchflow.errors import ConfigurationError, UnavailableError
from latchflow.temporal.codec import data_converter

_HOW = "Start it, or correct TEMPORAL_ADDRESS and TEMPORAL_NAMESPACE."


async def connect(keyring: Keyring, *, identity: str, runtime: Runtime | None = None, lazy: bool = False) -> Client:
    """A client whose payloads are sealed.

    Args:
        keyring: Seals and opens the payloads.
        identity: Names this process in Temporal's records.
        runtime: Carries the SDK's metrics; None takes the process's default.
        lazy: Connect at the first call; a worker needs a client that is connected.

    Raises:
        ConfigurationError: The profile cannot be read, or nobody answers there.
    """
    config = _connect_config()
    try:
        return await Client.connect(
            **config,
            data_converter=data_converter(keyring),
            identity=identity,
            runtime=runtime,
            lazy=lazy,
            retry_config=RetryConfig(max_elapsed_time_millis=3000),
        )
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ConfigurationError(f"Temporal at {config['target_host']} cannot be reached: {reason}. {_HOW}") from None


async def check_namespace(client: Client) -> None:
    """Ask for the namespace.

    Raises:
        ConfigurationError: Temporal answered, and the namespace does not exist or may not be used.
        UnavailableError: Nobody answered.
    """
    try:
        await client.workflow_service.describe_namespace(
            DescribeNamespaceRequest(namespace=client.namespace), timeout=timedelta(seconds=3)
        )
    except (RPCError, RuntimeError) as error:
        if isinstance(error, RPCError) and error.status in (
            RPCStatusCode.NOT_FOUND,
            RPCStatusCode.PERMISSION_DENIED,
            RPCStatusCode.UNAUTHENTICATED,
        ):
            message = f"Temporal refuses the namespace {client.namespace!r}: {error.message}. {_HOW}"
            raise ConfigurationError(message) from None
        reason = str(error).splitlines()[0]
        where = client.service_client.config.target_host
        raise UnavailableError(f"Temporal at {where} cannot be reached: {reason}. {_HOW}") from None


def _connect_config() -> dict[str, Any]:
    try:
        config: dict[str, Any] = dict(ClientConfig.load_client_connect_config())
    except (RuntimeError, ValueError) as error:
        message = f"Temporal's environment or profile cannot be read: {str(error).splitlines()[0]}"
        raise ConfigurationError(message) from None
    config.setdefault("target_host", "127.0.0.1:7233")
    config.setdefault("namespace", "default")
    return config
