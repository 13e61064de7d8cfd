"""Plugins written inside a test, as a process would have loaded them."""

from pathlib import Path

from latchflow.runtime.lifecycle.registry import Registry
from latchflow.runtime.loader.discovery import PluginSource
from latchflow.sdk import Plugin

NAME = "acme-testing"


def registry_of(plugin: Plugin, *, scopes: tuple[str, ...] = (), granted: tuple[str, ...] | None = None) -> Registry:
    """A registry of one plugin; all the scopes it declares are granted unless told otherwise."""
    source = PluginSource(
        name=NAME,
        version="1.0.0",
        display_name="Testing",
        scopes=scopes,
        folder=Path(__file__).parent,
        code_hash="c0de",
    )
    return Registry.of(plugin, source, frozenset(scopes if granted is None else granted))
