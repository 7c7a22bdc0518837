"""Running the project's Alembic migrations on a connection that somebody else holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from chinook_sim.naming import place_of, speak

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["VERSION_TABLE", "head", "installed", "lock", "prepare", "upgrade"]

VERSION_TABLE = "chinook_sim_version"
"""Not Alembic's default name: the database may be under migrations of its owner's as well."""

MIGRATION_LOCK = 0x6368696E6F6F6D
"""Key of the advisory lock that keeps a second upgrade waiting."""


def upgrade(connection: Connection) -> str:
    """Bring a database up to the newest revision, in the transaction that is open; return it."""
    config = Config()
    config.set_main_option("script_location", str(_scripts()).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    return head()


def installed(connection: Connection) -> str | None:
    """Return the revision a database is at, or None where it was never migrated."""
    place = place_of(connection)
    context = MigrationContext.configure(
        connection,
        opts={
            "version_table": VERSION_TABLE,
            "version_table_schema": place.schema if place else None,
        },
    )
    return context.get_current_revision()


def head() -> str:
    """Return the newest revision there is."""
    return str(ScriptDirectory(str(_scripts())).get_current_head())


def prepare(connection: Connection) -> str | None:
    """Keep other upgrades out, settle where and how names are written, and return the schema.

    Where nothing is, names are CamelCase, as in most Chinooks, and in the current schema.
    """
    lock(connection)
    place = place_of(connection)
    if place is None:
        return None
    speak(connection, place.spelling, place.schema)
    return place.schema


def lock(connection: Connection) -> None:
    """Keep other upgrades out until the transaction ends; SQLite's own write lock does there."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})


def _scripts() -> Path:
    """Return where the migrations are: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "migrations"
