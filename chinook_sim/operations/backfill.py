"""Making the sales of many days, each in a transaction of its own.

A day exists under the key that `once` gives it, and so once, whoever makes it: a backfill that was
interrupted is asked for again, and several processes may share one. A day that exists with other
sales than requested stays as it is, and is yielded with the differences.
"""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy.orm import Session

from chinook_sim.database.connections import check_engine, connection_of
from chinook_sim.database.introspection import recognise
from chinook_sim.database.session_settings import pin
from chinook_sim.database.transactions import check_visible_rows, translated, writing
from chinook_sim.dates import check_day
from chinook_sim.errors import FOREIGN_KEY, BatchFailed, InvalidInput, KeyTaken
from chinook_sim.ledger.keys import (
    find_active_run,
    made_between,
    once_key,
    require_ledger,
    summary_of,
    try_key,
)
from chinook_sim.operations.options import COUNT_LIMIT, Request, check_seed, draw_seed
from chinook_sim.operations.run_batch import generate_day
from chinook_sim.sales.catalogue import read_catalogue, version_of
from chinook_sim.sampling.profile import UNIFORM, load_profile

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


KIND = "generate"
"""As `generate_d1` has it: a day made by either exists for both."""

ATTEMPTS = 4
"""How often a day is tried that something came in the way of."""


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
    """Make the sales of every day from one to another, each day in a transaction of its own.

    It commits each day; in this library only it and `live` commit. Days come in order as they are
    done, and those that are there already, by `once`, with `existed` set; a day that another
    process is at comes later. Stop at any time, and ask for the same again, by any number of
    processes at once: each day is made once. A connection that is lost is opened again, and the day
    looked up or made again.

    A day that exists is never changed. If it has another number of sales, another profile or, if
    a seed is given, another seed, `differences` says so::

        for day in backfill(engine, date(2025, 1, 1), date(2025, 12, 31), 2_740):
            print(day.day, day.count, day.existed, day.differences)

    Args:
        engine: on a Chinook with a ledger; one connection of it is used.
        start: the first day.
        end: the last day.
        per_day: how many sales a day has; on average, where the profile's days are not alike.
        seed: as for `generate_d1`, of each day. If None, it is the seed of the days that exist as
            requested, if they all have the same one, and otherwise drawn once for all days. Give
            one to processes that are started at the same time, or each may draw its own.
        profile: as for `generate_d1`; its weekdays, months, growth and peaks say how many sales
            each day has, and a day may well have none.
        connect: opens a connection, if not just the engine.
        prepare: called with the connection at the beginning of each day's transaction.

    Raises:
        InvalidInput: the last day is before the first, or as for `generate_d1`.
        NoLedger: the database was not migrated.
        NotAChinook: it holds no Chinook.
        BatchFailed: a day could not be made, and nothing of it was kept; those before it stay.
    """
    check_engine(engine)
    if check_day(end) < check_day(start):
        raise InvalidInput(f"the last day, {end}, is before the first, {start}; swap them")
    Request(per_day)
    seed = None if seed is None else check_seed(seed)
    shape = load_profile(profile)
    filler = _Filler(connect or engine.connect, prepare or (lambda _: None), per_day, seed, shape)
    return filler.fill(start, end)


class _Filler:
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
            there = self._there(start, end)
            self._seed = self._choose_seed(there.values())
            days = (start + timedelta(days=number) for number in range((end - start).days + 1))
            busy: deque[date] = deque()
            for day in days:
                made = there.get(day) or self._persistently(day, waiting=False)
                if made is None:
                    busy.append(day)
                else:
                    yield made
            for day in busy:
                made = self._persistently(day, waiting=True)
                if made is not None:
                    yield made
        finally:
            if self._connection is not None:
                self._connection.close()

    def _there(self, start: date, end: date) -> dict[date, BatchSummary]:
        """Return the days that are there already."""
        with translated(), Session(self._connected()) as session, session.begin():
            connection = connection_of(session)
            chinook = recognise(connection)
            require_ledger(chinook)
            pin(connection, chinook)
            found = made_between(connection, KIND, start, end)
            return {made.day: self._compared(made) for made in found}

    def _choose_seed(self, there: Iterable[BatchSummary]) -> int:
        """Return the seed of the days to be made.

        An interrupted backfill that is repeated without a seed shall have one seed all the same.
        """
        if self._requested_seed is not None:
            return self._requested_seed
        seeds = {made.seed for made in there if not made.differences}
        return seeds.pop() if len(seeds) == 1 else draw_seed()

    def _compared(self, made: BatchSummary) -> BatchSummary:
        """Return a day that exists with its differences from the request.

        What else `generate` can be asked for, such as updates, is not compared: a backfill does
        not request it.
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

    def _persistently(self, day: date, *, waiting: bool) -> BatchSummary | None:
        """Make one day, again where something came in the way that may be gone."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._make(day, waiting=waiting)
            except BatchFailed as error:
                lost = self._connection is None or self._connection.invalidated
                if lost:
                    # It may be there all the same, if COMMIT was sent: its key tells.
                    self._unanswered.add(day)
                    self._connection = None
                self._known = None
                logger.info("day %s, attempt %s of %s: %s", day, attempt, ATTEMPTS, error)
                again = lost or error.retryable or error.sqlstate == FOREIGN_KEY
                if not again or attempt == ATTEMPTS:
                    raise
                # Not all who came in each other's way shall come back at the same moment.
                time.sleep(random.uniform(0, 0.2 * 2**attempt))  # noqa: S311
        raise AssertionError

    def _make(self, day: date, *, waiting: bool) -> BatchSummary | None:
        """Make one day, or find it there; None where another process is at it."""
        with (
            translated(),
            Session(self._connected()) as session,
            session.begin(),
            writing(connection := connection_of(session)),
        ):
            self._prepare(connection)
            if not waiting and not try_key(connection, KIND, once_key(day)):
                return None
            version = version_of(connection)
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
                made = generate_day(
                    session,
                    count,
                    day=day,
                    seed=self._seed,
                    once=True,
                    profile=self._profile,
                    # Only where days are unlike: otherwise it is the number itself, and the day
                    # the one that `generate_d1(…, once=True)` makes.
                    per_day=self._per_day if self._profile.has_calendar else None,
                    chinook=chinook,
                    catalogue=catalogue,
                )
            except KeyTaken:
                # Made meanwhile with another number, seed or option; it stays as it is.
                row = find_active_run(connection, KIND, once_key(day), locked=False)
                if row is None:
                    raise
                return self._compared(summary_of(connection, row))
        logger.debug("committed day %s", day)
        return replace(made, existed=made.existed and day not in self._unanswered)

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection
