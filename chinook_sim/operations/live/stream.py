"""Sales that never stop: arriving at random, each dated when it comes, in small transactions.

Arrivals are a Poisson process. Whatever has arrived when a transaction ends makes the next one, so
transactions are as small as the database is quick.
"""

from __future__ import annotations

import hashlib
import logging
import math
import random
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from chinook_sim.changes.invoices import recent_ids
from chinook_sim.database.clock import now
from chinook_sim.database.connections import connection_of
from chinook_sim.database.error_messages import refusal_of
from chinook_sim.database.privileges import INSUFFICIENT_PRIVILEGE, lacking
from chinook_sim.database.session_settings import pin
from chinook_sim.database.transactions import all_or_nothing, translated, writing
from chinook_sim.dates import bounds
from chinook_sim.errors import (
    FOREIGN_KEY,
    LOCK_NOT_AVAILABLE,
    BatchFailed,
    CommitUnanswered,
    DatabaseUnavailable,
)
from chinook_sim.ledger.commit_outcome import backend_of, outcome
from chinook_sim.ledger.keys import require
from chinook_sim.ledger.merging import Group, merge
from chinook_sim.ledger.streams import stream_name
from chinook_sim.models import LIVE
from chinook_sim.operations.options import Request
from chinook_sim.operations.run_batch import Moment, make_batch
from chinook_sim.sales.batch import SalePlan
from chinook_sim.sales.catalogue import read_catalogue, version_of
from chinook_sim.sampling.arrivals import CANCELLATION, SALE, UPDATE, Arrivals
from chinook_sim.sampling.draws import SEED_LIMIT

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Generator, Sequence
    from datetime import date

    from sqlalchemy import Connection

    from chinook_sim.database.privileges import Purpose
    from chinook_sim.database.schema import Chinook
    from chinook_sim.ledger.commit_outcome import Backend
    from chinook_sim.sales.catalogue import Catalogue
    from chinook_sim.sales.summary import BatchSummary
    from chinook_sim.sampling.arrivals import Arrival
    from chinook_sim.sampling.profile import Profile

__all__ = ["LiveBatch", "Worker"]

logger = logging.getLogger(__name__)


MOST = 1_000
"""Arrivals in a transaction; more wait for the next."""

PATIENCE = 5.0
"""Seconds that an arrival waits for a database that is too slow, before it is left out."""

READ_AGAIN = 60.0
"""Seconds after which customers, tracks and prices are read anew."""

READING = 100
"""Times as long as reading them takes must pass at least: one hundredth of the time is for it."""

ATTEMPTS = 4
"""How often a transaction is tried that others came in the way of."""

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 15.0
"""Seconds between attempts to connect again."""

RESPONSE = 0.05
"""Seconds after which a stream that waits looks again whether it is to stop."""

LAST_ATTEMPT = 60.0
"""Seconds after its end up to which a stream that has lost its connection seeks another."""


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


class _Known(NamedTuple):
    """What was read of the shop, until when that will do, and what tells that it will not."""

    until: float
    version: int | None
    chinook: Chinook
    catalogue: Catalogue


class _Span(NamedTuple):
    """The lowest and the highest id of what may change, and until when that will do."""

    until: float
    ids: tuple[int, int] | None


class _Sent(NamedTuple):
    """A transaction that was, perhaps, committed."""

    made: BatchSummary
    plan: SalePlan
    arrivals: int
    backend: Backend | None


@dataclass(slots=True)
class _Trouble:
    """What has come in the way since a transaction was committed.

    Attributes:
        since: when the connection was lost, by our clock.
        pause: seconds to wait before the next attempt to connect.
        reason: why there is none, as it was told.
        locked: whether it was told that a lock is waited for.
    """

    since: float | None = None
    pause: float = 0.0
    reason: str = ""
    locked: bool = False


class _Stopped(Exception):
    """It is to end, and what was to be made next is not made."""


class Worker:
    """Makes what arrives, on one connection, which is replaced when it is lost."""

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
        self._stop = stop
        self._say = say
        self._connect = connect
        self._prepare = prepare
        self._clock = clock
        self.name = stream_name()
        self.open = False
        self.lost = self.left_out = self.waiting = 0
        self._told_lost = self._told_left_out = 0
        self._number = 0
        self._connection: Connection | None = None
        self._known: _Known | None = None
        self._span: _Span | None = None
        self._sent: _Sent | None = None
        # The last one is not complete yet.
        self._groups: list[Group] = []
        self._merging: bool | None = None
        self._told_unmerged = False
        self._trouble = _Trouble()
        self._away = 0.0
        self._began = self._closed = 0.0
        self._end = math.inf

    @property
    def seconds(self) -> float:
        """For how long the shop has been open, or was."""
        return (self._closed or self._passed()) if self.open else 0.0

    def run(self, seconds: float) -> Generator[LiveBatch, None, None]:
        """Make all that arrives for so long."""
        try:
            with translated():
                self._connection = self._connect()
                with Session(self._connection) as session, session.begin():
                    self._prepare(connection_of(session))
                    self._check_rights(session, self._look(session).chinook)
            self._began, self._end = self._clock(), seconds
            self.open = True
            with suppress(_Stopped):
                yield from self._sell(seconds)
            self._close()
            self._merge(ended=True)
        finally:
            if self.open:
                self._close()
            if self._connection is not None:
                self._connection.close()

    def _check_rights(self, session: Session, chinook: Chinook) -> None:
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
        """Make all that arrives for so long, or until it is to stop."""
        while not self._stop.is_set():
            self._leave_out()
            due = self._arrivals.until(min(self._passed(), seconds), MOST)
            if due:
                yield self._make(due)
                self._merge()
                continue
            # All that came while there was no connection is made.
            self._away = 0.0
            until = min(self._arrivals.next().at, seconds)
            wait(self._stop, until - self._passed())
            if self._passed() >= seconds and self._arrivals.next().at > seconds:
                return

    def _close(self) -> None:
        """Count what has come and will not be made."""
        self._closed = self._closed or self._passed()
        end = min(self._closed, self._end)
        while due := self._arrivals.until(end, MOST):
            self._arrivals.pass_over(len(due))
            self.waiting += len(due)

    def _passed(self) -> float:
        """Return how many seconds it is since the stream began."""
        return self._clock() - self._began

    def _leave_out(self) -> None:
        """Pass over what has waited for too long, other than for a connection.

        Only where more has come than the next transaction takes: as many as arrive may well go
        through a database, or a wire, where each transaction takes its time.
        """
        while True:
            now = min(self._passed(), self._end)
            due = self._arrivals.until(now, MOST + 1)
            long_ago = self._passed() - PATIENCE - self._away
            if len(due) <= MOST or due[0].at > long_ago:
                return
            late = sum(arrival.at <= long_ago for arrival in due)
            self._arrivals.pass_over(late)
            self.left_out += late

    def _make(self, due: list[Arrival]) -> LiveBatch:
        made, plan, count, _ = self._persistently(due)
        done = self._passed()
        self._arrivals.pass_over(count)
        self._collect(plan, made)
        lost, left_out = self.lost - self._told_lost, self.left_out - self._told_left_out
        self._told_lost, self._told_left_out = self.lost, self.left_out
        waiting = self._arrivals.next().at
        behind = done - waiting - self._away if waiting <= self._end else 0.0
        return LiveBatch(
            made=made,
            arrivals=count,
            latencies=[done - arrival.at for arrival in due[:count]],
            behind=max(behind, 0.0),
            left_out=left_out,
            lost=lost,
        )

    def _collect(self, plan: SalePlan, made: BatchSummary) -> None:
        """Add a transaction to those that are to be merged."""
        if not self._groups or not self._groups[-1].accepts(plan, made):
            self._groups.append(Group(plan))
        self._groups[-1].add(plan, made)

    def _merge(self, *, ended: bool = False) -> None:
        """Merge the groups of transactions that are complete; at the end, all of them."""
        while self._groups and (ended or len(self._groups) > 1 or self._groups[0].full):
            group = self._groups.pop(0)
            if len(group) > 1 and self._merging is not False and self._connected():
                self._merge_group(group, ended=ended)

    def _connected(self) -> bool:
        return self._connection is not None and not self._connection.invalidated

    def _merge_group(self, group: Group, *, ended: bool) -> None:
        """Merge a group, in a transaction of its own; where that fails, its rows stay.

        Raises:
            _Stopped: the connection was lost, and it is to end.
            DatabaseUnavailable: so it was, and the end was long ago.
        """
        run_id = backend = None
        try:
            with (
                translated(),
                Session(self._connection) as session,
                session.begin(),
                writing(connection := connection_of(session)),
            ):
                self._prepare(connection)
                known = self._look(session)
                if self._merging is None:
                    self._merging = self._may_merge(connection, known.chinook)
                if self._merging:
                    run_id = merge(connection, group)
                    backend = backend_of(connection)
        except BatchFailed as error:
            self._known = self._span = None
            if self._connected():
                if not self._told_unmerged:
                    self._say(f"some transactions were not merged in the ledger: {_cause(error)}")
                self._told_unmerged = True
            elif not ended:
                # The ledger is right whether it was committed or not. But where the server has not
                # noticed that its client is gone, it still has the rows locked.
                self._reconnect(None)
                if run_id is not None and self._connection is not None:
                    with suppress(DBAPIError):
                        outcome(self._connection, run_id, backend)

    def _may_merge(self, connection: Connection, chinook: Chinook) -> bool:
        """Return whether the role may merge; if not, tell which privileges are missing."""
        missing = lacking(connection, chinook, "merge")
        if missing:
            self._say(
                "missing privileges to merge transactions in the ledger, which takes more space "
                f"without. Run: {missing}"
            )
        return not missing

    def _persistently(self, due: list[Arrival]) -> _Sent:
        """Make the arrivals, all or the first few; again where something came in the way.

        Raises:
            _Stopped: it was to end, and they are not made.
            BatchFailed: they cannot be made.
            DatabaseUnavailable: there is no connection, and the end was long ago.
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
                self._known = self._span = None
                if self._connection is None or self._connection.invalidated:
                    self._reconnect(sent)
                    # It may be there all the same, if COMMIT was sent.
                    if sent is not None and self._was_committed(sent):
                        done = sent
                        break
                elif _is_locked(error):
                    if not self._trouble.locked:
                        self._say("waiting for a lock that another transaction holds")
                    self._trouble.locked = True
                else:
                    attempt += 1
                    again = error.retryable or error.sqlstate == FOREIGN_KEY
                    if not again or attempt == ATTEMPTS:
                        raise
                    # Not all who came in each other's way shall come back at the same moment.
                    wait(self._stop, random.uniform(0, 0.1 * 2**attempt))  # noqa: S311
            if self._stop.is_set():
                raise _Stopped
        if self._trouble.since is not None:
            self._say(f"connected again after {self._clock() - self._trouble.since:.1f} s")
        self._trouble = _Trouble()
        return done

    def _write(self, due: list[Arrival]) -> _Sent:
        """Make the arrivals of one day in one transaction."""
        with translated(), Session(self._connection) as session:
            with session.begin(), writing(connection := connection_of(session)):
                self._prepare(connection)
                known = self._look(session)
                # By the database's clock, and as long ago as it is by ours.
                opened = now(connection, self._timezone) - timedelta(seconds=self._passed())
                moments = [opened + timedelta(seconds=arrival.at) for arrival in due]
                day = moments[0].date()
                of_day = [it for it, at in zip(due, moments, strict=True) if at.date() == day]
                kinds = [arrival.kind for arrival in of_day]
                request = Request(
                    kinds.count(SALE),
                    kind=LIVE,
                    start=of_day[0].sales,
                    day=day,
                    seed=self._arrivals.seed,
                    key=f"{self.name}/{self._number}",
                    updates=kinds.count(UPDATE),
                    cancellations=kinds.count(CANCELLATION),
                    profile=self._profile,
                )
                span = self._recent(session, known, day) if request.changes else None
                start, _ = bounds(day)
                seconds = [
                    int((at - start).total_seconds())
                    for kind, at in zip(kinds, moments, strict=False)
                    if kind == SALE
                ]
                moment = Moment(
                    np.array(seconds, dtype=np.int64),
                    _seed_of(self._arrivals.seed, of_day[0].number),
                    span,
                )
                made = make_batch(
                    session,
                    request,
                    chinook=known.chinook,
                    catalogue=known.catalogue,
                    moment=moment,
                )
                plan = SalePlan(
                    known.catalogue,
                    made.seed,
                    day,
                    request.start,
                    made.count,
                    profile=self._profile,
                    moments=moment.seconds,
                )
                self._sent = _Sent(made, plan, len(of_day), backend_of(connection))
            done, self._sent = self._sent, None
        if made.invoice_ids and self._span is not None:
            low, high = self._span.ids or (made.invoice_ids[0], 0)
            self._span = self._span._replace(ids=(low, max(high, made.invoice_ids[-1])))
        return done

    def _look(self, session: Session) -> _Known:
        """Return what is known of the shop, read anew once a while."""
        known, version = self._known, version_of(connection_of(session))
        begun = self._clock()
        if known is None or begun > known.until or version != known.version:
            with all_or_nothing(session) as (connection, chinook):
                require(chinook)
                catalogue = read_catalogue(connection, changes=True)
            known = self._known = _Known(self._good_until(begun), version, chinook, catalogue)
        pin(connection_of(session), known.chinook)
        return known

    def _recent(self, session: Session, known: _Known, day: date) -> tuple[int, int] | None:
        """Return the ids of what may change on a day, looked for once a while."""
        begun = self._clock()
        if self._span is None or begun > self._span.until:
            with all_or_nothing(session, "changes", known.chinook) as (connection, _):
                ids = recent_ids(connection, day)
            self._span = _Span(self._good_until(begun), ids)
        return self._span.ids

    def _good_until(self, begun: float) -> float:
        """Return until when something will do that we began to read then, and have now."""
        now = self._clock()
        return now + max(READ_AGAIN, READING * (now - begun))

    def _reconnect(self, sent: _Sent | None) -> None:
        """Connect again, however long it takes.

        Raises:
            _Stopped: it shall not be waited for any longer.
            DatabaseUnavailable: nor shall it, as the end was long ago.
            BatchFailed: nor shall it, and it is not known what became of a transaction.
        """
        self.lost += 1
        trouble, begun = self._trouble, self._clock()
        if trouble.since is None:
            trouble.since = begun
            self._say("the connection was lost; connecting again")
        # What was sent is worth one attempt to find out, also for somebody who has had enough.
        patient = sent is None
        while True:
            if self._connection is not None:
                with suppress(DBAPIError):
                    self._connection.close()
                self._connection = None
            stopped = wait(self._stop, trouble.pause)
            if patient and (stopped or self._passed() > self._end + LAST_ATTEMPT):
                raise self._given_up(sent)
            patient = True
            trouble.pause = min(max(trouble.pause * 2, FIRST_PAUSE), LONGEST_PAUSE)
            try:
                self._connection = self._connect()
            except (DatabaseUnavailable, DBAPIError) as error:
                reason = _reason(error)
                if reason != trouble.reason:
                    self._say(f"{reason}; trying again until it succeeds")
                trouble.reason = reason
            else:
                self._away += self._clock() - begun
                return

    def _given_up(self, sent: _Sent | None) -> Exception:
        """Return how it ends without a connection."""
        if sent is not None:
            return self._unknown(sent)
        if self._stop.is_set():
            return _Stopped()
        self._close()
        waiting = self.waiting
        lost = "1 arrival was" if waiting == 1 else f"{waiting:,} arrivals were"
        return DatabaseUnavailable(
            f"the connection was lost, and not restored {LAST_ATTEMPT:.0f} s after the end: "
            f"{lost} not made"
        )

    def _was_committed(self, sent: _Sent) -> bool:
        """Find out whether a transaction was committed whose COMMIT was not answered."""
        found = None
        while self._connection is not None and found is None:
            try:
                found = outcome(self._connection, str(sent.made.run_id), sent.backend)
            except DBAPIError:
                if self._stop.is_set() or self._passed() > self._end + LAST_ATTEMPT:
                    raise self._unknown(sent) from None
                self._reconnect(sent)
            else:
                if found is None and wait(self._stop, 1):
                    raise self._unknown(sent)
        return bool(found)

    def _unknown(self, sent: _Sent) -> CommitUnanswered:
        return CommitUnanswered(
            f"the connection was lost while committing run {sent.made.run_id}: it is not known "
            "whether it was committed; check with `chinook-sim status`"
        )


def wait(stop: threading.Event, seconds: float) -> bool:
    """Sleep until an event is set, or so many seconds have passed; return whether it is set.

    Not by `Event.wait`, which holds the event's lock now and then. A signal handler that runs at
    that moment, in the same thread, would wait in `Event.set` for that lock for ever.
    """
    until = time.monotonic() + seconds
    while not stop.is_set() and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, RESPONSE))
    return stop.is_set()


def _is_locked(error: BatchFailed) -> bool:
    """Tell whether a transaction waited for a lock for as long as it may."""
    return error.sqlstate == LOCK_NOT_AVAILABLE or "database is locked" in str(error)


def _cause(error: BatchFailed) -> str:
    """Return what the database refused, in one line."""
    refusal = refusal_of(error.__cause__) if error.__cause__ else None
    return refusal.line if refusal else str(error)


def _reason(error: DatabaseUnavailable | DBAPIError) -> str:
    """Return why there is no connection, in one line."""
    refusal = refusal_of(error)
    return refusal.line if refusal else str(error)


def _seed_of(seed: int, number: int) -> int:
    """Return the seed of a transaction's changes: that of the stream would choose the same."""
    digest = hashlib.sha256(f"{seed} {number}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % SEED_LIMIT
