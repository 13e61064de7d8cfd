"""Calling what a plugin registered, and reading what it answers."""
