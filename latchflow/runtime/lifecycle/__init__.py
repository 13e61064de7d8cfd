"""Which version of which plugin a process runs: enabled, replaced, put away, reported."""
