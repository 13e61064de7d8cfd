"""A client of S3 that reads nothing but the provider's config, and connects where the egress guard lets it."""

import os
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Any, cast

from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import AioSession
from aiohttp.abc import AbstractResolver, ResolveResult
from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES
from yarl import URL

from latchflow.sdk import Network, ServiceError

from .config import S3Config

if TYPE_CHECKING:
    from aiohttp import AddrInfoType
    from types_aiobotocore_s3 import S3Client

_Address = tuple[IPv4Address | IPv6Address, int]

_REMEMBERED_SECONDS = 600.0
_CONNECTIONS = 100

# The library's variables with their defaults, and without the names under which it would look for them in the
# environment and in the files of a user's home.
_VARIABLES: Mapping[str, Any] = {
    name: (None, None, default, convert) for name, (_, _, default, convert) in BOTOCORE_DEFAUT_SESSION_VARIABLES.items()
} | dict.fromkeys(("config_file", "credentials_file"), (None, None, os.devnull, None))


class Checked:
    """The egress guard, and the addresses that it let through: sockets are made for those only.

    A client asks no resolver about a host that is an address, and follows redirects to one by itself.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._seen: dict[_Address, float] = {}

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """The addresses of a host, checked. Raises as `latchflow.sdk.Network.resolve`."""
        addresses = await self._network.resolve(host, port)
        now = time.monotonic()
        self._seen = {address: at for address, at in self._seen.items() if now - at < _REMEMBERED_SECONDS}
        self._seen.update(((ip_address(address), port), now) for address in addresses)
        return addresses

    def make_socket(self, address: "AddrInfoType") -> socket.socket:
        """A socket to an address that was checked.

        Raises:
            ServiceError: It was not.
        """
        family, kind, protocol, _, target = address
        host, port = str(target[0]), int(target[1])
        if (ip_address(host), port) not in self._seen:
            raise ServiceError("denied", f"{host} port {port}: the server leads to an address that was not checked.")
        return socket.socket(family, kind, protocol)


class GuardedResolver(AbstractResolver):
    """Lets the egress guard say which addresses a host has."""

    def __init__(self, checked: Checked) -> None:
        self._checked = checked

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
            for address in await self._checked.resolve(host, port)
        ]

    async def close(self) -> None:
        """Nothing to close."""


def _guarded_session(checked: Checked) -> type[AIOHTTPSession]:
    """A session that asks the guard before each request: what a socket or a resolver says is tried several times."""

    class GuardedSession(AIOHTTPSession):
        async def send(self, request: Any) -> Any:
            url = URL(request.url, encoded=True)  # read as the client reads it
            await checked.resolve(url.host or "", url.port or 0)
            return await super().send(request)

    return GuardedSession


async def open_client(
    config: S3Config, secrets: Mapping[str, Any], network: Network, stack: AsyncExitStack
) -> "S3Client":
    """Make a client; the stack closes it."""
    is_path_style = config.force_path_style if config.force_path_style is not None else config.endpoint_url is not None
    checked = Checked(network)
    options = AioConfig(
        connector_args={"resolver": GuardedResolver(checked), "socket_factory": checked.make_socket},
        http_session_cls=_guarded_session(checked),
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
