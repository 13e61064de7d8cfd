"""A client of S3 that reads nothing but the provider's config, and connects where the egress guard lets it."""

import os
import socket
from collections.abc import Mapping
from contextlib import AsyncExitStack
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from aiohttp.abc import AbstractResolver, ResolveResult
from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES

from latchflow.sdk import Network

from .config import S3Config

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

_CONNECTIONS = 100
_DEFAULT_PORTS = {"http": 80, "https": 443}

# The library's variables with their defaults, and without the names under which it would look for them in the
# environment and in the files of a user's home.
_VARIABLES: Mapping[str, Any] = {
    name: (None, None, default, convert) for name, (_, _, default, convert) in BOTOCORE_DEFAUT_SESSION_VARIABLES.items()
} | dict.fromkeys(("config_file", "credentials_file"), (None, None, os.devnull, None))


class GuardedResolver(AbstractResolver):
    """Lets the egress guard say which addresses a host has."""

    def __init__(self, network: Network) -> None:
        self._network = network

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses that were checked."""
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in await self._network.resolve(host, port)
        ]

    async def close(self) -> None:
        """Nothing to close."""


async def open_client(
    config: S3Config, secrets: Mapping[str, Any], network: Network, stack: AsyncExitStack
) -> "S3Client":
    """Make a client; the stack closes it."""
    is_path_style = config.force_path_style if config.force_path_style is not None else config.endpoint_url is not None
    options = AioConfig(
        connector_args={"resolver": GuardedResolver(network)},
        proxies={},  # None would take those of the environment
        ignore_configured_endpoint_urls=True,
        signature_version="s3v4",
        s3={"addressing_style": "path" if is_path_style else "virtual"},
        connect_timeout=10,
        read_timeout=60,
        max_pool_connections=_CONNECTIONS,  # a download holds one as long as its receiver takes
        retries={"mode": "standard", "total_max_attempts": 3},
        # Servers that are not AWS's know the newer checksums seldom; TLS and the signature protect the way.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    client = AioSession(session_vars=_VARIABLES).create_client(
        "s3",
        region_name=config.region,
        endpoint_url=config.endpoint_url,
        verify=True,
        aws_access_key_id=secrets["accessKeyId"],
        aws_secret_access_key=secrets["secretAccessKey"],
        aws_session_token=secrets.get("sessionToken"),
        config=options,
    )
    return cast("S3Client", await stack.enter_async_context(client))


def address_of(endpoint_url: str | None) -> tuple[str, int] | None:
    """Host and port of the endpoint that was configured."""
    if endpoint_url is None:
        return None
    parts = urlsplit(endpoint_url)
    return str(parts.hostname), parts.port or _DEFAULT_PORTS[parts.scheme]
