import stat
from pathlib import Path

import pytest

from latchflow.dev.data_dir import claim_data_dir, empty_data_dir
from latchflow.errors import ConfigurationError


def test_a_folder_of_somebody_else_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "secrets.json").write_text("mine")
    tmp_path.chmod(0o755)

    with (
        pytest.raises(ConfigurationError, match="no data directory of a stack"),
        claim_data_dir(tmp_path, must_be_own=True),
    ):
        pass

    assert {path.name for path in tmp_path.iterdir()} == {"logs", "secrets.json"}
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


@pytest.mark.parametrize("kind", ["missing", "empty", "used"])
def test_a_folder_of_a_stack_is_taken(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "data"
    if kind != "missing":
        folder.mkdir()
    if kind == "used":
        with claim_data_dir(folder):
            (folder / "secrets.json").touch()

    with claim_data_dir(folder, must_be_own=True):
        assert (folder / "lock").is_file()


def test_only_what_stacks_make_is_removed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    data = tmp_path / "data"
    with claim_data_dir(data):
        (data / "secrets.json").touch()
        (data / "logs" / "api.log").touch()
        (data / "mails" / "one.eml").touch()
        (data / "mine").mkdir()
        (data / "postgres").symlink_to(outside)

        empty_data_dir(data)

    assert sorted(path.relative_to(data).as_posix() for path in data.rglob("*")) == ["lock", "logs", "mails", "mine"]
    assert (outside / "kept").exists()
