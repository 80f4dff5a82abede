"""Sizes of uploads and runs, for quotas; options name uploads without the server's folder"""

from __future__ import annotations

import re

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

UPLOADED = re.compile(r".*?/(uploads/[0-9a-f]{32}/.+)", re.DOTALL)


def upgrade() -> None:
    op.add_column("uploads", sa.Column("stored", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("bytes", sa.BigInteger(), nullable=False, server_default="0"))
    if op.get_bind().dialect.name == "postgresql":  # SQLite's whole numbers have 64 bits
        op.alter_column("uploads", "bytes", type_=sa.BigInteger())
    uploads = sa.table("uploads", sa.column("bytes", sa.BigInteger()), sa.column("stored", sa.BigInteger()))
    op.execute(uploads.update().values(stored=uploads.c.bytes))
    jobs = sa.table(
        "jobs", sa.column("id", sa.String()), sa.column("config", sa.JSON()), sa.column("uploads", sa.JSON())
    )
    connection = op.get_bind()
    for job in connection.execute(sa.select(jobs)).all():
        if job.uploads:
            config = {name: _without_folder(value) for name, value in job.config.items()}
            connection.execute(jobs.update().where(jobs.c.id == job.id).values(config=config))


def downgrade() -> None:
    op.drop_column("jobs", "bytes")
    op.drop_column("uploads", "stored")


def _without_folder(value: object) -> object:
    found = UPLOADED.fullmatch(value) if isinstance(value, str) else None
    return value if found is None else found[1]
