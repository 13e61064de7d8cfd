"""Latchflow: an automation runtime on Temporal."""
