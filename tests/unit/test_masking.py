import base64
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latchflow.masking import MASK, Masker, mask, printable, readable, strings_in

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
        quote(_SECRET, safe="").lower(),
        quote(_SECRET, safe="!'()*"),
        quote_plus(_SECRET),
        base64.b64encode(_SECRET.encode()).decode(),
        base64.urlsafe_b64encode(_SECRET.encode()).decode().rstrip("="),
        _SECRET.encode().hex(),
        _SECRET.encode().hex().upper(),
    ],
)
def test_a_secret_is_masked_in_its_common_encodings(written: str) -> None:
    assert written not in mask(f"refused: {written}!", [_SECRET])


@pytest.mark.parametrize("before", ["", "a", "ab", "abc", "user:"])
@pytest.mark.parametrize("after", ["", "x", "xy"])
def test_a_secret_inside_an_encoded_text_is_masked(before: str, after: str) -> None:
    secret = "hunter2?>hunter2?>"
    encoded = base64.b64encode(f"{before}{secret}{after}".encode()).decode()
    safe = encoded.replace("+", "-").replace("/", "_")

    for text in (encoded, safe):
        shown = mask(text, [secret])
        assert MASK in shown
        assert len(shown.replace(MASK, "")) <= len(encoded) - len(secret)


def test_what_follows_the_scheme_of_a_header_is_masked_alone_too() -> None:
    basic = "Basic " + base64.b64encode(b"ada:pass-word").decode()

    shown = mask("token abcd-1234, then pass-word", ["Bearer abcd-1234", basic])

    assert shown == f"token {MASK}, then {MASK}"


def test_a_value_is_masked_in_its_names_and_strings_and_else_the_same() -> None:
    masker = Masker(["abcd1234"])
    clean = {"a": [1, "x", None, {"b": 1.5}]}

    assert masker.value({"a": ["x abcd1234", 1], "abcd1234": {"b": "y"}}) == {"a": [f"x {MASK}", 1], MASK: {"b": "y"}}
    assert masker.value(clean) is clean
    assert not Masker(["abc", ""])


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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("one\ttwo\r\nthree", "one\ttwo\nthree"),
        ("\x1b[31mred\x07", "\ufffd[31mred\ufffd"),
        ("a\u202eb\x9b\x00\ud800", "a\ufffdb\ufffd\ufffd\ufffd"),
        ("Grüße 🎉", "Grüße 🎉"),
    ],
)
def test_a_printable_text_moves_no_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_text_that_answers_for_itself_is_masked_all_the_same() -> None:
    class Sly(str):
        __slots__ = ()

        def replace(self, *_: object) -> str:
            return str(self)

    assert Masker(["hunter2-hunter2"]).text(Sly("the secret is hunter2-hunter2")) == "the secret is [secret]"
