"""The operator's verbs."""

from latchflow.cli.app import main

__all__ = ["main"]
