"""The admin API: HTTP in front of the stores. `python -m api` serves it."""
