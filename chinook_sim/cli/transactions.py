"""Transactions of commands: opened once, retried, and looked up if the answer to COMMIT is lost."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from chinook_sim.database.interrupts import interruptible
from chinook_sim.errors import BatchFailed, ChinookSimError, CommitUnanswered, DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from chinook_sim.cli.context import CliContext
    from chinook_sim.database.settings import Location
    from chinook_sim.ledger.commit_outcome import ServerTransaction

__all__ = ["run_read_only", "transaction", "with_retries"]

logger = logging.getLogger(__name__)

T = TypeVar("T")


@contextmanager
def transaction(settings: CliContext, location: Location, *, writing: bool) -> Iterator[Connection]:
    """Open a transaction, and commit it if the block succeeds and `writing` is true."""
    from chinook_sim.database.engine import make_engine, open_connection, set_timeouts
    from chinook_sim.database.error_messages import UNTRANSLATABLE, describe_driver_error

    engine = make_engine(location, writing=writing, lock_timeout=settings.lock_timeout)
    try:
        with (
            interruptible(),
            open_connection(engine, location, say=settings.say) as connection,
        ):
            connection.begin()
            set_timeouts(connection, settings.lock_timeout, settings.statement_timeout)
            yield connection
            if writing:
                commit(settings, connection)
    except Exception as error:
        # COPY uses the driver directly, so its errors are not SQLAlchemy's.
        refusal = describe_driver_error(error)
        if refusal is None:
            raise
        if refusal.sqlstate == UNTRANSLATABLE:
            raise DatabaseUnavailable(
                f"{location.shown}, nothing was written: {refusal.line}"
            ) from error
        if writing:
            raise BatchFailed(
                f"{location.shown}, nothing was written: {refusal.line}",
                sqlstate=refusal.sqlstate,
                retryable=refusal.retryable,
            ) from error
        raise DatabaseUnavailable(
            f"{location.shown} refused: {refusal.line}", sqlstate=refusal.sqlstate
        ) from error


def commit(settings: CliContext, connection: Connection) -> None:
    """Commit.

    Raises:
        CommitUnanswered: the answer was lost, so the transaction may have been committed.
    """
    from sqlalchemy.exc import DBAPIError

    try:
        connection.commit()
        settings.committed = True
        logger.debug("committed")
    except (DBAPIError, KeyboardInterrupt) as error:
        if isinstance(error, DBAPIError) and not error.connection_invalidated:
            raise
        raise CommitUnanswered(
            "the connection was lost, or the command stopped, while committing: it is not known "
            "whether anything was written; check with `chinook-sim status` and `verify`"
        ) from error


def run_read_only(settings: CliContext, location: Location, work: Callable[[Session], T]) -> T:
    """Call a function that writes nothing, in a transaction of its own."""
    from sqlalchemy.orm import Session

    with (
        transaction(settings, location, writing=False) as connection,
        Session(connection) as session,
    ):
        return work(session)


def with_retries(
    settings: CliContext,
    location: Location,
    work: Callable[[Session], T],
    *,
    undoing: bool = False,
) -> tuple[T, int]:
    """Call a function in a transaction; retry the transaction if it conflicts with another.

    Returns:
        What `work` returned, and the number of retries.
    """
    from chinook_sim.database.retries import ATTEMPTS, backoff

    for attempt in range(1, ATTEMPTS + 1):
        logger.debug("attempt %s of %s", attempt, ATTEMPTS)
        try:
            return commit_once(settings, location, work, undoing=undoing), attempt - 1
        except BatchFailed as error:
            if not error.retryable or attempt == ATTEMPTS:
                raise
            settings.say(f"trying again ({attempt} of {ATTEMPTS - 1}): {error}")
            time.sleep(backoff(attempt))
    raise AssertionError


def commit_once(
    settings: CliContext, location: Location, work: Callable[[Session], T], *, undoing: bool
) -> T:
    """Call a function in a transaction. If the answer to COMMIT is lost, look the run up."""
    from sqlalchemy.orm import Session

    from chinook_sim.ledger.commit_outcome import server_transaction_of

    done: list[Any] = []
    try:
        with transaction(settings, location, writing=True) as connection:
            with Session(connection) as session:
                done.append(work(session))
            written_by = server_transaction_of(connection)
    except CommitUnanswered as error:
        run_id = done[0].probe_run_id if undoing else done[0].run_id
        if run_id is None:
            raise
        find_outcome(settings, location, error, run_id, written_by, undone=undoing)
    result: T = done[0]
    return result


def find_outcome(
    settings: CliContext,
    location: Location,
    unanswered: CommitUnanswered,
    run_id: str,
    written_by: ServerTransaction | None,
    *,
    undone: bool,
) -> None:
    """Look up over a new connection whether a run was committed; return if it was.

    Raises:
        CommitUnanswered: the lookup failed.
        BatchFailed: it was not committed.
    """
    from sqlalchemy.exc import DBAPIError

    from chinook_sim.database.engine import make_engine, open_connection
    from chinook_sim.database.introspection import recognise
    from chinook_sim.ledger.commit_outcome import resolve_commit_outcome

    settings.say("the answer to COMMIT was lost; looking the run up")
    engine = make_engine(location, writing=False)
    try:
        with open_connection(engine, location, say=settings.say) as connection:
            recognise(connection)
            connection.rollback()
            committed = resolve_commit_outcome(connection, run_id, written_by, undone=undone)
    except (ChinookSimError, DBAPIError, KeyboardInterrupt):
        raise unanswered from None
    if committed is None:
        raise unanswered
    if not committed:
        if isinstance(unanswered.__cause__, KeyboardInterrupt):
            raise unanswered.__cause__
        raise BatchFailed(
            "the connection was lost while committing: not committed, nothing was written; "
            "run it again"
        ) from unanswered
    settings.committed = True
    if isinstance(unanswered.__cause__, KeyboardInterrupt):
        settings.interrupted_commit = unanswered.__cause__
    settings.say(f"run {run_id}: committed")
