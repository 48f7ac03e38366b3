"""Alembic's entry point: applies the steps on the connection of `comms.platform.upgrading`."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table="schema_version",
    version_table_schema="comms",
)
with context.begin_transaction():
    context.run_migrations()
