"""Make the Chinook tables that are missing: all in an empty database, none in a whole Chinook.

Revision ID: 0001
Revises: nothing

What it made is written down in chinook_sim_created_table, and only that is ever taken away.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

from chinook_sim.models import Base, CreatedTable
from chinook_sim.naming import CHINOOK_TABLES, place_of, quoted

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    connection = op.get_bind()
    place = place_of(connection)
    missing = [table for table in CHINOOK_TABLES if place is None or not place.has(table)]
    created = CreatedTable.__table__
    Base.metadata.create_all(connection, tables=[created, *missing], checkfirst=False)
    for table in missing:
        connection.execute(sa.insert(created).values(name=str(table.name), revision=revision))


def downgrade() -> None:
    connection = op.get_bind()
    created = CreatedTable.__table__
    made = set(connection.scalars(sa.select(created.c.name).where(created.c.revision == revision)))
    place = place_of(connection)
    tables = [
        table for table in CHINOOK_TABLES if table.name in made and place and place.has(table)
    ]
    if tables and connection.dialect.name == "postgresql":
        # Nobody may fill a table between the look and the drop.
        op.execute(f"LOCK TABLE {quoted(connection, *tables)} IN ACCESS EXCLUSIVE MODE")
    filled = [
        f"{quoted(connection, table)} ({rows} rows)"
        for table in tables
        if (rows := connection.scalar(sa.select(sa.func.count()).select_from(table)))
    ]
    if filled:
        raise CommandError(
            f"not downgraded: {', '.join(filled)} would be lost; delete the rows, or drop the "
            "tables yourself, and run it again"
        )
    Base.metadata.drop_all(connection, tables=[created, *tables], checkfirst=False)
