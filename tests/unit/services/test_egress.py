import pytest

from latchflow.errors import ConfigurationError
from latchflow.sdk import ServiceError
from latchflow.services.egress import EgressGuard


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "localhost",
        "LOCALHOST.",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "100.100.100.200",
        "192.0.0.192",
        "168.63.129.16",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "198.18.0.1",
        "::",
        "::1",
        "[::1]",
        "fe80::1",
        "fc00::1",
        "fd00:ec2::254",
        "fec0::1",
        "ff02::1",
        "2001:db8::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "2001:0:53aa:64c:0:0:80ff:fffe",
    ],
)
async def test_an_address_that_is_not_public_is_refused(host: str) -> None:
    guard = EgressGuard("")

    with pytest.raises(ServiceError, match="HTTP_EGRESS_ALLOW") as caught:
        await guard.resolve(host, 443)

    assert caught.value.kind == "denied"


@pytest.mark.parametrize("host", ["8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
async def test_a_public_address_is_let_through(host: str) -> None:
    addresses = await EgressGuard("").resolve(host, 443)

    assert addresses == [host]


@pytest.mark.parametrize(
    ("allow", "host", "port"),
    [
        ("127.0.0.1", "127.0.0.1", 80),
        ("127.0.0.1:8025", "127.0.0.1", 8025),
        ("10.0.0.0/8", "10.9.8.7", 5),
        ("192.168.0.0/16:443 , 10.0.0.0/8:80", "10.9.8.7", 80),
        ("::1", "::1", 80),
        ("[::1]:80", "::1", 80),
        ("[fd00::/8]:443", "fd12::1", 443),
        ("fd00::/8", "fd12::1", 443),
        ("localhost", "localhost", 80),
        ("LocalHost:80", "localhost.", 80),
        ("127.0.0.1:80", "::ffff:127.0.0.1", 80),
        ("127.0.0.0/8", "0x7f.1", 80),
    ],
)
async def test_an_entry_opens_what_it_names(allow: str, host: str, port: int) -> None:
    assert await EgressGuard(allow).resolve(host, port)


@pytest.mark.parametrize(
    ("allow", "host", "port"),
    [
        ("127.0.0.1:8025", "127.0.0.1", 8026),
        ("10.0.0.0/8", "192.168.0.1", 80),
        ("[::1]:80", "::1", 81),
        ("localhost", "127.0.0.1", 80),
        ("localhost:80", "localhost", 81),
    ],
)
async def test_an_entry_opens_nothing_else(allow: str, host: str, port: int) -> None:
    guard = EgressGuard(allow)

    with pytest.raises(ServiceError) as caught:
        await guard.resolve(host, port)

    assert caught.value.kind == "denied"


@pytest.mark.parametrize(
    "entry",
    [
        "127.0.0.1:x",
        "127.0.0.1:0",
        "127.0.0.1:70000",
        "10.0.0.1/8",
        "300.1.1.1",
        "[::1",
        "[::1]8",
        "a b",
        "http://x",
        ":80",
    ],
)
def test_a_malformed_entry_is_named(entry: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        EgressGuard(f"10.0.0.1,{entry}")

    assert repr(entry) in caught.value.message


async def test_a_name_that_does_not_exist_may_be_tried_again() -> None:
    guard = EgressGuard("")

    with pytest.raises(ServiceError) as caught:
        await guard.resolve("nowhere.invalid", 443)

    assert caught.value.kind == "retryable"


@pytest.mark.parametrize("host", ["", "a b", "a\0b", "x" * 64 + ".com", "a..b"])
async def test_what_cannot_be_a_host_is_invalid(host: str) -> None:
    guard = EgressGuard("")

    with pytest.raises(ServiceError) as caught:
        await guard.resolve(host, 443)

    assert caught.value.kind == "validation"
