"""Plugin folders on disk."""

from pathlib import Path

TOML = """
name = "{name}"
version = "1.0.0"
display_name = "Testing"
sdk = ">=1,<2"
scopes = ["email:send"]
"""

GOOD = """
from latchflow.sdk import ActionCall, Plugin

plugin = Plugin()

@plugin.action("greet", display_name="Greet", config_schema={"type": "object"}, scopes=["email:send"])
async def greet(call: ActionCall) -> dict:
    return {}
"""


def write_plugin(root: Path, *, name: str = "acme-testing", code: str = GOOD, toml: str = TOML) -> Path:
    """A folder named like its plugin, below a root."""
    folder = root / name.replace("/", "-").replace("@", "")
    folder.mkdir(parents=True)
    (folder / "plugin.toml").write_text(toml.replace("{name}", name), encoding="utf-8")
    (folder / "__init__.py").write_text(code, encoding="utf-8")
    return folder
