"""What counts as an address."""

import multiprocessing

import pytest

from latchflow.sdk import EmailAddress, ServiceError
from latchflow.services.email_message import check_address


@pytest.mark.parametrize("address", ["a@b", "a.b+c@b.example.org", "a@xn--bcher-kva.example", "a@b-c.d.", "a@1.2.3.4"])
def test_an_address_is_taken(address: str) -> None:
    check_address(EmailAddress(address=address))


@pytest.mark.parametrize(
    "address", ["a", "a@", "@b", "a@b..c", "a@.b", "a@-b", "a@b-", "a@b_c", "a@b\n", "a" * 254 + "@b"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ServiceError, match="is not an email address"):
        check_address(EmailAddress(address=address))


@pytest.mark.parametrize("domain", ["a" * 200 + "_", "a-" * 100 + "_", "a." * 100 + "_", "a" * 100_000 + "_"])
def test_no_text_takes_long_to_refuse(domain: str) -> None:
    # In a process of its own: a pattern that hangs holds the interpreter's lock, and no time limit strikes.
    process = multiprocessing.get_context("spawn").Process(target=_refuse, args=(f"a@{domain}",))
    process.start()
    process.join(20)
    is_hanging = process.is_alive()
    process.kill()
    process.join()

    assert not is_hanging
    assert process.exitcode == 0


def _refuse(address: str) -> None:
    with pytest.raises(ServiceError):
        check_address(EmailAddress(address=address))
