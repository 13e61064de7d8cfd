import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latchflow.crypto import Keyring
from latchflow.errors import ConfigurationError, SealError
from latchflow.key_material import new_encryption_key

_KEY = base64.b64encode(bytes(range(32))).decode()
_OTHER = base64.b64encode(bytes(range(32, 64))).decode()


def ring(value: str = f"one:{_KEY}") -> Keyring:
    return Keyring.from_setting(value)


@given(st.binary(max_size=500), st.text(max_size=60))
def test_what_was_sealed_for_a_place_opens_there(plaintext: bytes, place: str) -> None:
    try:
        place.encode()
    except UnicodeEncodeError:
        return
    keys = ring()

    assert keys.open(keys.seal(plaintext, place), place) == plaintext


def test_the_same_value_sealed_twice_looks_different() -> None:
    assert ring().seal(b"value", "place") != ring().seal(b"value", "place")


def test_a_value_does_not_open_in_another_place() -> None:
    keys = ring()
    sealed = keys.seal(b"value", "action_definitions/1/config/a")

    with pytest.raises(SealError) as caught:
        keys.open(sealed, "action_definitions/2/config/a")
    assert caught.value.key_id == "one"


def test_no_changed_bit_goes_unnoticed() -> None:
    keys = ring()
    sealed = keys.seal(b"v", "place")
    for position in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[position // 8] ^= 1 << position % 8

        with pytest.raises(SealError):
            keys.open(bytes(changed), "place")


def test_no_truncated_value_opens() -> None:
    keys = ring()
    sealed = keys.seal(b"value", "place")
    for length in range(len(sealed)):
        with pytest.raises(SealError):
            keys.open(sealed[:length], "place")


@given(st.binary(max_size=80))
def test_arbitrary_bytes_are_refused_and_never_crash(envelope: bytes) -> None:
    with pytest.raises(SealError):
        ring().open(envelope, "place")


def test_a_value_of_a_key_that_left_the_ring_names_that_key() -> None:
    sealed = ring(f"old-key:{_OTHER}").seal(b"value", "place")

    with pytest.raises(SealError, match="'old-key' is not in ENCRYPTION_KEY") as caught:
        ring().open(sealed, "place")
    assert caught.value.key_id == "old-key"


def test_the_first_key_seals_and_all_open() -> None:
    old = ring(f"old:{_OTHER}")
    both = ring(f"new:{_KEY}, old:{_OTHER}")

    assert both.writing_key_id == "new"
    assert both.open(old.seal(b"value", "place"), "place") == b"value"
    assert ring(f"new:{_KEY}").open(both.seal(b"value", "place"), "place") == b"value"


def test_a_key_id_that_names_another_key_now_does_not_open() -> None:
    sealed = ring(f"one:{_OTHER}").seal(b"value", "place")

    with pytest.raises(SealError, match="another key"):
        ring().open(sealed, "place")


def test_a_bare_key_has_the_same_derived_id_everywhere() -> None:
    assert ring(_KEY).writing_key_id == ring(_KEY).writing_key_id != ring(_OTHER).writing_key_id


def test_a_bare_key_may_be_urlsafe_base64() -> None:
    key = base64.urlsafe_b64encode(b"\xfb\xff" * 16).decode()

    assert ring(f"one:{key}").open(ring(f"one:{key}").seal(b"value", "p"), "p") == b"value"


def test_a_generated_key_is_accepted_and_fresh() -> None:
    first, second = new_encryption_key(), new_encryption_key()

    assert ring(first).writing_key_id == first.partition(":")[0]
    assert first != second


def test_json_survives_sealing_as_it_is() -> None:
    value = {"text": "ü \x00 😀", "numbers": [1, 2.5, None, True], "deep": {"a": {}}}
    keys = ring()

    assert keys.open_json(keys.seal_json(value, "place"), "place") == value


@pytest.mark.parametrize(
    "value",
    [
        "",
        "   ",
        "one:SECRETSECRET!",
        f"one:{base64.b64encode(bytes(16)).decode()}",
        f"one:{_KEY},",
        f"one:{_KEY},one:{_OTHER}",
        f"{_KEY}:one",
        f"a b:{_KEY}",
        f"{'x' * 33}:{_KEY}",
        f"ö:{_KEY}",
        "one:ключ",
        f"one:{_KEY[:-1]}",
        f"one={_KEY}",
    ],
)
def test_a_malformed_setting_is_refused_without_being_quoted(value: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Keyring.from_setting(value)
    message = caught.value.message
    secrets = [part.rpartition(":")[2] for part in value.split(",")] + [
        part.partition(":")[0] for part in value.split(",")
    ]
    assert "ENCRYPTION_KEY" in message
    assert not [secret for secret in secrets if len(secret) > 8 and secret in message]
