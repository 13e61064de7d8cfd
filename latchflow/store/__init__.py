"""Postgres: tables, queries, migrations. One module per thing, plain SQL, no decisions about pipelines."""
