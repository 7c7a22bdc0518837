"""Making the sales of many days, each in a transaction of its own.

A day exists once, under the key that `once` gives it, whichever process makes it. So an interrupted
backfill can be started again, and several processes can share one. A day that exists with other
sales than requested is left as it is, and is yielded with the differences.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy.orm import Session

from chinook_sim.database.backends import backend_for
from chinook_sim.database.connections import check_engine, connection_of
from chinook_sim.database.introspection import recognise
from chinook_sim.database.retries import ATTEMPTS, backoff
from chinook_sim.database.session_settings import pin
from chinook_sim.database.transactions import check_visible_rows, translated, writing
from chinook_sim.dates import check_day
from chinook_sim.errors import FOREIGN_KEY, BatchFailed, InvalidInput, KeyTaken
from chinook_sim.kinds import RunKind
from chinook_sim.ledger.keys import (
    find_active_run,
    made_between,
    require_ledger,
    summary_of,
    try_key,
)
from chinook_sim.ledger.request import once_key
from chinook_sim.operations.options import (
    COUNT_LIMIT,
    BatchOptions,
    check_count,
    check_seed,
    draw_seed,
)
from chinook_sim.operations.run_batch import BatchContext, run_batch
from chinook_sim.sales.catalogue import read_catalogue
from chinook_sim.sampling.profile import UNIFORM
from chinook_sim.sampling.profile_file import load_profile

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator
    from datetime import date

    from sqlalchemy import Connection, Engine

    from chinook_sim.database.schema import Chinook
    from chinook_sim.sales.catalogue import Catalogue
    from chinook_sim.sales.summary import BatchSummary
    from chinook_sim.sampling.profile import Profile

__all__ = ["backfill"]

logger = logging.getLogger(__name__)


def backfill(
    engine: Engine,
    start: date,
    end: date,
    per_day: int,
    *,
    seed: int | None = None,
    profile: str | os.PathLike[str] | Profile = UNIFORM,
    connect: Callable[[], Connection] | None = None,
    prepare: Callable[[Connection], object] | None = None,
) -> Iterator[BatchSummary]:
    """Make the sales of each day of a range, each day in a transaction of its own.

    Each day is committed; besides this function only `live` commits. Days are yielded in order.
    Those that exist already, by `once`, have `existed` set. A day that another process is making
    comes later. You can stop at any time and start again, with any number of processes: each day is
    made once. If the connection is lost, another one is opened, and the day is looked up or made
    again.

    A day that exists is never changed. If it has another number of sales, another profile or, if
    a seed is given, another seed, `differences` says so::

        for day in backfill(engine, date(2025, 1, 1), date(2025, 12, 31), 2_740):
            print(day.day, day.count, day.existed, day.differences)

    Args:
        engine: on a Chinook with a ledger. One connection of it is used.
        start: the first day.
        end: the last day.
        per_day: number of sales of each day; the average, if the profile's days differ.
        seed: the seed of each day, as for `generate_d1`. If None, it is the seed of the days that
            exist as requested, if they all have the same one, or else one is drawn for all days.
            Give one to processes that are started at the same time, or each may draw its own.
        profile: as for `generate_d1`. Its weekdays, months, growth and peaks determine how many
            sales each day has, which may be none.
        connect: opens a connection; `engine.connect` if None.
        prepare: called with the connection at the beginning of each day's transaction.

    Raises:
        InvalidInput: the last day is before the first, or as for `generate_d1`.
        NoLedger: the database was not migrated.
        NotAChinook: the database holds no Chinook.
        BatchFailed: a day could not be made, and nothing of it was kept. Earlier days stay.
    """
    check_engine(engine)
    if check_day(end) < check_day(start):
        raise InvalidInput(f"the last day, {end}, is before the first, {start}; swap them")
    check_count(per_day)
    seed = None if seed is None else check_seed(seed)
    shape = load_profile(profile)
    worker = _BackfillWorker(
        connect or engine.connect, prepare or (lambda _: None), per_day, seed, shape
    )
    return worker.fill(start, end)


class _BackfillWorker:
    """Fills days on one connection, which is replaced when it is lost."""

    def __init__(
        self,
        connect: Callable[[], Connection],
        prepare: Callable[[Connection], object],
        per_day: int,
        seed: int | None,
        profile: Profile,
    ) -> None:
        self._connect = connect
        self._prepare = prepare
        self._per_day = per_day
        self._requested_seed = seed
        self._seed = 0
        self._profile = profile
        self._connection: Connection | None = None
        self._known: tuple[Chinook, Catalogue] | None = None
        self._version: int | None = None
        self._unanswered: set[date] = set()

    def fill(self, start: date, end: date) -> Iterator[BatchSummary]:
        """Make each day that is not there."""
        try:
            there = self._existing_days(start, end)
            self._seed = self._choose_seed(there.values())
            days = (start + timedelta(days=number) for number in range((end - start).days + 1))
            busy: deque[date] = deque()
            for day in days:
                made = there.get(day) or self._with_retries(day, waiting=False)
                if made is None:
                    busy.append(day)
                else:
                    yield made
            for day in busy:
                made = self._with_retries(day, waiting=True)
                if made is not None:
                    yield made
        finally:
            if self._connection is not None:
                self._connection.close()

    def _existing_days(self, start: date, end: date) -> dict[date, BatchSummary]:
        """Return the days that are there already."""
        with translated(), Session(self._connected()) as session, session.begin():
            connection = connection_of(session)
            chinook = recognise(connection)
            require_ledger(chinook)
            pin(connection, chinook)
            found = made_between(connection, RunKind.GENERATE, start, end)
            return {made.day: self._compared(made) for made in found}

    def _choose_seed(self, there: Iterable[BatchSummary]) -> int:
        """Return the seed of the days to be made.

        An interrupted backfill that is repeated without a seed uses the seed of its first days.
        """
        if self._requested_seed is not None:
            return self._requested_seed
        seeds = {made.seed for made in there if not made.differences}
        return seeds.pop() if len(seeds) == 1 else draw_seed()

    def _compared(self, made: BatchSummary) -> BatchSummary:
        """Return a day that exists with its differences from the request.

        Other options of `generate`, such as updates, are not compared: a backfill does not request
        them.
        """
        # A number is rounded up or down by the seed, so this is the number for the day's own.
        count = self._profile.count(self._per_day, made.day, made.seed)
        seed = made.seed if self._requested_seed is None else self._requested_seed
        pairs: dict[str, tuple[object, object]] = {
            "number of sales": (made.count, count),
            "profile": (made.profile, self._profile.name),
            "seed": (made.seed, seed),
        }
        differences = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
        return replace(made, differences=differences)

    def _with_retries(self, day: date, *, waiting: bool) -> BatchSummary | None:
        """Make one day; try again after a failure that may pass."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._make(day, waiting=waiting)
            except BatchFailed as error:
                lost = self._connection is None or self._connection.invalidated
                if lost:
                    # If COMMIT was sent, the day may exist. Its key says so.
                    self._unanswered.add(day)
                    self._connection = None
                self._known = None
                logger.info("day %s, attempt %s of %s: %s", day, attempt, ATTEMPTS, error)
                again = lost or error.retryable or error.sqlstate == FOREIGN_KEY
                if not again or attempt == ATTEMPTS:
                    raise
                time.sleep(backoff(attempt))
        raise AssertionError

    def _make(self, day: date, *, waiting: bool) -> BatchSummary | None:
        """Make one day, or find it; return None if another process is making it."""
        with (
            translated(),
            Session(self._connected()) as session,
            session.begin(),
            writing(connection := connection_of(session)),
        ):
            self._prepare(connection)
            if not waiting and not try_key(connection, RunKind.GENERATE, once_key(day)):
                return None
            version = backend_for(connection).data_version(connection)
            if self._known is None or version != self._version:
                chinook = recognise(connection)
                check_visible_rows(chinook)
                self._known = chinook, read_catalogue(connection, changes=chinook.ledger)
                self._version = version
            chinook, catalogue = self._known
            pin(connection, chinook)
            count = self._profile.count(self._per_day, day, self._seed)
            if count > COUNT_LIMIT:
                raise InvalidInput(
                    f"the profile {self._profile.name!r} makes {count:,} sales of {day}, and a day "
                    f"has at most {COUNT_LIMIT:,}; take fewer a day, or less growth"
                )
            try:
                options = BatchOptions(
                    day=day,
                    seed=self._seed,
                    once=True,
                    profile=self._profile,
                    # Only if days differ. If they do not, it is the number itself, and the
                    # day is the one that `generate_d1(…, once=True)` makes.
                    per_day=self._per_day if self._profile.has_calendar else None,
                )
                made = run_batch(session, count, options, BatchContext(chinook, catalogue))
            except KeyTaken:
                # Another process has made it with another number, seed or option.
                row = find_active_run(connection, RunKind.GENERATE, once_key(day), locked=False)
                if row is None:
                    raise
                return self._compared(summary_of(connection, row))
        logger.debug("committed day %s", day)
        return replace(made, existed=made.existed and day not in self._unanswered)

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection
