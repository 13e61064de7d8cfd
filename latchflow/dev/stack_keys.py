"""The secrets of one data directory, made at its first start."""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from latchflow.dev.private_file import write_private
from latchflow.errors import ConfigurationError
from latchflow.key_material import new_encryption_key, new_secret, new_token


@dataclass(frozen=True, kw_only=True)
class StackKeys:
    """Everything secret that a stack keeps.

    Attributes:
        encryption_key: ``ENCRYPTION_KEY`` of API and worker.
        admin_token: The API token with all scopes.
        codec_ui_key: The path segment under which the Web UI finds its decoder.
        postgres_password: Of the superuser, which only this package uses.
        owner_password: Of the role that owns the database and runs migrations.
        app_password: Of the application's role.
    """

    encryption_key: str = field(default_factory=new_encryption_key, repr=False)
    admin_token: str = field(default_factory=new_token, repr=False)
    codec_ui_key: str = field(default_factory=new_secret, repr=False)
    postgres_password: str = field(default_factory=new_secret, repr=False)
    owner_password: str = field(default_factory=new_secret, repr=False)
    app_password: str = field(default_factory=new_secret, repr=False)


def load_keys(data_dir: Path) -> StackKeys:
    """The keys of ``data_dir``, made and written down when it has none.

    Raises:
        ConfigurationError: The file is damaged, or missing although there is a database that was made with it.
    """
    path = data_dir / "secrets.json"
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        missing = {one.name for one in fields(StackKeys)} - set(stored)
        if missing:
            raise ValueError(f"without {', '.join(sorted(missing))}")
        return StackKeys(**stored)
    except FileNotFoundError:
        if (data_dir / "postgres").exists():
            raise ConfigurationError(
                f"{path} is missing, and the database beside it opens with nothing else. "
                f"Put the file back, or remove {data_dir} to begin anew."
            ) from None
    except (OSError, ValueError, TypeError) as error:
        raise ConfigurationError(
            f"{path} cannot be read ({error}). Mend it, or remove {data_dir} to begin anew."
        ) from error
    keys = StackKeys()
    write_private(path, json.dumps(asdict(keys), indent=2))
    return keys
