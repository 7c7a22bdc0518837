"""Entry point of Alembic: with the settings of the command, or with a provided connection.

Everything happens in one transaction, under a lock, so that an upgrade is done completely or not at
all. With `--sql` the database is only read, since the script depends on what is there.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from logging.config import fileConfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic import context
from alembic.util import CommandError
from sqlalchemy import MetaData, Table, create_engine
from sqlalchemy.engine.mock import MockConnection
from sqlalchemy.exc import DBAPIError

from chinook_sim.database.backends.postgresql import TRANSACTION_SETUP
from chinook_sim.database.dotenv import load_dotenv
from chinook_sim.database.engine import make_engine, open_connection, set_timeouts
from chinook_sim.database.identifiers import printing, sql_text
from chinook_sim.database.locks import MIGRATION_LOCK
from chinook_sim.database.schema import VERSION_TABLE
from chinook_sim.database.settings import find_database, scrub
from chinook_sim.errors import ChinookSimError, MigrationRefused
from chinook_sim.models import Base
from chinook_sim.provisioning.ledger_location import installed_in
from chinook_sim.provisioning.migration_runner import head
from chinook_sim.provisioning.revision_context import (
    check_upgrade_privileges,
    lock,
    new_schema,
    prepare,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

LOCK_TIMEOUT = 30
"""Seconds, as the command's default."""

provided_connection: Connection | None = context.config.attributes.get("connection")


def run(connection: Connection) -> None:
    """Migrate on a connection whose transaction is open, or print what that would run."""
    offline = context.is_offline_mode()
    if not offline:
        lock(connection)
    wanted = context.get_x_argument(as_dictionary=True).get("ledger_schema")
    revision = prepare(
        connection,
        context.config.attributes.get("spelling", "camel"),
        wanted or context.config.attributes.get("ledger_schema"),
    )
    if offline and "\t" in (revision.schema or ""):
        raise MigrationRefused(
            f"no script is written for the schema {revision.spell(revision.schema or '')}: Alembic "
            "prints tabs as spaces; upgrade without --sql"
        )
    apart = revision.ledger_schema != revision.schema
    if (
        provided_connection is None
        and revision.place is not None
        and (apart or not revision.place.visible)
    ):
        # `alembic check` looks for tables in the first schema of the search path only.
        schemas = dict.fromkeys((revision.ledger_schema or "public", revision.schema or "public"))
        schema = revision.spell(*schemas)
        connection.execute(sql_text(f"SET LOCAL search_path = {schema}"))

    # Alembic leaves its table behind at base; nothing of ours shall stay.
    versions = Table(VERSION_TABLE, MetaData(), schema=revision.ledger_schema)

    at_base = False

    def note(*, heads: Any, **_: object) -> None:
        nonlocal at_base
        at_base = not heads

    options: dict[str, Any] = {}
    if offline:
        options["on_version_apply"] = note
        if not context.get_starting_revision_argument():
            options["starting_rev"] = installed_in(connection, revision.ledger_schema)
    # Offline only its dialect is used. What would be executed goes to the script.
    target: Any = MockConnection(printing(connection.dialect), _never) if offline else connection
    context.configure(
        connection=target,
        target_metadata=Base.metadata,
        include_name=lambda name, kind, _: kind != "table" or is_ours(name),
        include_object=lambda thing, name, kind, *_: kind != "table" or is_ours(name),
        version_table=VERSION_TABLE,
        version_table_schema=revision.ledger_schema,
        transactional_ddl=True,
        literal_binds=offline,
        revision_context=revision,
        **options,
    )
    if not offline:
        there = installed_in(connection, revision.ledger_schema)
        if not context.get_context().opts.get("dont_mutate") and there != head():
            check_upgrade_privileges(revision)
            make_schema = new_schema(revision)
            if make_schema is not None:
                connection.execute(sql_text(make_schema))
        context.run_migrations()
        dry = context.get_context().opts.get("dont_mutate")
        if not dry and not context.get_context().get_current_heads():
            versions.drop(connection, checkfirst=True)
        return
    with context.begin_transaction():
        if revision.postgresql:
            for statement in TRANSACTION_SETUP:
                context.execute(statement)
            context.execute(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
        make_schema = new_schema(revision)
        if make_schema is not None:
            context.execute(sql_text(make_schema))
        context.run_migrations()
        if at_base:
            # Alembic before 1.19 has dropped it in its script already.
            context.get_context().impl.drop_table(versions, if_exists=True)


def _never(*_: object, **__: object) -> None:
    raise AssertionError("nothing is executed offline")


def is_ours(name: str | None) -> bool:
    """Return whether `alembic check` compares a table; it leaves out Chinook's own tables."""
    return (name or "").startswith("chinook_sim_") and name != VERSION_TABLE


def run_with_settings() -> None:
    """Migrate the database that the settings name."""
    # Without this, loggers that the application made before would fall silent.
    if context.config.config_file_name is not None:
        fileConfig(context.config.config_file_name, disable_existing_loggers=False)
    secrets: tuple[str, ...] = ()
    try:
        load_dotenv(Path.cwd())
        location = find_database(os.environ, directory=Path.cwd())
        secrets = location.secrets
        with connected(location) as connection, connection.begin():
            set_timeouts(connection, LOCK_TIMEOUT, None)
            run(connection)
    except (ChinookSimError, DBAPIError) as error:
        said = str(error.orig if isinstance(error, DBAPIError) else error).strip().splitlines()
        raise CommandError(scrub(said[0], secrets)) from None


@contextmanager
def connected(location: Any) -> Iterator[Connection]:
    """Connect to a database; what a file that is not there yet would hold is in memory."""
    offline = context.is_offline_mode()
    if offline and location.embedded and location.missing:
        with create_engine("sqlite://").connect() as connection:
            yield connection
        return
    engine = make_engine(location, writing=not offline, create=location.embedded and not offline)
    with open_connection(
        engine,
        location,
        say=lambda line: print(line, file=sys.stderr),  # noqa: T201
    ) as connection:
        yield connection


if provided_connection is None:
    run_with_settings()
else:
    run(provided_connection)
