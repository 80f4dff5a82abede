"""What alembic runs for each migration command."""

from __future__ import annotations

from alembic import context
from sqlalchemy import text

from paperworks.page.database.models import Base

MIGRATION_LOCK = 7319  # any fixed number: one process migrates a PostgreSQL database at a time

connection = context.config.attributes["connection"]
if connection.dialect.name == "sqlite":
    # Taken before anything is read, so that two processes that start together do not both create the tables.
    connection = connection.execution_options(sqlite_begin="BEGIN IMMEDIATE")
context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
with connection.begin():
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
    with context.begin_transaction():
        context.run_migrations()
