"""Latchflow: an automation runtime on Temporal."""

__version__ = "0.1.0"
