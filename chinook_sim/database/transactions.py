"""Savepoints around batches, and errors of the database as errors of this library."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from chinook_sim.database.backends import backend_for
from chinook_sim.database.connections import connection_of, is_psycopg
from chinook_sim.database.error_messages import UNTRANSLATABLE, describe_driver_error
from chinook_sim.database.interrupts import interruptible
from chinook_sim.database.introspection import recognise
from chinook_sim.database.privileges import (
    INSUFFICIENT_PRIVILEGE,
    missing_grants,
    privileges_on_references,
    required_privileges,
)
from chinook_sim.database.session_settings import pinned
from chinook_sim.errors import BatchFailed, ChinookSimError, DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from chinook_sim.database.privileges import Purpose
    from chinook_sim.database.schema import Chinook

__all__ = ["all_or_nothing", "check_visible_rows", "translated", "writing"]


@contextmanager
def all_or_nothing(
    session: Session, purpose: Purpose = "batch", chinook: Chinook | None = None
) -> Iterator[tuple[Connection, Chinook]]:
    """Run a block under a savepoint, on a recognised Chinook, and translate its errors.

    Args:
        session: whose transaction it is.
        purpose: what the block does, to name the privileges that are missing.
        chinook: what was recognised, if it is known.

    Raises:
        BatchFailed: the database refused something, and the savepoint was rolled back. Or row-level
            security may hide rows.
        NotAChinook: the database holds no Chinook.
    """
    with translated():
        connection = connection_of(session)
        # Before the savepoint, which flushes what is pending: that may be rows of this Chinook.
        chinook = chinook or recognise(connection)
        check_visible_rows(chinook)
        try:
            with writing(connection), session.begin_nested(), translated():
                # Requested again: only now does the session send the SAVEPOINT.
                connection = connection_of(session)
                with pinned(connection, chinook), _encoding(connection):
                    yield connection, chinook
        except BatchFailed as error:
            if error.sqlstate != INSUFFICIENT_PRIVILEGE:
                raise
            lacking = missing_grants(
                connection, required_privileges(connection, chinook, purpose)
            ) or missing_grants(connection, privileges_on_references(connection, purpose))
            if not lacking:
                raise
            raise BatchFailed(f"{error}. Run: {lacking}", sqlstate=error.sqlstate) from error


def check_visible_rows(chinook: Chinook) -> None:
    """Refuse a role from which row-level security may hide rows of the shop or of the ledger.

    Ids, totals and candidates would follow from the rows that it sees. COPY refuses such a table.

    Raises:
        BatchFailed: there is such a table.
    """
    if chinook.row_security:
        raise BatchFailed(f"nothing was written: {chinook.hidden_rows}")


@contextmanager
def _encoding(connection: Connection) -> Iterator[None]:
    """Close a connection for whose encoding a character was too much, but of psycopg.

    Other drivers stop after they have sent a part of a statement, and would take the answer to it
    for the answer to the next one.
    """
    try:
        yield
    except UnicodeError:
        if not is_psycopg(connection):
            connection.invalidate()
        raise


def writing(connection: Connection) -> AbstractContextManager[None]:
    """Run a block in a transaction that may write; see `Backend.begin_write`."""
    return backend_for(connection).begin_write(connection)


@contextmanager
def translated() -> Iterator[None]:
    """Translate database errors into BatchFailed; other errors pass."""
    try:
        with interruptible():
            yield
    except ChinookSimError:
        raise
    except Exception as error:
        # When the connection is gone, taking the batch back fails too; the first error says why.
        ours = _first_of_ours(error)
        if ours is not None:
            raise ours from error
        refusal = describe_driver_error(error)
        if refusal is None:
            raise
        if refusal.sqlstate == UNTRANSLATABLE:
            raise DatabaseUnavailable(f"nothing was written: {refusal.line}") from error
        raise BatchFailed(
            f"the batch failed and nothing was written: {refusal.line}",
            sqlstate=refusal.sqlstate,
            retryable=refusal.retryable,
        ) from error


def _first_of_ours(error: BaseException) -> ChinookSimError | None:
    context = error.__context__
    while context is not None:
        if isinstance(context, ChinookSimError):
            return context
        context = context.__context__
    return None
