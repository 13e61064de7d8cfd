"""The embedded stack: Temporal server, PostgreSQL, mail sink, and the supervision of the programs around them."""
