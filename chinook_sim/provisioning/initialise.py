"""Making a database ready: its tables, a stand-in Chinook where there is none, or a real one.

Nothing is ever written over what exists. A new SQLite file is made under another name and given
its own when it is whole, so that a killed process leaves no half shop behind.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sqlalchemy import inspect, literal, select

from chinook_sim.database.backends import backend_for
from chinook_sim.database.clock import d1
from chinook_sim.database.engine import make_engine
from chinook_sim.database.identifiers import SPELLING_NAMES
from chinook_sim.database.introspection import place_of, recognise
from chinook_sim.database.schema import CHINOOK_TABLES
from chinook_sim.errors import DatabaseUnavailable, InvalidInput, NotAChinook
from chinook_sim.ledger.keys import require_ledger
from chinook_sim.ledger.recording import set_baseline
from chinook_sim.models import Customer
from chinook_sim.provisioning.migration_runner import upgrade
from chinook_sim.provisioning.revision_context import demand, demand_init, lock, prepare
from chinook_sim.provisioning.sample_loader import fill
from chinook_sim.provisioning.source_file import load_sqlite, publish
from chinook_sim.provisioning.sql_dump import load_postgresql

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from chinook_sim.database.identifiers import Spelling
    from chinook_sim.database.schema import Chinook
    from chinook_sim.database.settings import Location

__all__ = ["Made", "initialise", "make_file"]

Made = Literal["nothing", "stand-in", "copy"]
"""What a database was given: nothing (it had a Chinook), the stand-in, or a copy of a real one."""


def initialise(
    connection: Connection,
    *,
    scale: int = 1,
    source: Path | None = None,
    spelling: Spelling | None = None,
    ledger_schema: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> Made:
    """Make a database ready, in the transaction that is open.

    A Chinook that is there is migrated and otherwise left as it is; an empty database gets the
    dump, if one is given, or the stand-in.

    Args:
        connection: with a transaction open; on SQLite one that may write.
        scale: how many times the size of the real Chinook the stand-in has.
        source: a dump of a PostgreSQL Chinook.
        spelling: `camel` or `snake`, of the stand-in's names; `camel` if None. A Chinook that is
            there, or in `source`, must have the same one, or any if None.
        ledger_schema: a PostgreSQL schema for the ledger's tables, made if it is not there; by
            default they are beside the shop's.
        progress: told the number of rows written, now and then.

    Raises:
        NotAChinook: there is something else in the database.
        NoLedger: it was made before, and somebody dropped it.
        InvalidInput: `source` is given, and there is a Chinook already; or it is no such dump; or
            there is no such spelling, or the Chinook has another one.
        BatchFailed: the database refused a statement of the dump.
    """
    if spelling is not None and spelling not in SPELLING_NAMES:
        known = " or ".join(map(repr, SPELLING_NAMES))
        raise InvalidInput(f"spelling must be {known}, got {spelling!r}")
    lock(connection)
    demand_init(connection, ledger_schema)
    if source is not None and backend_for(connection).is_file:
        raise InvalidInput("this file exists already; --from makes a new one, under another name")
    if place_of(connection) is None:
        _refuse_others(connection)
        if source is not None:
            demand(prepare(connection, ledger_schema=ledger_schema))
            load_postgresql(source, connection)
            _check_spelling(recognise(connection), spelling)
            upgrade(connection, ledger_schema=ledger_schema)
            return "copy"
    elif source is not None:
        raise InvalidInput(
            "this database holds tables of Chinook already; --from needs an empty one"
        )
    else:
        # Before anything is made: an upgrade would complete what is not a whole Chinook.
        _check_spelling(recognise(connection), spelling)
    upgrade(connection, spelling=spelling or "camel", ledger_schema=ledger_schema)
    require_ledger(recognise(connection))
    # Customers first: where there are any, a role need not be allowed to read the other tables.
    tables = (Customer.__table__, *CHINOOK_TABLES)
    if any(connection.scalar(select(literal(1)).select_from(table)) for table in tables):
        return "nothing"
    fill(connection, scale, d1(connection) + timedelta(days=1), progress=progress)
    set_baseline(connection)
    return "stand-in"


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
        location: where it shall be.
        path: the same, as a path.
        scale: as for `initialise`.
        source: a SQLite file with a Chinook.
        spelling: as for `initialise`.
        progress: as for `initialise`.

    Returns:
        What was made; `nothing` where another process was faster.

    Raises:
        InvalidInput: `source` is no SQLite Chinook; or as for `initialise`.
        DatabaseUnavailable: the directory is not there, or may not be written to.
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
            load_sqlite(source, draft)
        url = location.url.set(database=str(draft))
        engine = make_engine(replace(location, url=url), writing=True, create=True)
        with engine.begin() as connection:
            made = initialise(connection, scale=scale, spelling=spelling, progress=progress)
        if not publish(draft, path):
            return "nothing"
        return made if source is None else "copy"


def _check_spelling(chinook: Chinook, wanted: Spelling | None) -> None:
    """Refuse a Chinook of another spelling than the one that was asked for."""
    if wanted not in (None, chinook.spelling):
        raise InvalidInput(
            f"this Chinook is spelled {SPELLING_NAMES[chinook.spelling]}, not "
            f"{SPELLING_NAMES[wanted]}, and names are never changed; leave out --spelling, or "
            "make a stand-in in an empty database"
        )


def _refuse_others(connection: Connection) -> None:
    """Refuse a database in which there is something, and nothing of it is a Chinook."""
    others = [
        name
        for name in inspect(connection).get_table_names()
        if not name.startswith("chinook_sim_")
    ]
    if others:
        shown = ", ".join(others[:3]) + (" …" if len(others) > 3 else "")
        raise NotAChinook(
            f"this database is neither empty nor a Chinook: it has {shown}; "
            "use an empty one; nothing was changed"
        )
