"""Running one capability safely: finding, checking and loading plugins, and calling them through the guard."""
