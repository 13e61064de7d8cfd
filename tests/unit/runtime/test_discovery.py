from pathlib import Path
from typing import Any

import pytest

from latchflow.runtime.loader.discovery import discover, plugin_roots, read_source
from latchflow.runtime.loader.plugin_folder import code_hash
from tests.unit.runtime.plugin_folders import TOML, write_plugin


def named(root: Path) -> dict[str, str | None]:
    """The plugins found below a root, each with its error."""
    return {source.name: source.error for source in discover([root]) if source.folder.is_relative_to(root)}


def test_a_plugin_is_found_by_its_toml_without_running_its_code(tmp_path: Path) -> None:
    write_plugin(tmp_path, name="@acme/greeter", code="raise SystemExit")
    (found,) = [source for source in discover([tmp_path]) if source.folder.is_relative_to(tmp_path)]

    assert (found.name, found.version, found.display_name, found.scopes, found.error) == (
        "@acme/greeter",
        "1.0.0",
        "Testing",
        ("email:send",),
        None,
    )


@pytest.mark.parametrize(
    ("old", "new", "quoted"),
    [
        ('display_name = "Testing"', 'displayname = "Testing"', "unknown field 'displayname'"),
        ('name = "{name}"\n', "", "name:"),
        ('name = "{name}"', 'name = "Acme Greeter"', "name:"),
        ('version = "1.0.0"', "version = 1.0", "version:"),
        ('version = "1.0.0"', 'version = "one"', "version:"),
        ('display_name = "Testing"', "display_name = 5", "display_name:"),
        ('display_name = "Testing"', 'display_name = "a\\u0000b"', "display_name:"),
        ('sdk = ">=1,<2"\n', "", "sdk:"),
        ('sdk = ">=1,<2"', 'sdk = ">=2"', "sdk:"),
        ('sdk = ">=1,<2"', "sdk = 1", "sdk:"),
        ('["email:send"]', '["email:sned"]', "'email:sned'"),
        ('["email:send"]', '[["email:send"]]', "scopes:"),
        ('["email:send"]', '"email:send"', "scopes:"),
        ('["email:send"]', "[", "plugin.toml"),
    ],
)
def test_a_fault_in_a_toml_names_the_file_and_the_field_and_harms_no_other(
    tmp_path: Path, old: str, new: str, quoted: str
) -> None:
    write_plugin(tmp_path, name="good")
    bad = write_plugin(tmp_path, name="bad", toml=TOML.replace(old, new))
    found = named(tmp_path)

    assert found["good"] is None
    assert found["bad"] is not None
    assert quoted in found["bad"]
    assert str(bad / "plugin.toml") in found["bad"]


def test_a_toml_that_is_no_utf_8_is_a_fault_like_any_other(tmp_path: Path) -> None:
    (write_plugin(tmp_path, name="bad") / "plugin.toml").write_bytes(b"\xff\xfe")

    assert named(tmp_path)["bad"] is not None


def test_two_plugins_of_one_name_leave_the_first_in_force_and_name_both_folders(tmp_path: Path) -> None:
    first = write_plugin(tmp_path / "a")
    second = write_plugin(tmp_path / "b")
    found = [source for source in discover([tmp_path / "a", tmp_path / "b"]) if source.folder in (first, second)]

    assert [(source.folder, source.error is None) for source in found] == [(first, True), (second, False)]
    assert len({source.name for source in found}) == 2
    assert str(first) in (found[1].error or "")
    assert str(second) in (found[1].error or "")


def test_a_broken_plugin_never_stands_under_the_name_of_a_working_one(tmp_path: Path) -> None:
    write_plugin(tmp_path / "a", name="greeter")
    broken = write_plugin(tmp_path / "b", name="greeter", toml="oops")
    found = {source.name: source for source in discover([tmp_path / "a", tmp_path / "b"])}

    assert found["greeter"].error is None
    assert "oops" not in found["greeter"].name
    assert [str(broken / "plugin.toml") in (s.error or "") for s in found.values() if s.folder == broken] == [True]


def test_a_root_named_twice_clashes_with_nothing(tmp_path: Path) -> None:
    write_plugin(tmp_path / "a")
    found = discover([tmp_path / "a", tmp_path / "b" / ".." / "a", tmp_path / "missing"])

    assert [source.error for source in found if source.folder.is_relative_to(tmp_path)] == [None]


def test_the_hash_changes_with_every_byte_and_name_but_not_with_caches(tmp_path: Path) -> None:
    folder = write_plugin(tmp_path)
    first = code_hash(folder)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "x.pyc").write_bytes(b"x")
    assert code_hash(folder) == first
    (folder / "data.txt").write_text("a")
    second = code_hash(folder)
    (folder / "data.txt").rename(folder / "other.txt")

    assert len({first, second, code_hash(folder)}) == 3


def test_a_folder_of_plugins_that_everyone_may_write_is_refused_unless_it_is_sticky(tmp_path: Path) -> None:
    write_plugin(tmp_path / "root", name="greeter")
    (tmp_path / "root").chmod(0o777)
    refused = named(tmp_path / "root")["greeter"]
    (tmp_path / "root").chmod(0o1777)

    assert f"chmod o-w '{tmp_path / 'root'}'" in (refused or "")
    assert named(tmp_path / "root")["greeter"] is None


@pytest.mark.parametrize("value", ["foo-bar", "__main__", "nowhere_at_all", "os.path"])
def test_a_malformed_entry_point_keeps_no_other_plugin_from_being_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    write_plugin(tmp_path / "root", name="greeter")
    installed = tmp_path / "site" / "bad-1.0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: bad\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text(f"[latchflow.plugins]\nx = {value}\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))

    assert named(tmp_path / "root")["greeter"] is None


def test_a_root_that_cannot_be_read_keeps_no_other_plugin_from_being_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_plugin(tmp_path / "root", name="greeter")
    (tmp_path / "closed").mkdir()
    iterdir = Path.iterdir

    def refuse(path: Path) -> Any:
        if path.name == "closed":
            raise PermissionError(13, "Permission denied")
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", refuse)  # root may read everything

    assert [s.error for s in discover([tmp_path / "closed", tmp_path / "root"]) if s.name == "greeter"] == [None]


def test_every_path_of_the_setting_is_a_root(tmp_path: Path) -> None:
    assert plugin_roots(tmp_path, "/a::/b") == [tmp_path / "plugins", Path("/a"), Path("/b")]


def test_a_folder_whose_toml_is_gone_is_a_fault(tmp_path: Path) -> None:
    assert read_source(tmp_path).error is not None
