"""Where plugin code runs, and what is done about code that blocks, stalls or stays."""
