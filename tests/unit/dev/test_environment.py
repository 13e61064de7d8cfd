import pytest

from latchflow.dev.environment import application, inherited

_SMTP = "127.0.0.1:2525"


def test_settings_of_another_installation_do_not_reach_the_stack() -> None:
    environ = {"DATABASE_URL": "x", "TEMPORAL_TLS": "x", "PGHOST": "x", "ENCRYPTION_KEY": "x", "GMAIL_USER": "me"}

    assert inherited(environ) == {"GMAIL_USER": "me"}


@pytest.mark.parametrize(
    ("given", "allowed"),
    [("", _SMTP), ("10.0.0.1", f"10.0.0.1,{_SMTP}"), (" 10.0.0.1, ", f"10.0.0.1,{_SMTP}")],
)
def test_egress_is_opened_for_the_sink_and_what_the_operator_allows(given: str, allowed: str) -> None:
    env = application({"HTTP_EGRESS_ALLOW": given}, {}, smtp_address=_SMTP)

    assert env["HTTP_EGRESS_ALLOW"] == allowed
