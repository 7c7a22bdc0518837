"""The messages of database errors, in one line, with what to do about them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy.exc import DBAPIError

from chinook_sim.database.names import CHINOOK_TABLES, column_names, folded, table_names
from chinook_sim.errors import FOREIGN_KEY, RETRYABLE
from chinook_sim.models import InvoiceLine

if TYPE_CHECKING:
    from sqlalchemy import Column

__all__ = ["UNTRANSLATABLE", "DriverError", "describe_driver_error"]

ADVICE = {
    "22021": "the database contains text in another encoding; convert that text to UTF8",
    "22003": "a number does not fit its column; check the prices in the catalogue, and the ids",
    "23502": "give the column a default, or drop its NOT NULL",
    "23503": "the catalogue changed meanwhile; run it again",
    "23505": "another writer took the same ids, or a sequence is behind its table; run it again",
    "23514": "the constraint does not allow simulated rows; change or drop it",
    "23P01": "the constraint does not allow simulated rows; change or drop it",
    "25006": "the database is read-only; use the primary, or a role that may write",
    "25P01": "the connection is in autocommit mode, and a batch needs a transaction",
    "40001": "conflict with another transaction; run it again",
    "40P01": "conflict with another transaction; run it again",
    "42501": "grant the missing privileges, or use another role",
    "53100": "free disk space on the server",
    "55P03": "another transaction holds the lock; run it again, or use a longer lock timeout",
    "57014": "a timeout or an administrator stopped it; run it again, or give it more time",
    "57P01": "the server was shut down; run it again when it is back",
    "P0001": "a trigger or a function in the database raised this; change or disable it",
    "SQLITE_CONSTRAINT_CHECK": "the constraint does not allow simulated rows; change or drop it",
    "SQLITE_CONSTRAINT_NOTNULL": "give the column a default, or drop its NOT NULL",
    "SQLITE_CONSTRAINT_TRIGGER": "a trigger raised this; change or drop it",
    "SQLITE_CONSTRAINT_UNIQUE": "a unique index of your own does not allow simulated rows; change "
    "or drop it",
    "FOREIGN KEY constraint failed": "a row of yours refers to what is deleted, or a trigger skips "
    "or renumbers rows",
    "database is locked": "another program is writing to the file; run it again when it has ended",
    "attempt to write a readonly database": "make the file and its directory writable",
    "database or disk is full": "free disk space",
}
"""By PostgreSQL's error code, by SQLite's, or by its message."""


UNIQUE = "23505"

UNTRANSLATABLE = "22P05"
"""The SQLSTATE of a character that the encoding of the database or of the client does not have."""

CLIENT_LACKS = (
    "use a connection whose client_encoding is UTF8; for the command, unset PGCLIENTENCODING"
)


DATABASE_LACKS = "the database cannot hold this character; use one with ENCODING 'UTF8'"

ONE_LACKS = "use a database with ENCODING 'UTF8', and a connection whose client_encoding is UTF8"

NO_INVOICE = (
    "a trigger skips invoices, or gives them other ids than those that are inserted; change or "
    "disable it"
)


class DriverError(NamedTuple):
    """An error of a database.

    Attributes:
        line: the first line of its message, and what to do if that is known.
        sqlstate: its five-character error code, if it gave one.
        retryable: whether the same transaction may succeed later.
    """

    line: str
    sqlstate: str | None
    retryable: bool


def describe_driver_error(error: BaseException) -> DriverError | None:
    """Return what the database reported, or None if the error is not a database's."""
    original = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(original, UnicodeError):
        # A driver encodes and decodes text, and has no error of its own for what does not fit.
        return DriverError(f"{original}; {CLIENT_LACKS}", UNTRANSLATABLE, retryable=False)
    if original is None or not _is_a_drivers(original):
        return None
    sqlstate: str | None = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    said = str(original)
    # asyncpg's own error is behind SQLAlchemy's.
    diagnosis: Any = getattr(original, "diag", None) or original.__cause__
    table = getattr(diagnosis, "table_name", None)
    detail = getattr(diagnosis, "message_detail", None) or getattr(diagnosis, "detail", None)
    if original.args and isinstance(original.args[0], dict):
        # pg8000 hands on the fields of the server's message.
        fields = original.args[0]
        sqlstate, said = fields.get("C"), str(fields.get("M"))
        table, detail = fields.get("t"), fields.get("D")
    said = (said.strip().splitlines() or [type(original).__name__])[0]
    code = str(sqlstate or getattr(original, "sqlite_errorname", ""))
    advice = ADVICE.get(said) or ADVICE.get(code)
    retryable = sqlstate in RETRYABLE
    columns = _columns(detail)
    if sqlstate == UNIQUE and columns and not _is_key(table, columns):
        advice, retryable = ADVICE["SQLITE_CONSTRAINT_UNIQUE"], False
    elif sqlstate == FOREIGN_KEY and _is(InvoiceLine.__table__.c.InvoiceId, table, columns):
        advice = NO_INVOICE
    elif sqlstate == UNTRANSLATABLE:
        advice = _lacking(original)
    return DriverError(f"{said}; {advice}" if advice else said, sqlstate, retryable)


def _lacking(error: BaseException) -> str:
    """Return what to do about the encoding, the database's or the client's, that lacks a character.

    The message names two encodings, but not which of them is whose. Only psycopg keeps the client's
    with the error, as the name of Python's codec.
    """
    client: str | None = getattr(error, "_encoding", None)
    if client is None:
        return ONE_LACKS
    return DATABASE_LACKS if client == "utf-8" else CLIENT_LACKS


def _columns(detail: str | None) -> list[str]:
    """Return the columns of a key, from what the server says of it in any language."""
    found = re.search(r"\((.*?)\)=\(", detail or "")
    return [name.strip(' "') for name in found[1].split(",")] if found else []


def _is_key(table: str | None, columns: list[str]) -> bool:
    """Return whether a key is one that another writer can take: of Chinook, or of the ledger."""
    return (table or "").startswith("chinook_sim_") or any(
        _is(it, table, columns)
        for of in CHINOOK_TABLES
        if len(of.primary_key.columns) == 1
        for it in of.primary_key.columns
    )


def _is(column: Column[Any], table: str | None, columns: list[str]) -> bool:
    """Return whether a key is that of one column, by the names that it may have."""
    return (
        folded(table or "") in table_names(column.table)
        and len(columns) == 1
        and folded(columns[0]) in column_names(column.table, column.name)
    )


def _is_a_drivers(error: BaseException) -> bool:
    # PEP 249: each driver has a tree of its own, whose root is called Error. COPY speaks to the
    # driver itself, so its errors do not come wrapped in SQLAlchemy's.
    return any(base.__name__ == "Error" for base in type(error).__mro__)
