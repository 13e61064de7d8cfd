"""Connecting to Temporal with its standard environment (``TEMPORAL_ADDRESS``, ``TEMPORAL_NAMESPACE``, TLS, API key)."""

from datetime import timedelta
from typing import Any

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.envconfig import ClientConfig
from temporalio.runtime import Runtime
from temporalio.service import RetryConfig, RPCError, RPCStatusCode

from latchflow.crypto import Keyring
from latchflow.errors import ConfigurationError, UnavailableError, UnreachableError
from latchflow.temporal.codec import data_converter

_HOW = "Start it, or correct TEMPORAL_ADDRESS and TEMPORAL_NAMESPACE."
_TRANSPORT_ERRORS = {
    "dns error": "its host name is not known",
    "InvalidCertificate": "its certificate is not trusted (TEMPORAL_TLS_SERVER_CA_CERT_PATH)",
    "tls handshake": "it does not speak TLS",
    "after connection": "whoever answers there does not speak Temporal's protocol, or wants TLS",
}


async def connect(keyring: Keyring, *, identity: str, runtime: Runtime | None = None, lazy: bool = False) -> Client:
    """A client whose payloads are sealed.

    Args:
        keyring: Seals and opens the payloads.
        identity: Names this process in Temporal's records.
        runtime: Carries the SDK's metrics; None takes the process's default.
        lazy: Connect at the first call; a worker needs a client that is connected.

    Raises:
        ConfigurationError: The profile cannot be read, or nobody answers there (`UnreachableError`).
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
    except ValueError as error:
        raise _malformed(config["target_host"], error) from None
    except RuntimeError as error:
        message = f"Temporal at {config['target_host']} cannot be reached: {_sentence(error)} {_HOW}"
        raise UnreachableError(message) from None


async def check_namespace(client: Client) -> None:
    """Ask for the namespace.

    Raises:
        ConfigurationError: The address is malformed, or Temporal answered, and the namespace does not exist or may
            not be used.
        UnavailableError: Nobody answered.
    """
    where = client.service_client.config.target_host
    try:
        await client.workflow_service.describe_namespace(
            DescribeNamespaceRequest(namespace=client.namespace), timeout=timedelta(seconds=3)
        )
    except ValueError as error:  # a lazy client reads its address now
        raise _malformed(where, error) from None
    except (RPCError, RuntimeError) as error:
        if isinstance(error, RPCError) and error.status in (
            RPCStatusCode.NOT_FOUND,
            RPCStatusCode.PERMISSION_DENIED,
            RPCStatusCode.UNAUTHENTICATED,
        ):
            message = f"Temporal refuses the namespace {client.namespace!r}: {_sentence(error)} {_HOW}"
            raise ConfigurationError(message) from None
        raise UnavailableError(f"Temporal at {where} cannot be reached: {_sentence(error)} {_HOW}") from None


def _connect_config() -> dict[str, Any]:
    try:
        config: dict[str, Any] = dict(ClientConfig.load_client_connect_config())
    except (RuntimeError, ValueError) as error:
        message = (
            f"Temporal's environment or profile cannot be read: {_sentence(error)} Correct the TEMPORAL_ variables."
        )
        raise ConfigurationError(message) from None
    except OSError as error:
        message = f"{error.filename}, which a TEMPORAL_TLS_ variable or the profile names, cannot be read"
        raise ConfigurationError(f"{message}: {error.strerror}. Correct the path.") from None
    config.setdefault("target_host", "127.0.0.1:7233")
    config.setdefault("namespace", "default")
    return config


def _malformed(address: str, error: ValueError) -> ConfigurationError:
    how = "Correct TEMPORAL_ADDRESS (HOST:PORT) and the TEMPORAL_TLS_ variables."
    return ConfigurationError(f"Temporal at {address!r} cannot be used: {_sentence(error)} {how}")


def _sentence(error: Exception) -> str:
    """What an error of the SDK says, as a sentence; the errors of its transport are Rust's debugging text."""
    text = (str(error).splitlines() or [""])[0]
    if "transport::Error" in text:
        reasons = (reason for mark, reason in _TRANSPORT_ERRORS.items() if mark in text)
        return f"{next(reasons, 'nobody answers there')}."
    return f"{text.rstrip('. ')}."
