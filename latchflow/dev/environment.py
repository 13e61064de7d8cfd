"""The environments of the stack's programs: the operator's own, with what belongs to the stack put in its place."""

from collections.abc import Mapping

# A setting of the operator's production must not reach a program of the stack: not by its own name, and not by those
# that the client libraries read (libpq: PG…; the Temporal SDK: TEMPORAL_…).
_STACK_PREFIXES = ("TEMPORAL_", "PG")
_STACK_NAMES = frozenset(
    {
        "DATABASE_URL",
        "DATABASE_MIGRATION_URL",
        "ENCRYPTION_KEY",
        "LATCHFLOW_API_HOST",
        "LATCHFLOW_API_PORT",
        "LATCHFLOW_API_URL",
        "LATCHFLOW_BOOTSTRAP_TOKEN",
        "LATCHFLOW_BUILD_ID",  # nobody promotes a build there, so its workers would get nothing
        "LATCHFLOW_CODEC_UI_KEY",
        "LATCHFLOW_PUBLIC_URL",
        "LATCHFLOW_STORAGE_DIR",
        "LATCHFLOW_TEMPORAL_UI_URL",
        "LATCHFLOW_TOKEN",
        "LATCHFLOW_WORKER_METRICS_ADDRESS",
        "SMTP_FROM",
        "SMTP_URL",
    }
)


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """The operator's environment without what the stack itself decides."""
    return {
        name: value
        for name, value in environ.items()
        if name not in _STACK_NAMES and not name.startswith(_STACK_PREFIXES)
    }


def application(environ: Mapping[str, str], own: Mapping[str, str], *, smtp_address: str) -> dict[str, str]:
    """The environment of API and workers.

    Args:
        environ: The operator's.
        own: What the stack decides.
        smtp_address: ``host:port`` of the mail sink, the one loopback address that the egress guard lets through.
    """
    allowed = [environ.get("HTTP_EGRESS_ALLOW", "").strip(" ,"), smtp_address]
    return {
        **inherited(environ),
        "HTTP_EGRESS_ALLOW": ",".join(part for part in allowed if part),
        "SMTP_URL": f"smtp://{smtp_address}",
        "SMTP_FROM": "latchflow@localhost",
        "LATCHFLOW_LOG_FORMAT": "console",
        "PYTHONUNBUFFERED": "1",
        **own,
    }
