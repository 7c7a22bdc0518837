"""Make the Chinook tables that are missing: all in an empty database, none in a whole Chinook.

Revision ID: 0001
Revises: nothing

What it made is written down in chinook_sim_created_table, and only that is ever taken away.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from chinook_sim.database.schema import CHINOOK_TABLES, LEDGER_MARK, VERSION_TABLE
from chinook_sim.errors import MigrationRefused
from chinook_sim.models import Base, CreatedTable
from chinook_sim.provisioning.revision_context import Site, execute, mark, marked, site

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    here = site()
    place = here.place
    missing = [table for table in CHINOOK_TABLES if place is None or not place.has(table)]
    created = CreatedTable.__table__
    Base.metadata.create_all(op.get_bind(), tables=[created, *missing], checkfirst=False)
    if here.ledger_schema != here.schema:
        # By this it is found for the shop: see `database.introspection`.
        whose = f"{LEDGER_MARK}{here.schema}".replace("'", "''")
        execute(f"COMMENT ON TABLE {here.ledgers(VERSION_TABLE)} IS '{whose}'")
    for table in missing:
        op.execute(sa.insert(created).values(name=str(table.name), revision=revision))
        if here.postgresql:
            mark("TABLE", here.spell(table))


def downgrade() -> None:
    here = site()
    created = CreatedTable.__table__
    made = set(here.look.scalars(sa.select(created.c.name).where(created.c.revision == revision)))
    tables = [table for table in CHINOOK_TABLES if table.name in made and _is_ours(here, table)]
    if tables and op.get_context().as_sql:
        raise MigrationRefused(
            f"no script is written that drops {here.spell(*tables)}: whether they are empty is "
            "seen when it runs; downgrade without --sql"
        )
    if tables and here.postgresql:
        # Nobody may fill a table between the look and the drop.
        execute(f"LOCK TABLE {here.spell(*tables)} IN ACCESS EXCLUSIVE MODE")
    filled = [
        f"{here.spell(table)} ({rows} rows)"
        for table in tables
        if (rows := here.look.scalar(sa.select(sa.func.count()).select_from(table)))
    ]
    if filled:
        raise MigrationRefused(
            f"not downgraded: {', '.join(filled)} would be lost; delete the rows, or drop the "
            "tables yourself, and run it again"
        )
    Base.metadata.drop_all(op.get_bind(), tables=[created, *tables], checkfirst=False)


def _is_ours(here: Site, table: sa.Table) -> bool:
    """Tell whether a table is the one that was made, and not another of its name."""
    if here.place is None or not here.place.has(table):
        return False
    if here.postgresql:
        return marked(here, "pg_class", here.spell(table)) is not None
    # Nothing can be marked in SQLite: it must look like the one that was made, at least.
    there = sa.inspect(here.look).get_columns(here.place.spell(table.name))
    names = {here.place.spell(column.name).lower() for column in table.columns}
    return {column["name"].lower() for column in there} == names
