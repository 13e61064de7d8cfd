import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latchflow.masking import MASK, mask, readable, strings_in

_SECRET = 'p@ss/w"ö\\rd+1'


def test_every_occurrence_of_a_secret_is_masked() -> None:
    assert mask("token abcd1234, again abcd1234", ["abcd1234"]) == f"token {MASK}, again {MASK}"


def test_a_secret_that_holds_another_is_masked_whole() -> None:
    assert mask("it was abcd1234", ["abcd", "abcd1234"]) == f"it was {MASK}"


def test_words_shorter_than_four_letters_are_left_alone() -> None:
    assert mask("to be or not to be", ["be", "", "or"]) == "to be or not to be"


@pytest.mark.parametrize(
    "written",
    [
        _SECRET,
        quote(_SECRET, safe=""),
        quote(_SECRET),
        json.dumps(_SECRET)[1:-1],
        json.dumps(_SECRET, ensure_ascii=False)[1:-1],
        repr(_SECRET)[1:-1],
        base64.b64encode(_SECRET.encode()).decode(),
        base64.urlsafe_b64encode(_SECRET.encode()).decode().rstrip("="),
        _SECRET.encode().hex(),
    ],
)
def test_a_secret_is_masked_in_its_common_encodings(written: str) -> None:
    assert written not in mask(f"refused: {written}!", [_SECRET])


@given(st.text(min_size=4, max_size=20), st.text(max_size=40), st.text(max_size=40))
def test_a_masked_text_never_holds_the_secret(secret: str, before: str, after: str) -> None:
    masked = mask(f"{before}{secret}{after}", [secret])

    assert secret not in masked.replace(MASK, "") or secret in MASK or secret in before + after


def test_strings_are_found_at_any_depth_and_keys_are_none() -> None:
    assert strings_in({"a": ["x", {"b": ("y", 1, None)}], "c": "z"}) == ["x", "y", "z"]


@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=50))
def test_a_readable_text_can_be_stored_and_sent(text: str) -> None:
    shown = readable(text)

    assert "\x00" not in shown
    assert shown.encode().decode() == shown


def test_a_readable_text_keeps_everything_else() -> None:
    assert readable("line\none\t😀 ö") == "line\none\t😀 ö"
    assert readable("a\x00b\ud800c") == "a\ufffdb\ufffdc"
