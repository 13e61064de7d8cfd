"""The gallery of bad plugins: each gives one clear error, quoted from the file beside it, and harms nobody else."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

from latchflow.runtime.invoking.invoker import Success, invoke
from tests.support.execution import Deployment
from tests.support.processes import Folders, process
from tests.unit.runtime.invoking import call_of
from tests.unit.runtime.plugin_folders import write_plugin

GALLERY = Path(__file__).parent / "bad_plugins"


def _made_here(root: Path) -> dict[str, str]:
    """What no repository can hold: links, modes and special files."""
    for name in (
        "link_in_it",
        "link_to_it",
        "open_file",
        "open_folder",
        "special_file",
        "linked_toml",
    ):
        write_plugin(root, name=name)
    (root / "link_in_it" / "secrets.py").symlink_to("/etc/hostname")
    (root / "link_to_it").rename(root.parent / "elsewhere")
    (root / "link_to_it").symlink_to(root.parent / "elsewhere")
    (root / "open_file" / "__init__.py").chmod(0o666)
    (root / "open_folder").chmod(0o777)
    os.mkfifo(root / "special_file" / "pipe")
    toml = root / "linked_toml" / "plugin.toml"
    toml.rename(root.parent / "elsewhere.toml")
    toml.symlink_to(root.parent / "elsewhere.toml")
    return {
        "link_in_it": "secrets.py: this is a symbolic link",
        "link_to_it": "link_to_it: this is a symbolic link",
        "open_file": "run: chmod -R o-w '",
        "open_folder": "run: chmod -R o-w '",
        "special_file": "pipe: this is neither a file nor a folder",
        "linked_toml": "plugin.toml: this is no plain file",
    }


async def test_every_bad_plugin_gives_one_clear_error_and_harms_nobody_else(
    deployment: Deployment, tmp_path: Path
) -> None:
    folders = Folders.below(tmp_path)
    write_plugin(folders.home / "plugins", name="acme-good")
    shutil.copytree(GALLERY, folders.plugins, dirs_exist_ok=True)
    expected = {path.stem: path.read_text().strip() for path in GALLERY.glob("*.error")} | _made_here(folders.plugins)
    threads = {thread for thread in threading.enumerate() if not thread.name.startswith("asyncio_")}

    async with process(deployment, folders) as plugins:
        snapshot = plugins.live.snapshot
        rows = await deployment.rows("SELECT name, status, error FROM plugins WHERE status <> 'ENABLED'")
        result = await invoke(snapshot.actions["acme-good", "greet"], call_of({}, 5))
        failures = dict(plugins.live.failures)

    assert len(expected) >= 24
    assert list(snapshot.plugins) == ["acme-good"]
    assert isinstance(result, Success)
    assert failures == {}
    unclear = []
    for name, quoted in expected.items():
        places = (f"{folders.plugins / name}:", f"{folders.plugins / name}/")
        errors = [row for row in rows if row["error"] and any(place in row["error"] for place in places)]
        if [row["status"] for row in errors] != ["FAILED"] or quoted not in errors[0]["error"]:
            unclear.append((name, quoted, errors))
    assert unclear == []
    assert len(rows) == len(expected)
    _import_in_a_fresh_thread()
    left = {thread for thread in threading.enumerate() if not thread.name.startswith("asyncio_")}
    assert left - threads == set()
    assert _children() == []


def test_every_plugin_of_the_gallery_has_its_error_beside_it() -> None:
    folders = {path.name for path in GALLERY.iterdir() if path.is_dir()}

    assert folders == {path.stem for path in GALLERY.glob("*.error")}


def _import_in_a_fresh_thread() -> None:
    """The import system is whole: nothing holds its lock, no finder of ours stands in the way."""
    sys.modules.pop("json.tool", None)
    imported: list[str] = []

    def run() -> None:
        import json.tool

        imported.append(json.tool.__name__)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10)

    assert imported == ["json.tool"]


def _children() -> list[str]:
    """What checks left running: processes that import plugins and have no parent any more."""
    listed = subprocess.run(["ps", "-eo", "ppid,args"], capture_output=True, text=True, check=True).stdout
    mine = str(os.getpid())
    return [line for line in listed.splitlines() if "probe_process" in line and line.split()[0] == mine]
