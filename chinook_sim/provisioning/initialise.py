"""Setting up a database: its tables, and in an empty one a stand-in Chinook or a real one.

Nothing that exists is overwritten. A new SQLite file is made under another name and gets its own
when it is complete, so that a killed process leaves no incomplete file behind.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sqlalchemy import literal, select

from chinook_sim.database.backends import backend_for
from chinook_sim.database.clock import d1
from chinook_sim.database.connections import (
    check_connection,
    is_psycopg,
    refuse_autocommit,
    refuse_translation,
)
from chinook_sim.database.engine import make_engine
from chinook_sim.database.introspection import find_candidate, recognise
from chinook_sim.database.names import CHINOOK_TABLES, SPELLING_NAMES
from chinook_sim.database.transactions import translated
from chinook_sim.dates import check_day
from chinook_sim.errors import DatabaseUnavailable, InvalidInput
from chinook_sim.integers import check_integer
from chinook_sim.ledger.keys import require_ledger
from chinook_sim.ledger.recording import set_baseline
from chinook_sim.models import Customer
from chinook_sim.provisioning.migration_runner import (
    check_ledger_schema,
    check_spelling,
    head,
    upgrade,
)
from chinook_sim.provisioning.revision_context import (
    check_init_privileges,
    check_upgrade_privileges,
    lock,
    prepare,
    refuse_others,
)
from chinook_sim.provisioning.sample_data import EARLIEST, MAX_SCALE
from chinook_sim.provisioning.sample_loader import fill
from chinook_sim.provisioning.source_file import kind, load_sqlite, publish
from chinook_sim.provisioning.sql_dump import load_postgresql
from chinook_sim.provisioning.sqlite_script import load_script
from chinook_sim.sampling.draws import SEED_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

    from sqlalchemy import Connection

    from chinook_sim.database.names import Spelling
    from chinook_sim.database.schema import Chinook
    from chinook_sim.database.settings import Location

__all__ = ["InitialiseResult", "Made", "initialise", "make_file"]

Made = Literal["nothing", "stand-in", "copy"]
"""What a database was given: nothing (it had a Chinook), the stand-in, or a copy of a real one."""


@dataclass(frozen=True, slots=True)
class InitialiseResult:
    """What `initialise` did.

    Attributes:
        made: `nothing`: there was a Chinook, which was migrated and not changed otherwise;
            `stand-in`: an empty database got the stand-in; or `copy`: it got the given dump.
        revision: the revision of the database now.
    """

    made: Made
    revision: str


def initialise(
    connection: Connection,
    *,
    scale: int = 1,
    source: str | os.PathLike[str] | None = None,
    spelling: Spelling | None = None,
    ledger_schema: str | None = None,
    today: date | None = None,
    seed: int = 1,
    progress: Callable[[int], None] | None = None,
) -> InitialiseResult:
    """Set up a database, as `chinook-sim init` does, in the connection's transaction.

    A Chinook that exists is migrated and not changed otherwise. An empty database gets the stand-in
    Chinook, or the dump, if one is given. On an error nothing of it is kept, also if you catch the
    error and commit. You commit::

        with engine.begin() as connection:
            print(initialise(connection).made)

    Args:
        connection: on PostgreSQL or SQLite. To fill an empty PostgreSQL database it must be of
            psycopg.
        scale: size of the stand-in in multiples of the real Chinook, 1 to 1,000.
        source: a plain SQL dump of a PostgreSQL Chinook, for an empty PostgreSQL database; not
            together with `scale`.
        spelling: `camel` or `snake`, of the names of the stand-in; `camel` if None. A Chinook that
            exists, or is in `source`, must have this spelling, or any if None.
        ledger_schema: a PostgreSQL schema for the ledger, made if it does not exist; by default
            the one of the shop.
        today: the history of the stand-in ends two days before; the database's `CURRENT_DATE` if
            None.
        seed: of the stand-in. The same seed makes the same shop of the same scale and day.
        progress: called with the number of rows written since the last call.

    Raises:
        NotAChinook: there is something else in the database.
        NoLedger: the database had a ledger that was dropped.
        MigrationRefused: as for `upgrade`.
        InvalidInput: an argument has a wrong value; it is no connection, or one of PostgreSQL in
            AUTOCOMMIT mode; or `source` is given, and there is a Chinook already, or it is no such
            dump.
        BatchFailed: the database refused a statement.
    """
    check_connection(connection)
    refuse_autocommit(connection)
    refuse_translation(connection)
    if spelling is not None:
        check_spelling(spelling)
    check_ledger_schema(ledger_schema)
    if source is not None and not isinstance(source, str | os.PathLike):
        raise InvalidInput(f"source must be the path of a dump, got {source!r}")
    scale = check_integer("scale", scale, 1, MAX_SCALE)
    seed = check_integer("seed", seed, 0, SEED_LIMIT - 1)
    if source is not None and scale != 1:
        raise InvalidInput("source and scale exclude each other; pass one of them")
    if progress is not None and not callable(progress):
        raise InvalidInput(f"progress must be a function of a number of rows, got {progress!r:.40}")
    if today is not None:
        check_day(today)
        if today < EARLIEST:
            raise InvalidInput(f"today must be {EARLIEST} or later, got {today}")
    with translated():
        # Before the savepoint: it sets the isolation level, or SQLite's transaction begins there.
        lock(connection)
        with connection.begin_nested():
            made = _make(
                connection,
                None if source is None else Path(source),
                spelling,
                ledger_schema,
                lambda: fill(
                    connection,
                    scale,
                    today or d1(connection) + timedelta(days=1),
                    seed=seed,
                    progress=progress,
                ),
            )
    return InitialiseResult(made, head())


def _make(
    connection: Connection,
    source: Path | None,
    spelling: Spelling | None,
    ledger_schema: str | None,
    fill_tables: Callable[[], None],
) -> Made:
    """Migrate what is there, and fill it if it is empty."""
    check_init_privileges(connection, ledger_schema)
    if source is not None and backend_for(connection).is_file:
        raise InvalidInput(
            "this file exists already; to copy a source, name a file that does not exist"
        )
    if find_candidate(connection) is None:
        refuse_others(connection)
        _refuse_other_drivers(connection)
        if source is not None:
            if kind(source) == "file":
                raise InvalidInput(f"{source.name} is a SQLite file; the database is PostgreSQL")
            check_upgrade_privileges(prepare(connection, ledger_schema=ledger_schema))
            load_postgresql(source, connection)
            _check_spelling(recognise(connection), spelling)
            upgrade(connection, ledger_schema=ledger_schema)
            return "copy"
    elif source is not None:
        raise InvalidInput(
            "this database holds tables of Chinook already; a source needs an empty one"
        )
    else:
        # Before anything is made: an upgrade would complete an incomplete Chinook.
        _check_spelling(recognise(connection), spelling)
    upgrade(connection, spelling=spelling or "camel", ledger_schema=ledger_schema)
    chinook = recognise(connection)
    require_ledger(chinook)
    # Customers first: where there are any, a role need not be allowed to read the other tables.
    tables = [it for it in (Customer.__table__, *CHINOOK_TABLES) if it.name in chinook.names]
    if any(connection.scalar(select(literal(1)).select_from(table)) for table in tables):
        return "nothing"
    if len(tables) <= len(CHINOOK_TABLES):
        # Those with other names than the usual ones are not completed.
        return "nothing"
    _refuse_other_drivers(connection)
    fill_tables()
    set_baseline(connection)
    return "stand-in"


def _refuse_other_drivers(connection: Connection) -> None:
    """Refuse to fill a PostgreSQL database through a driver without psycopg's COPY."""
    if not backend_for(connection).is_file and not is_psycopg(connection):
        raise InvalidInput(
            f"an empty database is filled with COPY, which needs psycopg, not "
            f"{connection.dialect.driver}; use an engine of postgresql+psycopg://"
        )


def make_file(
    location: Location,
    path: Path,
    *,
    scale: int = 1,
    source: Path | None = None,
    spelling: Spelling | None = None,
    progress: Callable[[int], None] | None = None,
) -> Made:
    """Make a new SQLite file: a copy of `source`, or the stand-in.

    Args:
        location: the database.
        path: its path.
        scale: as for `initialise`.
        source: a SQLite file with a Chinook, or a script that makes one.
        spelling: as for `initialise`.
        progress: as for `initialise`.

    Returns:
        What was made; `nothing` if another process was faster.

    Raises:
        InvalidInput: `source` is no SQLite Chinook; or as for `initialise`.
        DatabaseUnavailable: the directory does not exist or cannot be written to.
    """
    try:
        workplace = tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise DatabaseUnavailable(
            f"{path} cannot be made: {error.strerror}; name a place that may be written to"
        ) from None
    with workplace as directory:
        draft = Path(directory) / path.name
        if source is not None:
            load = load_sqlite if kind(source) == "file" else load_script
            load(source, draft)
        url = location.url.set(database=str(draft))
        engine = make_engine(replace(location, url=url), writing=True, create=True)
        with engine.begin() as connection:
            made = initialise(connection, scale=scale, spelling=spelling, progress=progress).made
        if not publish(draft, path):
            return "nothing"
        return made if source is None else "copy"


def _check_spelling(chinook: Chinook, wanted: Spelling | None) -> None:
    """Refuse a Chinook of another spelling than the one that was asked for."""
    if wanted not in (None, chinook.spelling):
        found = chinook.names.description
        raise InvalidInput(
            f"this Chinook has {found}{' names' if chinook.spelling else ''}, not "
            f"{SPELLING_NAMES[wanted]} names, and names are never changed; omit the spelling, or "
            "use an empty database"
        )
