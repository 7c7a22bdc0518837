"""Recognising a Chinook: its names, its schema, and where its ids come from.

`recognise` is the only function that finds these out, with one query of the catalogue.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.orm import Session, scoped_session

from chinook_sim.database.backends import backend_for
from chinook_sim.database.column_types import check_types
from chinook_sim.database.connections import refuse_translation, shop_connection
from chinook_sim.database.identifiers import apply_names
from chinook_sim.database.matching import Match, match_tables
from chinook_sim.database.names import SALE_TABLES, key_of, stated_names
from chinook_sim.database.schema import TIMESTAMPTZ, Chinook, SchemaCandidate, TableRow
from chinook_sim.errors import InvalidInput, NotAChinook
from chinook_sim.kinds import RunKind
from chinook_sim.models import Customer, Invoice, InvoiceLine, Run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chinook_sim.database.names import NameMap


__all__ = ["find_candidate", "find_schemas", "incomplete", "recognise"]

logger = logging.getLogger(__name__)

MISSING_SHOWN = 6
"""How many missing tables and columns an error message names."""


def recognise(bind: Session | scoped_session[Session] | Engine | Connection) -> Chinook:
    """Find out which Chinook a database holds, and let the engine use its names.

    Call it if you only want to query, with the classes of `chinook_sim`, a Chinook that has other
    names than these classes or is not on the search path. Functions that write sales call it
    themselves.

    Args:
        bind: a session, a connection, or an engine, on which a connection is opened for it.

    Returns:
        The Chinook: its names, its schema, where its ids come from, and its time zone.

    Raises:
        NotAChinook: a table or column that sales need is missing or ambiguous, has a type that is
            not supported, or is not as a file for `--map` states; or there are several Chinooks
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
        place = _choose(find_schemas(connection), stated_names(connection))
    except NotAChinook as error:
        backend = backend_for(connection)
        grant = backend.grant_on_closed_schema(connection)
        said = f"{error}: {grant}" if grant else str(error)
        name = backend.database_name(connection)
        if name is not None:
            said = f"database {name}: {said}"
        raise NotAChinook(said, missing=error.missing) from None
    schema = None if place.visible else place.schema
    zoned = place.types[key_of(Invoice.__table__.c.InvoiceDate.name)].name == TIMESTAMPTZ
    apply_names(connection, place.names, schema, place.separate_ledger or schema, zoned=zoned)
    check_types(connection, place)
    chinook = Chinook(
        place.names,
        place.schema,
        place.visible,
        place.ids_of(Invoice.__table__.name),
        place.ids_of(InvoiceLine.__table__.name),
        place.ids_of(Customer.__table__.name),
        place.ledger,
        place.ledger_schema,
        place.outdated_ledger,
        place.stray_ledger,
        place.row_security,
        place.today,
        place.unusual_settings,
        _timezone(connection, place) if zoned else None,
    )
    logger.debug(
        "recognised a Chinook: %s names, schema %s, ids of invoices: %s, ids of lines: %s, %s",
        chinook.names.description,
        chinook.schema,
        chinook.invoice_ids.shown,
        chinook.line_ids.shown,
        "with a ledger" if chinook.ledger else "without a ledger",
    )
    return chinook


def find_candidate(connection: Connection) -> SchemaCandidate | None:
    """Return the Chinook, complete or not; None if no table resembles one of its tables.

    Raises:
        NotAChinook: there are several, as for `recognise`.
    """
    places = find_schemas(connection)
    if any(not place.missing(SALE_TABLES) for place in places):
        return _choose(places, stated_names(connection))
    # A few tables elsewhere that only resemble Chinook's are of another application.
    likely = [it for it in places if it.on_path or it.names.spelling]
    return max(likely, key=lambda place: len(place.names), default=None)


def find_schemas(connection: Connection) -> list[SchemaCandidate]:
    """Return the schemas that hold tables with names of Chinook's, in the order of the search path.

    Raises:
        DatabaseUnavailable: the database is neither PostgreSQL nor SQLite.
    """
    backend = backend_for(connection)
    stated = stated_names(connection)
    found: dict[str | None, list[TableRow]] = defaultdict(list)
    for row in backend.chinook_tables(connection):
        found[row.schema].append(row)
    return [
        _candidate(match)
        for rows in found.values()
        for match in match_tables(rows, stated, ignore_case=backend.ignores_case)
        if match.tables
    ]


def _candidate(match: Match) -> SchemaCandidate:
    rows = list(match.tables.values())
    sold = [it for table in SALE_TABLES if (it := match.tables.get(table.name)) is not None]
    return SchemaCandidate(
        rows[0].schema,
        match.names,
        match.ids,
        match.types,
        match.required,
        match.unclear,
        match.conflict,
        on_path=rows[0].on_path,
        # One table behind a temporary one of the same name, and all need their schema.
        visible=all(row.visible for row in rows),
        ledger_schema=rows[0].ledger_schema,
        ledger=rows[0].ledger,
        outdated_ledger=rows[0].outdated_ledger,
        stray_ledger=rows[0].stray_ledger,
        row_security=(*(it.table for it in sold if it.hides_rows), *rows[0].hidden_ledger),
        today=rows[0].today,
        unusual_settings=rows[0].unusual_settings,
    )


def _timezone(connection: Connection, place: SchemaCandidate) -> str:
    """Return the time zone of the sales; see `Chinook`."""
    zone: Any = func.current_setting("TimeZone")
    if place.ledger:
        recorded = select(Run.timezone).where(Run.run_id == RunKind.BASELINE).scalar_subquery()
        zone = func.coalesce(recorded, zone)
    return str(connection.scalar(select(zone)))


def _choose(places: Sequence[SchemaCandidate], stated: NameMap) -> SchemaCandidate:
    complete = [place for place in places if not place.missing(SALE_TABLES)]
    if not complete:
        raise incomplete(places, stated)
    # The first schema on the search path wins. If none is on it, there must be exactly one Chinook.
    schema = complete[0].schema
    first = [place for place in complete if place.on_path and place.schema == schema] or complete
    if len(first) > 1:
        raise _ambiguous(first)
    absent = stated.first_missing_from(first[0].names)
    if absent is not None:
        raise _wrong_map(*absent)
    return first[0]


def _wrong_map(key: str, name: str) -> NotAChinook:
    return NotAChinook(
        f"the file for --map names {name!r} as {key}, but this database has no such "
        f"{'column' if '.' in key else 'table'}; correct the file",
        missing=(key,),
    )


def _ambiguous(places: Sequence[SchemaCandidate]) -> NotAChinook:
    # One schema may hold several.
    apart = len({place.schema for place in places}) > 1
    names = {
        table.name: list(dict.fromkeys(place.names[table.name] for place in places))
        for table in SALE_TABLES
    }
    if not apart and len(names[Invoice.__table__.name]) == 1:
        unclear = "; ".join(
            f"{table} may be {' or '.join(some)}" for table, some in names.items() if len(some) > 1
        )
        return NotAChinook(
            f"ambiguous Chinook: {unclear}; rename one, or state which it is in a file for --map"
        )
    where = ", ".join(
        f"{place.schema or 'main'} ({place.names[Invoice.__table__.name]})" for place in places
    )
    advice = (
        "set the search_path to the schema of the one to use, and no other schema"
        if apart
        else "move one of them to another schema or database"
    )
    return NotAChinook(f"there are {len(places)} Chinooks in this database: {where}; {advice}")


def incomplete(places: Sequence[SchemaCandidate], stated: NameMap) -> NotAChinook:
    """Return the error that no schema has all sale tables.

    Args:
        places: what there is of a Chinook.
        stated: names stated by the user.
    """
    absent = stated.first_missing_from(*(place.names for place in places))
    if absent is not None:
        return _wrong_map(*absent)
    if not places:
        missing = tuple(str(table.name) for table in SALE_TABLES)
        return NotAChinook(
            f"no Chinook in this database: it has no table {', '.join(missing)}; "
            "`chinook-sim init` makes one in an empty database; if the tables have other names, "
            "state these in a file for --map",
            missing=missing,
        )
    place = min(places, key=lambda place: len(place.missing(SALE_TABLES)))
    missing = place.missing(SALE_TABLES)
    if place.conflict is not None:
        return NotAChinook(
            f"foreign keys contradict the names: {place.conflict}; correct the foreign key, or "
            "state the table in a file for --map",
            missing=missing,
        )
    if place.unclear:
        unclear = "; ".join(
            f"{place.names[key.partition('.')[0]]}.{key.partition('.')[2]} may be "
            f"{' or '.join(some)}"
            for key, some in place.unclear.items()
        )
        return NotAChinook(
            f"ambiguous Chinook: {unclear}; rename one, or state which it is in a file for --map",
            missing=missing,
        )
    shown = ", ".join(missing[:MISSING_SHOWN])
    if len(missing) > MISSING_SHOWN:
        shown += f" and {len(missing) - MISSING_SHOWN} more"
    complete = not any(place.missing([table]) for table in SALE_TABLES if place.has(table.name))
    advice = (
        "`alembic upgrade head` creates missing tables, and alters no existing ones"
        if complete and place.names.spelling is not None
        else "if they have other names, state these in a file for --map"
    )
    return NotAChinook(f"incomplete Chinook: {shown} not found; {advice}", missing=missing)
