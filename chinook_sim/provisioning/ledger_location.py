"""Where the ledger of a shop is or will be, and at which revision it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Column, MetaData, String, Table, inspect, select

from chinook_sim.database.backends import backend_for
from chinook_sim.database.backends.postgresql_ledger import RENAMED_SHOP, left_ledger
from chinook_sim.database.identifiers import quoted
from chinook_sim.database.introspection import find_candidate
from chinook_sim.database.names import SALE_TABLES, stated_names
from chinook_sim.database.schema import (
    LEDGER_MARK,
    MARK,
    VERSION_TABLE,
)
from chinook_sim.errors import InvalidInput, MigrationRefused

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from chinook_sim.database.schema import SchemaCandidate

__all__ = ["installed", "installed_in", "place_ledger"]


def installed(connection: Connection) -> str | None:
    """Return the revision of a database, or None if it was never migrated."""
    place = find_candidate(connection)
    return installed_in(connection, place.ledger_schema if place else None)


def installed_in(connection: Connection, schema: str | None) -> str | None:
    """Return the revision of the ledger in a schema, or None if there is no ledger."""
    if not inspect(connection).has_table(VERSION_TABLE, schema=schema):
        return None
    versions = Table(VERSION_TABLE, MetaData(), Column("version_num", String), schema=schema)
    return connection.scalar(select(versions.c.version_num))


def place_ledger(
    connection: Connection, place: SchemaCandidate | None, schema: str | None, wanted: str | None
) -> str | None:
    """Return where the ledger is, or is to be.

    Raises:
        InvalidInput: a schema is wanted, and SQLite has none.
        MigrationRefused: it is in another schema than the one that is wanted.
    """
    there = place.ledger_schema if place else schema
    revision = installed_in(connection, there)
    if backend_for(connection).has_schemas and revision is None:
        _refuse_lost_ledger(connection, schema)
        if place is not None and not place.missing(SALE_TABLES):
            _refuse_ledger_left_behind(connection, schema)
    if wanted is None or wanted == there:
        return there
    if not backend_for(connection).has_schemas:
        raise InvalidInput(
            f"a ledger schema works with PostgreSQL only, and this is SQLite, got {wanted!r:.60}"
        )
    if revision is not None:
        raise MigrationRefused(
            f"the ledger is in the schema {quoted(connection, there or '')} already, and is not "
            f"moved to {quoted(connection, wanted)}; leave the ledger schema out"
        )
    if inspect(connection).has_table(VERSION_TABLE, schema=wanted):
        raise MigrationRefused(
            f"the schema {quoted(connection, wanted)} has the ledger of another shop; name another "
            "schema"
        )
    return wanted


def _refuse_lost_ledger(connection: Connection, schema: str | None) -> None:
    """Refuse to make a second ledger where the shop's schema was renamed.

    A ledger in a schema of its own has the name of the shop's schema in a comment, and PostgreSQL
    renames nothing in a comment.
    """
    known = {"mark": LEDGER_MARK, "ours": MARK, "schema": schema}
    lost = connection.scalar(RENAMED_SHOP, known)
    if lost is not None:
        comment = f"{LEDGER_MARK}{schema}".replace("'", "''")
        raise MigrationRefused(
            f"the ledger in the schema {lost} is of a schema that was renamed. If it is that of "
            f"this shop, run: COMMENT ON TABLE {lost}.{VERSION_TABLE} IS '{comment}'; then run "
            "it again"
        )


def _refuse_ledger_left_behind(connection: Connection, schema: str | None) -> None:
    """Refuse to make a second ledger where the shop's tables were moved to another schema."""
    known = {"mark": LEDGER_MARK, "ours": MARK, "schema": schema}
    for left, moves in connection.execute(left_ledger(stated_names(connection)), known):
        raise MigrationRefused(
            f"the schema {left} has a ledger without a Chinook. If this shop was there before, "
            f"run: {moves}; then run it again. If not, drop {left}.{VERSION_TABLE}"
        )
