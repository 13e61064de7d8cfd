import pytest

from examples.demo import step


@pytest.mark.parametrize(
    "error", [ValueError("no [/] number"), IndexError("none"), AssertionError("wrong"), KeyError("id")]
)
def test_a_step_that_fails_in_any_way_is_named_with_its_reason(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, step("Read the mail"):
        raise error

    assert ended.value.code == 1
    assert f"FAILED at the step Read the mail: {type(error).__name__}: {error}" in capsys.readouterr().out
