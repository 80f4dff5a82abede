"""The tables that search keeps for itself, made where they are missing.

They are not among the page's tables and migrations: they hold nothing that the entries do not say.

``search_entries`` has a row per indexed entry: when the entry had changed, and the version of the index at which the
row was written. ``search_state`` has one row: the index's identity, new whenever the tables are made, and its version.
"""

from __future__ import annotations

import secrets

from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select
from sqlalchemy.orm import Session

from paperworks.page.database.models import UtcDateTime

metadata = MetaData()

search_entries = Table(
    "search_entries",
    metadata,
    Column("entry_id", Integer, primary_key=True, autoincrement=False),
    Column("updated", UtcDateTime, nullable=False),
    Column("version", Integer, nullable=False, index=True),
)
search_state = Table(
    "search_state",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("identity", String(32), nullable=False),
    Column("version", Integer, nullable=False),
)


def make_tables(session: Session) -> None:
    """Create both tables where they are missing."""
    metadata.create_all(session.connection())
    if session.execute(select(search_state.c.id)).first() is None:
        session.execute(insert(search_state).values(id=1, identity=secrets.token_hex(8), version=0))
