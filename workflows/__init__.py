"""Replayed code. With the same history it must give the same commands: no I/O, no clock, no randomness, no secrets."""
