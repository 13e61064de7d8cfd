"""The egress guard: connections leave for public addresses only, unless the operator opened others.

What is checked is what the name resolves to, so ``127.1``, ``0x7f000001`` and a public name for a private address are
refused alike; and the connection goes to the address that was checked, so a second look-up cannot change it.
"""

import asyncio
import re
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from latchflow.errors import ConfigurationError
from latchflow.sdk import ServiceError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Beyond what `ipaddress` calls not global, which differs between the releases of Python.
_FORBIDDEN = tuple(
    ip_network(text)
    for text in (
        "100.64.0.0/10",  # shared address space of carriers (RFC 6598); one cloud's metadata service lives in it
        "168.63.129.16/32",  # a public address that one cloud answers with its host's metadata
        "192.0.0.0/24",  # IETF protocol assignments; another cloud's metadata service
        "192.88.99.0/24",  # 6to4 relays
        "64:ff9b:1::/48",  # NAT64 for local use
        "2001::/23",  # IETF protocol assignments, with Teredo
        "3fff::/20",  # documentation
        "5f00::/16",  # segment routing
        "fec0::/10",  # site-local
    )
)
_NAT64 = ip_network("64:ff9b::/96")
_HOST = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*", re.IGNORECASE)


@dataclass(frozen=True)
class _Opening:
    """One entry of the allow list; `port` None opens all ports."""

    host: str | None
    network: Network | None
    port: int | None

    def opens(self, host: str, address: Address, port: int) -> bool:
        if self.port is not None and self.port != port:
            return False
        return host == self.host if self.network is None else address in self.network


class EgressGuard:
    """Decides which addresses a connection may go to.

    Args:
        allow: ``HTTP_EGRESS_ALLOW``: hosts, addresses or CIDR blocks, separated by commas, each with an optional
            ``:port``; IPv6 stands in brackets when a port follows. A host opens whatever it resolves to.

    Raises:
        ConfigurationError: An entry is malformed; the message names it.
    """

    def __init__(self, allow: str) -> None:
        self._openings = tuple(_parse(entry.strip()) for entry in allow.split(",") if entry.strip())

    async def current(self) -> "EgressGuard":
        """Itself: what it allows never changes. `latchflow.services.live_egress` has one that does."""
        return self

    async def resolve(self, host: str, port: int) -> list[str]:
        """Look `host` up and check every address it has.

        Returns:
            The addresses to connect to, in the order to try them. Connect to these and not to the name.

        Raises:
            ServiceError: ``denied`` when any of the addresses is refused, ``retryable`` when the look-up failed,
                ``validation`` for what cannot be a host.
        """
        name = _normalised(host)
        try:
            found = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            raise ServiceError("retryable", f"{host}: the host cannot be resolved ({error.strerror}).") from error
        except (UnicodeError, ValueError) as error:
            raise ServiceError("validation", f"{host!r} is not a host name.") from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        for text in addresses:
            address = _effective(ip_address(text))
            if _is_forbidden(address) and not any(entry.opens(name, address, port) for entry in self._openings):
                raise ServiceError(
                    "denied",
                    f"{host} port {port} leads to {text}, which is not a public address. If plugins shall reach it, "
                    f"an operator adds {_entry_for(address, port)} to HTTP_EGRESS_ALLOW.",
                )
        return addresses


def _normalised(host: str) -> str:
    name = host.strip("[]").rstrip(".").lower()
    if not name or "\0" in name or any(character.isspace() for character in name):
        raise ServiceError("validation", f"{host!r} is not a host name.")
    return name


def _effective(address: Address) -> Address:
    """The IPv4 address that an IPv6 form of it leads to; any other address is itself."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64 or 1 < int(address) < 1 << 32:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _is_forbidden(address: Address) -> bool:
    return (
        not address.is_global
        or address.is_multicast
        or address.is_reserved
        or any(address in network for network in _FORBIDDEN)
    )


def _entry_for(address: Address, port: int) -> str:
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def _parse(entry: str) -> _Opening:
    host, port = _split_port(entry)
    try:
        return _Opening(None, ip_network(host), port)
    except ValueError as error:
        if "/" in host or ":" in host or not _HOST.fullmatch(host) or re.fullmatch(r"[\d.]+", host):
            raise _malformed(entry, str(error)) from None
    return _Opening(host.rstrip(".").lower(), None, port)


def _split_port(entry: str) -> tuple[str, int | None]:
    if entry.startswith("["):
        host, bracket, rest = entry[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise _malformed(entry, "the closing bracket of the IPv6 address is missing or followed by something else")
        return host, _port(entry, rest[1:]) if rest else None
    if entry.count(":") == 1:
        host, _, digits = entry.partition(":")
        return host, _port(entry, digits)
    return entry, None


def _port(entry: str, digits: str) -> int:
    if not (digits.isascii() and digits.isdigit() and 0 < int(digits) < 65536):
        raise _malformed(entry, f"{digits!r} is not a port")
    return int(digits)


def _malformed(entry: str, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"HTTP_EGRESS_ALLOW: the entry {entry!r} is malformed: {reason}. Write hosts, addresses or CIDR blocks, each "
        "with an optional :port, separated by commas, for example 10.1.2.3:8443,internal.example.com,[fd00::/8]:443."
    )
