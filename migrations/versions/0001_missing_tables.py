"""Make the Chinook tables that are missing: all in an empty database, none in a whole Chinook.

Revision ID: 0001
Revises: nothing

What it made is written down in chinook_sim_created_table, and only that is ever taken away.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from alembic import op

from chinook_sim.database.schema import LEDGER_MARK, VERSION_TABLE
from chinook_sim.errors import MigrationRefused
from chinook_sim.provisioning.revision_context import (
    RevisionContext,
    current_context,
    execute,
    leave_out,
    mark,
    marked,
    refuse_others,
)

if TYPE_CHECKING:
    from chinook_sim.database.names import NameMap

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

CREATED = "chinook_sim_created_table"

ID = "id"

TABLES: dict[str, dict[str, Any]] = {
    "Artist": {"ArtistId": ID, "Name?": 120},
    "Employee": {
        "EmployeeId": ID,
        "LastName": 20,
        "FirstName": 20,
        "Title?": 30,
        "ReportsTo?": "Employee",
        "BirthDate?": sa.DateTime,
        "HireDate?": sa.DateTime,
        "Address?": 70,
        "City?": 40,
        "State?": 40,
        "Country?": 40,
        "PostalCode?": 10,
        "Phone?": 24,
        "Fax?": 24,
        "Email?": 60,
    },
    "Genre": {"GenreId": ID, "Name?": 120},
    "MediaType": {"MediaTypeId": ID, "Name?": 120},
    "Playlist": {"PlaylistId": ID, "Name?": 120},
    "Album": {"AlbumId": ID, "Title": 160, "ArtistId": "Artist"},
    "Customer": {
        "CustomerId": ID,
        "FirstName": 40,
        "LastName": 20,
        "Company?": 80,
        "Address?": 70,
        "City?": 40,
        "State?": 40,
        "Country?": 40,
        "PostalCode?": 10,
        "Phone?": 24,
        "Fax?": 24,
        "Email": 60,
        "SupportRepId?": "Employee",
    },
    "Invoice": {
        "InvoiceId": ID,
        "CustomerId": "Customer",
        "InvoiceDate": sa.DateTime,
        "BillingAddress?": 70,
        "BillingCity?": 40,
        "BillingState?": 40,
        "BillingCountry?": 40,
        "BillingPostalCode?": 10,
        "Total": sa.Numeric(10, 2),
    },
    "Track": {
        "TrackId": ID,
        "Name": 200,
        "AlbumId?": "Album",
        "MediaTypeId": "MediaType",
        "GenreId?": "Genre",
        "Composer?": 220,
        "Milliseconds": sa.Integer,
        "Bytes?": sa.Integer,
        "UnitPrice": sa.Numeric(10, 2),
    },
    "InvoiceLine": {
        "InvoiceLineId": ID,
        "InvoiceId": "Invoice",
        "TrackId": "Track",
        "UnitPrice": sa.Numeric(10, 2),
        "Quantity": sa.Integer,
    },
    "PlaylistTrack": {"PlaylistId": "Playlist", "TrackId": "Track"},
}
"""The tables of Chinook, each after those it refers to: name of a column → what it is.

`?` is for a column that may be NULL. A number is the length of a VARCHAR, a name the table that the
column refers to. A table without an `ID` has all its columns as the key.
"""


def upgrade() -> None:
    here = current_context()
    tables = chinook(here)
    if here.place is None:
        refuse_others(here.connection)
    missing = {
        name: table
        for name, table in tables.items()
        if here.place is None or not here.place.has(name)
    }
    if missing and here.place is not None and here.place.names.spelling is None:
        # Nobody could tell what they should be called.
        leave_out(f"{', '.join(missing)}, as the names of the other tables are not the usual ones")
        missing = {}
    inspector = sa.inspect(here.connection)
    for name, table in list(missing.items()):
        if here.place is not None and inspector.has_table(table.name, schema=here.schema):
            leave_out(f"{name}, as {here.spell(table)} is another table")
            del missing[name]
    op.create_table(
        CREATED,
        sa.Column("name", sa.String(63), primary_key=True),
        sa.Column("revision", sa.String(32), nullable=False),
        schema=here.ledger_schema,
    )
    tables["Artist"].metadata.create_all(
        op.get_bind(), tables=list(missing.values()), checkfirst=False
    )
    if here.ledger_schema != here.schema:
        # By this it is found for the shop: see `database.introspection`.
        whose = f"{LEDGER_MARK}{here.schema}".replace("'", "''")
        execute(f"COMMENT ON TABLE {here.ledgers(VERSION_TABLE)} IS '{whose}'")
    for name, table in missing.items():
        op.execute(sa.insert(created(here)).values(name=name, revision=revision))
        if here.postgresql:
            mark("TABLE", here.spell(table))


def downgrade() -> None:
    here = current_context()
    noted = created(here)
    made = set(here.connection.scalars(sa.select(noted.c.name).where(noted.c.revision == revision)))
    known = chinook(here)
    tables = [
        table for name, table in known.items() if name in made and _is_ours(here, name, table)
    ]
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
        if (rows := here.connection.scalar(sa.select(sa.func.count()).select_from(table)))
    ]
    if filled:
        raise MigrationRefused(
            f"not downgraded: {', '.join(filled)} would be lost; delete the rows, or drop the "
            "tables yourself, and run it again"
        )
    known["Artist"].metadata.drop_all(op.get_bind(), tables=tables, checkfirst=False)
    op.drop_table(CREATED, schema=here.ledger_schema)


def chinook(here: RevisionContext) -> dict[str, sa.Table]:
    """Return the tables of Chinook in the names of a database, by their CamelCase names.

    The keys of the columns are CamelCase too. Later revisions take names from here, and not from
    `chinook_sim.models`: a change of the models must not change what a revision does.
    """
    return _chinook(here.schema, here.names)


@lru_cache(maxsize=4)
def _chinook(schema: str | None, names: NameMap) -> dict[str, sa.Table]:
    metadata = sa.MetaData(schema=schema)
    tables: dict[str, sa.Table] = {}
    for name, columns in TABLES.items():
        key = [column for column, kind in columns.items() if kind == ID] or list(columns)
        tables[name] = sa.Table(
            names[name],
            metadata,
            *(
                _column(names[f"{name}.{column.rstrip('?')}"], column, kind, column in key)
                for column, kind in columns.items()
            ),
        )
        for column, kind in columns.items():
            if kind in TABLES:
                _refer(names, name, column.rstrip("?"), tables[name], tables[kind])
    return tables


def _column(spelled: str, name: str, kind: Any, key: bool) -> sa.Column[Any]:
    bare = name.rstrip("?")
    if isinstance(kind, int):
        kind = sa.String(kind)
    return sa.Column(
        spelled,
        sa.Integer if isinstance(kind, str) else kind,
        *([sa.Identity()] if kind == ID else []),
        key=bare,
        primary_key=key,
        nullable=bare != name,
    )


def _refer(names: NameMap, name: str, column: str, table: sa.Table, target: sa.Table) -> None:
    """Let a column refer to the key of a table, and give it an index."""
    if names.spelling == "camel":
        foreign_key, index = (f"{what}_{name}{column}" for what in ("FK", "IFK"))
    else:
        foreign_key, index = (
            f"{table.name}_{table.c[column].name}_{what}" for what in ("fkey", "idx")
        )
    table.append_constraint(
        sa.ForeignKeyConstraint([column], list(target.primary_key), name=foreign_key)
    )
    sa.Index(index, table.c[column])


def created(here: RevisionContext) -> sa.TableClause:
    """Return the table of what was made."""
    columns = (sa.column("name", sa.String), sa.column("revision", sa.String))
    return sa.table(CREATED, *columns, schema=here.ledger_schema)


def _is_ours(here: RevisionContext, name: str, table: sa.Table) -> bool:
    """Return whether a table is the one that was made, and not another of its name."""
    if here.place is None or not here.place.has(name):
        return False
    if here.postgresql:
        return marked(here, "pg_class", here.spell(table)) is not None
    # Nothing can be marked in SQLite: it must look like the one that was made, at least.
    there = sa.inspect(here.connection).get_columns(table.name)
    names = {column.name.lower() for column in table.columns}
    return {column["name"].lower() for column in there} == names
