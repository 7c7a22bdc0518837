"""What became of a transaction whose COMMIT was not answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import literal, select, text
from sqlalchemy.exc import DBAPIError

from chinook_sim._version import __version__
from chinook_sim.database.backends import backend_for
from chinook_sim.errors import LOCK_NOT_AVAILABLE
from chinook_sim.models import RUN

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Select


__all__ = [
    "ServerTransaction",
    "note_server_transaction",
    "resolve_commit_outcome",
    "server_transaction_of",
]

PROBE_LOCK_TIMEOUT = 5
"""Seconds that `resolve_commit_outcome` waits for a transaction to end by itself, and again after
ending it."""

_SERVER_TRANSACTION = "chinook_sim_backend"


class ServerTransaction(NamedTuple):
    """The server process, and the transaction on it, that wrote a row of the ledger."""

    pid: int
    transaction: str


def note_server_transaction(connection: Connection, pid: int, transaction: str) -> None:
    """Note who wrote the last row of the ledger on a connection."""
    connection.info[_SERVER_TRANSACTION] = ServerTransaction(pid, transaction)


def server_transaction_of(connection: Connection) -> ServerTransaction | None:
    """Return who wrote the last row of the ledger on a connection, for `resolve_commit_outcome`."""
    found: ServerTransaction | None = connection.info.get(_SERVER_TRANSACTION)
    return found


def resolve_commit_outcome(
    connection: Connection,
    run_id: str,
    server_transaction: ServerTransaction | None,
    *,
    undone: bool = False,
) -> bool | None:
    """Return whether a transaction whose COMMIT was not answered was committed; None if unknown.

    The server may still be at it. So nothing is read that does not wait for the other transaction
    first: a row with the same run_id is inserted, which finds the run's own row committed or gone,
    and taken back; or the row is locked. A server process that has not noticed that its client is
    lost is ended, so that it cannot commit later.

    Args:
        connection: a new one, with no transaction open; nothing is left behind on it.
        run_id: the run that was written, or undone.
        server_transaction: of `server_transaction_of`, before the connection was lost.
        undone: whether the run was being undone.
    """
    resolve = _RESOLVERS[backend_for(connection).name]
    return resolve(connection, run_id, server_transaction, undone=undone)


def _resolve_on_server(
    connection: Connection,
    run_id: str,
    server_transaction: ServerTransaction | None,
    *,
    undone: bool,
) -> bool | None:
    from sqlalchemy.dialects import postgresql  # with all its drivers: not for SQLite

    query: Any = (
        postgresql.insert(RUN)
        .values(run_id=run_id, kind="probe", version=__version__)
        .on_conflict_do_nothing()
        .returning(literal(False))
    )
    if undone:
        query = _read(run_id, undone=True).with_for_update()
    for forced in (False, True):
        with connection.begin() as transaction:
            # What the other transaction committed while we waited must be seen.
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL READ COMMITTED"))
            if forced:
                _end(connection, server_transaction)
            connection.execute(text(f"SET LOCAL lock_timeout = '{PROBE_LOCK_TIMEOUT}s'"))
            try:
                answer = connection.scalar(query)
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE:
                    raise
            else:
                # No row was inserted: there is one.
                return True if answer is None else bool(answer)
            finally:
                transaction.rollback()
    return None


def _resolve_in_file(
    connection: Connection, run_id: str, _: ServerTransaction | None, *, undone: bool
) -> bool | None:
    # The transaction has ended together with the connection that was lost.
    with connection.begin():
        return bool(connection.scalar(_read(run_id, undone=undone)))


def _read(run_id: str, *, undone: bool) -> Select[Any]:
    """Return the SELECT of whether a run is there, or is undone."""
    answer: Any = RUN.c.undone_at.is_not(None) if undone else literal(True)
    return select(answer).where(RUN.c.run_id == run_id)


_RESOLVERS: dict[str, Callable[..., bool | None]] = {
    "postgresql": _resolve_on_server,
    "sqlite": _resolve_in_file,
}


def _end(connection: Connection, server_transaction: ServerTransaction | None) -> None:
    """End the server process of a lost connection, if it is still at that transaction."""
    if server_transaction is not None:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid = :pid AND CAST(backend_xid AS text) = :transaction"
            ),
            server_transaction._asdict(),
        )
