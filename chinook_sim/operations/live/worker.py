"""Live streams: sales that arrive at random times, in small transactions.

Arrivals are a Poisson process. Whatever has arrived when a transaction ends makes the next one, so
transactions are as small as the database is quick.
"""

from __future__ import annotations

import hashlib
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy.orm import Session

from chinook_sim.database.clock import now
from chinook_sim.database.connections import connection_of
from chinook_sim.database.privileges import INSUFFICIENT_PRIVILEGE, lacking
from chinook_sim.database.retries import ATTEMPTS, backoff
from chinook_sim.database.transactions import translated, writing
from chinook_sim.dates import bounds
from chinook_sim.errors import FOREIGN_KEY, LOCK_NOT_AVAILABLE, BatchFailed
from chinook_sim.kinds import ChangeCounts, RunKind
from chinook_sim.ledger.commit_outcome import server_transaction_of
from chinook_sim.ledger.streams import new_stream_name
from chinook_sim.operations.live.connection import LiveConnection, PendingCommit
from chinook_sim.operations.live.merger import RunMerger
from chinook_sim.operations.live.schema_cache import SchemaCache
from chinook_sim.operations.live.stream_time import StreamStopped, StreamTime
from chinook_sim.operations.options import BatchOptions
from chinook_sim.operations.run_batch import BatchContext, LiveContext, run_batch
from chinook_sim.sales.batch import SalePlan
from chinook_sim.sampling.arrivals import CANCELLATION, SALE, UPDATE
from chinook_sim.sampling.draws import SEED_LIMIT

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Generator, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from chinook_sim.database.privileges import Purpose
    from chinook_sim.database.schema import Chinook
    from chinook_sim.operations.live.schema_cache import CachedSchema
    from chinook_sim.sales.summary import BatchSummary
    from chinook_sim.sampling.arrivals import Arrival, Arrivals
    from chinook_sim.sampling.profile import Profile

__all__ = ["LiveBatch", "Worker"]

logger = logging.getLogger(__name__)

ARRIVALS_LIMIT = 1_000
"""Arrivals in a transaction; more wait for the next."""

LONGEST_WAIT = 5.0
"""Seconds that an arrival waits for a database that is too slow, before it is left out."""


@dataclass(frozen=True, slots=True)
class LiveBatch:
    """One transaction of a stream.

    Attributes:
        made: what it did; `made.run_id` is its id in the ledger until it is merged with others;
            `made.key` is the stream's name and the transaction's number in it.
        arrivals: how many there were: sales, updates and cancellations that were wanted.
        latencies: seconds from each arrival to its being committed.
        behind: seconds for which the next arrival had been waiting then, other than for a
            connection; 0 if it had not come.
        left_out: arrivals left out since the transaction before, as the database is slower.
        lost: how often the connection was lost since then.
    """

    made: BatchSummary
    arrivals: int
    latencies: Sequence[float] = field(repr=False)
    behind: float
    left_out: int
    lost: int


class Worker:
    """Makes what arrives, on one connection, which is replaced when it is lost.

    Attributes:
        name: the stream's name in the ledger.
        open: whether it has begun.
        left_out: how many arrivals were left out.
        waiting: how many arrivals had come when it ended, and were not made.
    """

    def __init__(
        self,
        arrivals: Arrivals,
        profile: Profile,
        timezone: str | None,
        stop: threading.Event,
        say: Callable[[str], None],
        connect: Callable[[], Connection],
        prepare: Callable[[Connection], object],
        clock: Callable[[], float],
    ) -> None:
        self._arrivals = arrivals
        self._profile = profile
        self._timezone = timezone
        self._prepare = prepare
        self._time = StreamTime(clock, stop)
        self._connection = LiveConnection(connect, self._time, say, self._count_waiting)
        self._cache = SchemaCache(clock)
        self._merger = RunMerger(self._connection, self._cache, prepare, say)
        self.name = new_stream_name()
        self.open = False
        self.left_out = self.waiting = 0
        self._reported_lost = self._reported_left_out = 0
        self._number = 0
        self._sent: PendingCommit | None = None
        self._closed = 0.0

    @property
    def lost(self) -> int:
        """How often the connection was lost."""
        return self._connection.lost

    @property
    def seconds(self) -> float:
        """Seconds since the stream began, or its total duration."""
        return (self._closed or self._time.passed) if self.open else 0.0

    def run(self, seconds: float) -> Generator[LiveBatch, None, None]:
        """Make everything that arrives within a number of seconds."""
        try:
            with translated():
                self._connection.open()
                with Session(self._connection.current) as session, session.begin():
                    self._prepare(connection_of(session))
                    self._check_privileges(session, self._cache.read(session).chinook)
            self._time.begin(seconds)
            self.open = True
            with suppress(StreamStopped):
                yield from self._sell(seconds)
            self._count_waiting()
            self._merger.merge(ended=True)
        finally:
            if self.open:
                self._count_waiting()
            self._connection.close()

    def _check_privileges(self, session: Session, chinook: Chinook) -> None:
        """Refuse to begin where a later transaction would be refused.

        Raises:
            BatchFailed: the role lacks privileges, all of which the message names.
        """
        purpose: Purpose = "changes" if self._arrivals.changes else "batch"
        missing = lacking(connection_of(session), chinook, purpose)
        if missing:
            raise BatchFailed(
                f"nothing was written: missing privileges. Run: {missing}",
                sqlstate=INSUFFICIENT_PRIVILEGE,
            )

    def _sell(self, seconds: float) -> Generator[LiveBatch, None, None]:
        """Make everything that arrives within a number of seconds, or until it is to stop."""
        while not self._time.stopping:
            self._leave_out()
            due = self._arrivals.until(min(self._time.passed, seconds), ARRIVALS_LIMIT)
            if due:
                yield self._make(due)
                self._merger.merge()
                continue
            # All that came while there was no connection is made.
            self._connection.away = 0.0
            until = min(self._arrivals.next().at, seconds)
            self._time.wait(until - self._time.passed)
            if self._time.passed >= seconds and self._arrivals.next().at > seconds:
                return

    def _count_waiting(self) -> int:
        """Count what has come and will not be made; it is passed over."""
        self._closed = self._closed or self._time.passed
        end = min(self._closed, self._time.end)
        while due := self._arrivals.until(end, ARRIVALS_LIMIT):
            self._arrivals.pass_over(len(due))
            self.waiting += len(due)
        return self.waiting

    def _leave_out(self) -> None:
        """Pass over what has waited for too long, other than for a connection.

        Only where more has come than the next transaction takes: as many as arrive may well go
        through a database or a network where each transaction takes long.
        """
        while True:
            passed = min(self._time.passed, self._time.end)
            due = self._arrivals.until(passed, ARRIVALS_LIMIT + 1)
            long_ago = self._time.passed - LONGEST_WAIT - self._connection.away
            if len(due) <= ARRIVALS_LIMIT or due[0].at > long_ago:
                return
            late = sum(arrival.at <= long_ago for arrival in due)
            self._arrivals.pass_over(late)
            self.left_out += late

    def _make(self, due: list[Arrival]) -> LiveBatch:
        made, plan, count, _ = self._with_retries(due)
        done = self._time.passed
        self._arrivals.pass_over(count)
        self._merger.collect(plan, made)
        lost, left_out = self.lost - self._reported_lost, self.left_out - self._reported_left_out
        self._reported_lost, self._reported_left_out = self.lost, self.left_out
        waiting = self._arrivals.next().at
        behind = done - waiting - self._connection.away if waiting <= self._time.end else 0.0
        return LiveBatch(
            made=made,
            arrivals=count,
            latencies=[done - arrival.at for arrival in due[:count]],
            behind=max(behind, 0.0),
            left_out=left_out,
            lost=lost,
        )

    def _with_retries(self, due: list[Arrival]) -> PendingCommit:
        """Make the arrivals, all or the first few; again after a failure that may pass.

        Raises:
            StreamStopped: the stream is to stop, and they are not made.
            BatchFailed: they cannot be made.
            DatabaseUnavailable: there is no connection, and the stream ended long ago.
        """
        self._number += 1
        attempt = 0
        while True:
            try:
                done = self._write(due)
                break
            except BatchFailed as error:
                logger.info("transaction %s: %s", self._number, error)
                sent, self._sent = self._sent, None
                self._cache.forget()
                if not self._connection.is_open:
                    self._connection.reconnect(sent)
                    # It may be there all the same, if COMMIT was sent.
                    if sent is not None and self._connection.was_committed(sent):
                        done = sent
                        break
                elif _is_locked(error):
                    self._connection.report_lock()
                else:
                    attempt += 1
                    again = error.retryable or error.sqlstate == FOREIGN_KEY
                    if not again or attempt == ATTEMPTS:
                        raise
                    self._time.wait(backoff(attempt))
            if self._time.stopping:
                raise StreamStopped
        self._connection.committed()
        return done

    def _write(self, due: list[Arrival]) -> PendingCommit:
        """Make the arrivals of one day in one transaction."""
        with translated(), Session(self._connection.current) as session:
            with session.begin(), writing(connection := connection_of(session)):
                self._prepare(connection)
                schema = self._cache.read(session)
                # By the database's clock, and as long ago as it is by ours.
                opened = now(connection, self._timezone) - timedelta(seconds=self._time.passed)
                moments = [opened + timedelta(seconds=arrival.at) for arrival in due]
                day = moments[0].date()
                of_day = [it for it, at in zip(due, moments, strict=True) if at.date() == day]
                self._sent = self._write_day(session, schema, of_day, moments)
                self._sent = self._sent._replace(written_by=server_transaction_of(connection))
            done, self._sent = self._sent, None
        self._cache.add(done.made.invoice_ids)
        return done

    def _write_day(
        self,
        session: Session,
        schema: CachedSchema,
        arrivals: list[Arrival],
        moments: list[datetime],
    ) -> PendingCommit:
        """Make arrivals of one day.

        Args:
            session: in the transaction.
            schema: what is known of the shop.
            arrivals: the arrivals.
            moments: when each of them came, in the same order; there may be more.
        """
        kinds, day = [arrival.kind for arrival in arrivals], moments[0].date()
        changes = ChangeCounts(updates=kinds.count(UPDATE), cancellations=kinds.count(CANCELLATION))
        start, _ = bounds(day)
        seconds = [
            int((at - start).total_seconds())
            for kind, at in zip(kinds, moments, strict=False)
            if kind == SALE
        ]
        live = LiveContext(
            timestamps=np.array(seconds, dtype=np.int64),
            change_seed=_change_seed(self._arrivals.seed, arrivals[0].number),
            candidate_ids=self._cache.candidate_ids(session, day) if changes else None,
        )
        options = BatchOptions(
            kind=RunKind.LIVE,
            start=arrivals[0].sales,
            day=day,
            seed=self._arrivals.seed,
            key=f"{self.name}/{self._number}",
            changes=changes,
            profile=self._profile,
        )
        context = BatchContext(schema.chinook, schema.catalogue, live=live)
        made = run_batch(session, len(seconds), options, context)
        plan = SalePlan(
            schema.catalogue,
            made.seed,
            day,
            options.start,
            made.count,
            profile=self._profile,
            timestamps=live.timestamps,
            zone=schema.chinook.zone,
        )
        return PendingCommit(made, plan, len(arrivals), None)


def _is_locked(error: BatchFailed) -> bool:
    """Return whether a transaction failed because it reached the lock timeout."""
    return error.sqlstate == LOCK_NOT_AVAILABLE or "database is locked" in str(error)


def _change_seed(seed: int, number: int) -> int:
    """Return the seed of a transaction's changes: that of the stream would choose the same."""
    digest = hashlib.sha256(f"{seed} {number}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % SEED_LIMIT
