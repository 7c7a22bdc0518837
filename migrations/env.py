"""Alembic's door: the same settings as the command, or a connection that was lent.

Everything happens in one transaction, under a lock, so that an upgrade is whole or has not been.
"""

from __future__ import annotations

import os
import sys
from logging.config import fileConfig
from pathlib import Path
from typing import TYPE_CHECKING

from alembic import context
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from chinook_sim.connecting import make_engine, open_connection
from chinook_sim.errors import ChinookSimError
from chinook_sim.migrate import VERSION_TABLE, prepare
from chinook_sim.settings import find_database, load_dotenv, scrub

if TYPE_CHECKING:
    from sqlalchemy import Connection


def run(connection: Connection) -> None:
    """Migrate on a connection whose transaction is open."""
    schema = prepare(connection)
    context.configure(
        connection=connection, version_table=VERSION_TABLE, version_table_schema=schema
    )
    context.run_migrations()


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
        engine = make_engine(location, writing=True, create=location.embedded)
        with (
            open_connection(
                engine,
                location,
                say=lambda line: print(line, file=sys.stderr),  # noqa: T201
            ) as connection,
            connection.begin(),
        ):
            run(connection)
    except (ChinookSimError, DBAPIError) as error:
        said = str(error.orig if isinstance(error, DBAPIError) else error).strip().splitlines()
        raise CommandError(scrub(said[0], secrets)) from None


if context.is_offline_mode():
    raise CommandError(
        "--sql is not possible: which tables are missing is found out from the database"
    )
lent = context.config.attributes.get("connection")
if lent is None:
    run_with_settings()
else:
    run(lent)
