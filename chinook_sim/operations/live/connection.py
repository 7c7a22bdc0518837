"""The connection of a stream, opened again when it is lost."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy.exc import DBAPIError

from chinook_sim.database.error_messages import describe_driver_error
from chinook_sim.errors import CommitUnanswered, DatabaseUnavailable
from chinook_sim.ledger.commit_outcome import resolve_commit_outcome
from chinook_sim.operations.live.stream_time import StreamStopped

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from chinook_sim.ledger.commit_outcome import ServerTransaction
    from chinook_sim.operations.live.stream_time import StreamTime
    from chinook_sim.sales.batch import SalePlan
    from chinook_sim.sales.summary import BatchSummary

__all__ = ["LiveConnection", "PendingCommit"]

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 15.0
"""Seconds between attempts to connect again."""

LAST_ATTEMPT = 60.0
"""Seconds after its end up to which a stream that has lost its connection seeks another."""


class PendingCommit(NamedTuple):
    """A transaction whose COMMIT was sent, or is about to be.

    Attributes:
        made: what it did.
        plan: what its sales were made of.
        arrivals: how many arrivals it made.
        written_by: the server process and the transaction on it that wrote the run.
    """

    made: BatchSummary
    plan: SalePlan
    arrivals: int
    written_by: ServerTransaction | None


@dataclass(slots=True)
class _RetryState:
    """What has happened since the last transaction that was committed.

    Attributes:
        since: when the connection was lost, by the stream's clock.
        pause: seconds to wait before the next attempt to connect.
        reason: why the last attempt failed, as it was reported.
        locked: whether it was reported that a lock is waited for.
    """

    since: float | None = None
    pause: float = 0.0
    reason: str = ""
    locked: bool = False


class LiveConnection:
    """One connection, replaced when it is lost.

    Attributes:
        lost: how often it was lost.
        away: seconds without a connection for which arrivals still wait.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        time: StreamTime,
        say: Callable[[str], None],
        count_waiting: Callable[[], int],
    ) -> None:
        """Open none yet.

        Args:
            connect: opens a connection.
            time: of the stream.
            say: called with what a person should know.
            count_waiting: returns how many arrivals are not made when the stream is given up.
        """
        self._connect = connect
        self._time = time
        self._say = say
        self._count_waiting = count_waiting
        self._connection: Connection | None = None
        self._retry = _RetryState()
        self.lost = 0
        self.away = 0.0

    def open(self) -> None:
        """Open the first connection."""
        self._connection = self._connect()

    @property
    def current(self) -> Connection:
        """The connection, which may have been lost."""
        if self._connection is None:
            raise AssertionError("no connection was opened")
        return self._connection

    @property
    def is_open(self) -> bool:
        """Whether there is a connection that was not lost."""
        return self._connection is not None and not self._connection.invalidated

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()

    def report_lock(self) -> None:
        """Say that a lock is waited for, once until a transaction is committed."""
        if not self._retry.locked:
            self._say("waiting for a lock that another transaction holds")
        self._retry.locked = True

    def committed(self) -> None:
        """Say that there is a connection again if it had been lost, and forget what happened."""
        if self._retry.since is not None:
            self._say(f"connected again after {self._time.clock() - self._retry.since:.1f} s")
        self._retry = _RetryState()

    def reconnect(self, sent: PendingCommit | None) -> None:
        """Connect again, however long it takes.

        Args:
            sent: the transaction whose COMMIT was not answered, if there is one.

        Raises:
            StreamStopped: the stream is to stop.
            DatabaseUnavailable: the stream ended `LAST_ATTEMPT` seconds ago.
            CommitUnanswered: either, and it is not known whether a transaction was committed.
        """
        self.lost += 1
        retry, begun = self._retry, self._time.clock()
        if retry.since is None:
            retry.since = begun
            self._say("the connection was lost; connecting again")
        # For the outcome of what was sent one attempt is made, also if the stream is to stop.
        patient = sent is None
        while True:
            if self._connection is not None:
                with suppress(DBAPIError):
                    self._connection.close()
                self._connection = None
            stopped = self._time.wait(retry.pause)
            if patient and (stopped or self._time.passed > self._time.end + LAST_ATTEMPT):
                raise self._given_up(sent)
            patient = True
            retry.pause = min(max(retry.pause * 2, FIRST_PAUSE), LONGEST_PAUSE)
            try:
                self._connection = self._connect()
            except (DatabaseUnavailable, DBAPIError) as error:
                reason = _reason(error)
                if reason != retry.reason:
                    self._say(f"{reason}; trying again until it succeeds")
                retry.reason = reason
            else:
                self.away += self._time.clock() - begun
                return

    def was_committed(self, sent: PendingCommit) -> bool:
        """Find out whether a transaction was committed whose COMMIT was not answered.

        Raises:
            CommitUnanswered: it could not be found out before the stream was to stop.
        """
        found = None
        while self._connection is not None and found is None:
            try:
                found = resolve_commit_outcome(
                    self._connection, str(sent.made.run_id), sent.written_by
                )
            except DBAPIError:
                if self._time.stopping or self._time.passed > self._time.end + LAST_ATTEMPT:
                    raise _unknown(sent) from None
                self.reconnect(sent)
            else:
                if found is None and self._time.wait(1):
                    raise _unknown(sent)
        return bool(found)

    def _given_up(self, sent: PendingCommit | None) -> Exception:
        """Return how a stream ends that has no connection."""
        if sent is not None:
            return _unknown(sent)
        if self._time.stopping:
            return StreamStopped()
        waiting = self._count_waiting()
        lost = "1 arrival was" if waiting == 1 else f"{waiting:,} arrivals were"
        return DatabaseUnavailable(
            f"the connection was lost, and not restored {LAST_ATTEMPT:.0f} s after the end: "
            f"{lost} not made"
        )


def _unknown(sent: PendingCommit) -> CommitUnanswered:
    return CommitUnanswered(
        f"the connection was lost while committing run {sent.made.run_id}: it is not known "
        "whether it was committed; check with `chinook-sim status`"
    )


def _reason(error: DatabaseUnavailable | DBAPIError) -> str:
    """Return why there is no connection, in one line."""
    refusal = describe_driver_error(error)
    return refusal.line if refusal else str(error)
