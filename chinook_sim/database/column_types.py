"""The types that columns of sale tables may have, and what to do about others.

They are checked before anything is written: the database would accept some values and round them,
or refuse the rows with a message that does not say why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from chinook_sim.database.backends import backend_for
from chinook_sim.database.identifiers import quoted
from chinook_sim.database.names import SALE_TABLES, key_of
from chinook_sim.database.schema import TIMESTAMPTZ
from chinook_sim.errors import NotAChinook
from chinook_sim.models import Customer, Invoice, InvoiceLine, Track

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy import Connection, Table

    from chinook_sim.database.schema import ColumnType, SchemaCandidate

__all__ = ["check_types"]


class _Kind(NamedTuple):
    """What a column holds.

    Attributes:
        holds: for messages.
        types: the types it may have on PostgreSQL.
        conversions: by another type, the type to change it to and the expression for the values.
    """

    holds: str
    types: frozenset[str]
    conversions: Mapping[str, tuple[str, str]]


_TEXTS = ("text", "character varying", "character")

_IDS = _Kind(
    "an id",
    frozenset({"smallint", "integer", "bigint"}),
    {**dict.fromkeys(_TEXTS, ("bigint", "{}::bigint")), "numeric": ("bigint", "{}::bigint")},
)
_AMOUNTS = _Kind(
    "an amount",
    frozenset({"numeric", "double precision", "real"}),
    {
        **dict.fromkeys(_TEXTS, ("numeric(10,2)", "{}::numeric")),
        "money": ("numeric(10,2)", "{}::numeric"),
        **dict.fromkeys(("smallint", "integer", "bigint"), ("numeric(10,2)", "{} / 100.0")),
    },
)
_NUMBERS = frozenset({"smallint", "integer", "bigint", "numeric", "double precision", "real"})

_QUANTITIES = _Kind("a number", _NUMBERS, dict.fromkeys(_TEXTS, ("integer", "{}::integer")))
_DATES = _Kind(
    "a date and time",
    frozenset({"timestamp without time zone", TIMESTAMPTZ}),
    dict.fromkeys((*_TEXTS, "date"), ("timestamp", "{}::timestamp")),
)

_KINDS = {
    **{
        key_of(column.name): _IDS
        for model in (Customer, Track, Invoice, InvoiceLine)
        for column in model.__table__.columns
        if column.primary_key
    },
    "Invoice.CustomerId": _IDS,
    "InvoiceLine.InvoiceId": _IDS,
    "InvoiceLine.TrackId": _IDS,
    "Track.UnitPrice": _AMOUNTS,
    "InvoiceLine.UnitPrice": _AMOUNTS,
    "Invoice.Total": _AMOUNTS,
    "InvoiceLine.Quantity": _QUANTITIES,
    "Invoice.InvoiceDate": _DATES,
}

_INSERTED_TABLES = (Invoice.__table__, InvoiceLine.__table__)
"""The tables that every batch inserts into."""


def check_types(connection: Connection, place: SchemaCandidate) -> None:
    """Refuse columns that sales cannot be written to.

    Args:
        connection: which renders the names of the Chinook.
        place: the Chinook.

    Raises:
        NotAChinook: it names the tables, columns and types, and the statements that change them.
    """
    problems = [it for table in SALE_TABLES for it in _problems(connection, place, table)]
    found = backend_for(connection).unreadable_date(connection)
    if found is not None:
        problems.append(_date_problem(connection, found))
    if problems:
        raise NotAChinook(f"unsupported columns: {'; '.join(problems)}")


def _problems(connection: Connection, place: SchemaCandidate, table: Table) -> Iterator[str]:
    for column in table.columns:
        key = key_of(column.name)
        if key in _KINDS:
            found = place.types[key]
            yield from _column_problems(connection, table, column.name, found, _KINDS[key])
    if table in _INSERTED_TABLES:
        table_sql = quoted(connection, table)
        for column in table.columns:
            if place.types[key_of(column.name)].generated:
                name = quoted(connection, column.name)
                fix = f"Run: ALTER TABLE {table_sql} ALTER COLUMN {name} DROP EXPRESSION"
                if not backend_for(connection).has_typed_columns:
                    fix = "Recreate the table without the expression"
                yield f"{table_sql}.{name} is generated, but must be an ordinary column. {fix}"
        for required in place.required[table.name]:
            name = quoted(connection, required)
            fix = f"Run: ALTER TABLE {table_sql} ALTER COLUMN {name} SET DEFAULT <value>"
            if not backend_for(connection).has_typed_columns:
                fix = "Recreate the table, with a default for it or without NOT NULL"
            yield f"{table_sql}.{name} is NOT NULL and has no default. {fix}"


def _column_problems(
    connection: Connection, table: Table, name: str, found: ColumnType, kind: _Kind
) -> Iterator[str]:
    table_sql, column = quoted(connection, table), quoted(connection, name)
    if not backend_for(connection).has_typed_columns:
        # SQLite stores a value of any type in a column, but ids must be integers.
        if kind is _IDS and "INT" not in found.name.upper():
            yield f"{table_sql}.{column} is {found.name or 'of no type'}, but must be INTEGER"
        return
    exact = kind is not _AMOUNTS or found.scale is None or found.scale >= 2
    if found.name in kind.types and exact:
        return
    shown = found.name if found.scale is None else f"{found.name} with scale {found.scale}"
    line = f"{table_sql}.{column} has the type {shown}, but must hold {kind.holds}"
    wanted, values = kind.conversions.get(found.name, ("", ""))
    if kind is _AMOUNTS and found.name == "numeric":
        wanted, values = "numeric(10,2)", "{}"
    if not wanted:
        yield f"{line} ({', '.join(sorted(kind.types))})"
        return
    advice = "Run (if it holds cents)" if "100.0" in values else "Run"
    if kind is _IDS:
        advice = "Drop the foreign keys on it, and run this for the columns on both sides"
    yield (
        f"{line}. {advice}: ALTER TABLE {table_sql} ALTER COLUMN {column} TYPE {wanted} "
        f"USING {values.format(column)}"
    )


def _date_problem(connection: Connection, found: Any) -> str:
    """Return what is wrong with an invoice date in SQLite, and the UPDATE that converts all."""
    table_sql = quoted(connection, Invoice.__table__)
    column = quoted(connection, Invoice.__table__.c.InvoiceDate.name)
    line = (
        f"{table_sql}.{column} holds {found!r:.40}, but must hold text such as "
        "'2026-01-31 14:30:00'"
    )
    if isinstance(found, str | bytes):
        return line
    # Numbers are days since 4714 BC, or seconds or milliseconds since 1970.
    expressions = {
        (1e6, 1e7): f"datetime({column})",
        (1e8, 1e11): f"datetime({column}, 'unixepoch')",
        (1e11, 1e14): f"datetime({column} / 1000, 'unixepoch')",
    }
    for (low, high), expression in expressions.items():
        if low <= found < high:
            where = f"WHERE typeof({column}) <> 'text'"
            return f"{line}. Run: UPDATE {table_sql} SET {column} = {expression} {where}"  # noqa: S608
    return line
