"""Fails."""

raise ValueError("no luck")
