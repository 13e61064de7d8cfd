import json
import stat
from pathlib import Path

import pytest

from latchflow.crypto import Keyring
from latchflow.dev.stack_keys import load_keys
from latchflow.errors import ConfigurationError


def test_keys_are_made_once_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    made = load_keys(tmp_path)

    assert load_keys(tmp_path) == made
    assert stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode) == 0o600
    assert made.admin_token.startswith("lfk_")
    assert len(made.admin_token) == 4 + 43
    assert Keyring.from_setting(made.encryption_key)
    assert made.admin_token not in repr(made)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"encryption_key": "k:x"}'])
def test_a_damaged_file_is_named_and_left_as_it_is(tmp_path: Path, content: str) -> None:
    path = tmp_path / "secrets.json"
    path.write_text(content)

    with pytest.raises(ConfigurationError, match=r"secrets\.json cannot be read"):
        load_keys(tmp_path)
    assert path.read_text() == content


def test_unknown_keys_are_no_reason_to_make_new_ones(tmp_path: Path) -> None:
    load_keys(tmp_path)
    path = tmp_path / "secrets.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "other": "x"}))

    with pytest.raises(ConfigurationError, match=r"secrets\.json cannot be read"):
        load_keys(tmp_path)


def test_a_database_without_its_keys_is_reported(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()

    with pytest.raises(ConfigurationError, match="is missing"):
        load_keys(tmp_path)
