"""Recognising a Chinook: its spelling, its schema, and where its ids come from.

`recognise` is the only function that finds these out, with one query of the catalogue.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session, scoped_session

from chinook_sim.database.backends import backend_for
from chinook_sim.database.connections import refuse_translation, shop_connection
from chinook_sim.database.identifiers import SPELLING_NAMES, Spelling, apply_spelling
from chinook_sim.database.schema import (
    SALE_TABLES,
    Chinook,
    SchemaCandidate,
    TableRow,
    spellings_of,
)
from chinook_sim.errors import InvalidInput, NotAChinook
from chinook_sim.models import Customer, Invoice, InvoiceLine

if TYPE_CHECKING:
    from collections.abc import Sequence


__all__ = ["find_candidate", "find_schemas", "recognise"]

logger = logging.getLogger(__name__)


def recognise(bind: Session | scoped_session[Session] | Engine | Connection) -> Chinook:
    """Find out which Chinook a database holds, and let the engine use its names.

    Call it if you only want to query a snake_case Chinook, or one that is not on the search path,
    with the classes of `chinook_sim`. Functions that write sales call it themselves.

    Args:
        bind: a session, a connection, or an engine, on which a connection is opened for it.

    Raises:
        NotAChinook: a table or column that sales need is missing, or there are several Chinooks
            and none comes first on the search path.
        DatabaseUnavailable: the database is neither PostgreSQL nor SQLite.
        InvalidInput: it is none of these, or its tables are renamed by `schema_translate_map`.
    """
    if isinstance(bind, Engine):
        with bind.connect() as connection:
            return recognise(connection)
    if isinstance(bind, Session | scoped_session):
        connection = shop_connection(bind)
    elif isinstance(bind, Connection):
        connection = bind
    else:
        raise InvalidInput(
            f"expected a Session, a Connection or an Engine, got {type(bind).__name__}"
        )
    refuse_translation(connection)
    try:
        place = _choose(find_schemas(connection))
    except NotAChinook as error:
        backend = backend_for(connection)
        grant = backend.grant_on_closed_schema(connection)
        said = f"{error}: {grant}" if grant else str(error)
        name = backend.database_name(connection)
        if name is not None:
            said = f"database {name}: {said}"
        raise NotAChinook(said, missing=error.missing) from None
    schema = None if place.visible else place.schema
    apply_spelling(connection, place.spelling, schema, place.separate_ledger or schema)
    chinook = Chinook(
        place.spelling,
        place.schema,
        place.visible,
        place.ids_of(Invoice.__table__),
        place.ids_of(InvoiceLine.__table__),
        place.ids_of(Customer.__table__),
        place.ledger,
        place.ledger_schema,
        place.outdated_ledger,
        place.stray_ledger,
        place.row_security,
        place.today,
        place.unusual_settings,
    )
    logger.debug(
        "recognised a Chinook: %s names, schema %s, ids of invoices: %s, ids of lines: %s, %s",
        SPELLING_NAMES[chinook.spelling],
        chinook.schema,
        chinook.invoice_ids.shown,
        chinook.line_ids.shown,
        "with a ledger" if chinook.ledger else "without a ledger",
    )
    return chinook


def find_candidate(connection: Connection) -> SchemaCandidate | None:
    """Return where the Chinook is, or what there is of one, or None where there is nothing of it.

    Raises:
        NotAChinook: there are several, as for `recognise`.
    """
    places = find_schemas(connection)
    if any(not place.missing(SALE_TABLES) for place in places):
        return _choose(places)
    return max(places, key=lambda place: len(place.columns), default=None)


def find_schemas(connection: Connection) -> list[SchemaCandidate]:
    """Return the schemas that hold tables with names of Chinook's, in the order of the search path.

    Raises:
        DatabaseUnavailable: the database is neither PostgreSQL nor SQLite.
    """
    found: dict[tuple[str | None, Spelling], list[TableRow]] = defaultdict(list)
    for row in backend_for(connection).chinook_tables(connection):
        for spelling in spellings_of(row.table):
            found[row.schema, spelling].append(row)
    return [_candidate(spelling, tables) for (_, spelling), tables in found.items()]


def _candidate(spelling: Spelling, found: Sequence[TableRow]) -> SchemaCandidate:
    return SchemaCandidate(
        found[0].schema,
        spelling,
        on_path=found[0].on_path,
        # One table behind a temporary one of the same name, and all need their schema.
        visible=all(row.visible for row in found),
        ledger_schema=found[0].ledger_schema,
        ledger=found[0].ledger,
        outdated_ledger=found[0].outdated_ledger,
        stray_ledger=found[0].stray_ledger,
        row_security=tuple(dict.fromkeys(table for row in found for table in row.row_security)),
        today=found[0].today,
        unusual_settings=found[0].unusual_settings,
        columns={row.table: row.columns for row in found},
        ids={row.table: row.ids for row in found if row.ids},
    )


def _choose(places: Sequence[SchemaCandidate]) -> SchemaCandidate:
    complete = [place for place in places if not place.missing(SALE_TABLES)]
    if not complete:
        raise _nothing_here(places)
    # The search path decides, as it would for a statement; without it only one may be there.
    schema = complete[0].schema
    first = [place for place in complete if place.on_path and place.schema == schema] or complete
    if len(first) > 1:
        where = ", ".join(
            f"{place.schema or 'main'} ({place.spell(Invoice.__table__.name)})" for place in first
        )
        # One schema may hold both spellings.
        apart = len({place.schema for place in first}) > 1
        advice = (
            "set the search_path to the schema that holds the one you mean, alone"
            if apart
            else "move one of them to another schema or database"
        )
        raise NotAChinook(f"there are {len(first)} Chinooks in this database: {where}; {advice}")
    return first[0]


def _nothing_here(places: Sequence[SchemaCandidate]) -> NotAChinook:
    if not places:
        missing = tuple(table.name for table in SALE_TABLES)
        return NotAChinook(
            f"no Chinook in this database: it has no table {', '.join(missing)}; "
            "`chinook-sim init` makes one in an empty database",
            missing=missing,
        )
    missing = min((place.missing(SALE_TABLES) for place in places), key=len)
    return NotAChinook(
        f"incomplete Chinook: {', '.join(missing)} not found; "
        "`alembic upgrade head` creates missing tables, and alters no existing ones",
        missing=missing,
    )
