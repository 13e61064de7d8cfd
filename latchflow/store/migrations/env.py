"""Alembic's entry: run by `latchflow.store.migrate` with an open connection, never by the alembic command."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()
