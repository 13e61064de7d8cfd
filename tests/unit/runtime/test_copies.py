"""Copies of plugins' code, named by its hash."""

import os
import stat
from pathlib import Path

import pytest

from latchflow.runtime.loader.copies import Copies, CopyError
from latchflow.runtime.loader.discovery import read_source
from latchflow.runtime.loader.plugin_folder import code_hash
from tests.unit.runtime.plugin_folders import write_plugin


@pytest.fixture
def copies(tmp_path: Path) -> Copies:
    return Copies(tmp_path / "copies")


def test_a_copy_has_the_hash_in_its_name_and_is_the_users_own(tmp_path: Path, copies: Copies) -> None:
    source = read_source(write_plugin(tmp_path / "plugins", name="@acme/greeter"))

    copy = copies.take(source)
    again = copies.take(source)

    assert copy.path == again.path == tmp_path / "copies" / f"acme_greeter-{source.code_hash[:16]}"
    assert code_hash(copy.path) == source.code_hash
    for path in (tmp_path / "copies", copy.path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert [path.name for path in (tmp_path / "copies").iterdir()] == [copy.path.name]


def test_a_folder_that_changed_since_it_was_read_is_not_copied(tmp_path: Path, copies: Copies) -> None:
    source = read_source(write_plugin(tmp_path / "plugins"))
    (source.folder / "__init__.py").write_text("changed")

    with pytest.raises(CopyError, match="have changed since they were checked"):
        copies.take(source)
    assert list((tmp_path / "copies").iterdir()) == []


def test_a_copy_that_somebody_changed_is_made_anew(tmp_path: Path, copies: Copies) -> None:
    source = read_source(write_plugin(tmp_path / "plugins"))
    (copies.take(source).path / "__init__.py").write_text("evil")

    assert code_hash(copies.take(source).path) == source.code_hash


def test_only_copies_that_nobody_uses_are_removed(tmp_path: Path, copies: Copies) -> None:
    used = copies.take(read_source(write_plugin(tmp_path / "plugins", name="used")))
    unused = copies.take(read_source(write_plugin(tmp_path / "plugins", name="unused")))
    unused.release()

    copies.remove_unused()
    both = used.path.exists() and unused.path.exists()
    copies.remove_unused(older_than_seconds=-1)

    assert both
    assert used.path.exists()
    assert not unused.path.exists()


def test_a_folder_of_copies_that_is_not_the_users_own_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "copies").symlink_to(tmp_path / "real")
    source = read_source(write_plugin(tmp_path / "plugins"))

    with pytest.raises(CopyError, match="LATCHFLOW_PLUGIN_CACHE_DIR"):
        Copies(tmp_path / "copies").take(source)


def test_without_a_setting_the_copies_are_below_the_temporary_folder_by_user() -> None:
    assert str(os.getuid()) in Copies.at(None)._folder.name
