"""Making sales: plan a batch, write it, all of it or nothing of it.

Everything here runs inside the transaction of the session it is given, and never commits. A batch
is under a savepoint of its own, so that a caller who catches an error and commits what was before
it keeps nothing of the batch.
"""

from __future__ import annotations

import operator
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, SupportsIndex

from chinook_sim.batch import BatchSummary, IdRanges, SalePlan
from chinook_sim.catalogue import read_catalogue
from chinook_sim.errors import BatchFailed, ChinookSimError, InvalidInput
from chinook_sim.naming import connection_of, recognise
from chinook_sim.refusals import refusal_of
from chinook_sim.sampling import SEED_LIMIT
from chinook_sim.window import check_day, check_timezone, d1
from chinook_sim.writers import choose_writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import date

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from chinook_sim.batch import Tally
    from chinook_sim.catalogue import Catalogue
    from chinook_sim.naming import Chinook

__all__ = [
    "COUNT_LIMIT",
    "check_seed",
    "draw_seed",
    "generate_d1",
    "generate_day",
    "plan_day",
    "translated",
]

COUNT_LIMIT = 2**31 - 1
"""The most sales of a batch: as many as there are ids."""


def generate_d1(
    session: Session,
    n: int,
    *,
    day: date | None = None,
    timezone: str | None = None,
    seed: int | None = None,
) -> BatchSummary:
    """Add n sales of yesterday (D-1), spread at random over its 24 hours.

    Runs inside the session's transaction, which stays yours to commit or roll back; the batch is
    all there or not there at all, also when you catch the error and commit. From asyncio, use
    `await session.run_sync(generate_d1, n)`.

    Args:
        session: a session on a Chinook in PostgreSQL or SQLite.
        n: how many sales; 0 is allowed.
        day: the day to use instead of D-1.
        timezone: an IANA name such as `Europe/Paris`, to take yesterday from the clock there
            rather than from the database's CURRENT_DATE.
        seed: 0 to 2**63 - 1. The same seed, day, n and catalogue make the same sales, always;
            without one, one is drawn from the system and reported in the result.

    Returns:
        A summary: day, count, lines, revenue, seed, digest, invoice_ids.

    Raises:
        InvalidInput: an argument cannot mean anything; nothing was tried.
        NotAChinook: the database holds no Chinook.
        CatalogueUnusable: there are no customers, no tracks, or a price no sale can be made of.
        BatchFailed: the database did not take the batch; nothing of it was kept.
    """
    return generate_day(session, n, day=day, timezone=timezone, seed=seed)


def generate_day(
    session: Session,
    n: int,
    *,
    day: date | None = None,
    timezone: str | None = None,
    seed: int | None = None,
    start: int = 0,
    catalogue: Catalogue | None = None,
    progress: Callable[[int], None] | None = None,
) -> BatchSummary:
    """Add sales `start` to `start + n` of a day; `generate_d1` with the strings visible.

    Args:
        session: as for `generate_d1`.
        n: as for `generate_d1`.
        day: as for `generate_d1`.
        timezone: as for `generate_d1`.
        seed: as for `generate_d1`.
        start: index of the first sale within the day.
        catalogue: what to make sales of, where it has been read already.
        progress: told the number of sales after each part of the work; its numbers add up to 2 n.

    Raises:
        ChinookSimError: as for `generate_d1`.
    """
    request = _Request(n, day, timezone, seed, start, catalogue)
    with all_or_nothing(session) as (connection, chinook):
        plan = request.plan(connection)
        tally = plan.tally()
        ids = IdRanges()
        if plan.count:
            writer = choose_writer(connection, chinook)
            ids = writer.write(plan, tally.lines, progress or (lambda _: None))
    return _summary(plan, tally, ids)


def plan_day(
    session: Session,
    n: int,
    *,
    day: date | None = None,
    timezone: str | None = None,
    seed: int | None = None,
) -> BatchSummary:
    """Return what `generate_d1` would add, without writing anything: a dry run."""
    request = _Request(n, day, timezone, seed)
    with translated():
        connection = connection_of(session)
        recognise(connection)
        plan = request.plan(connection)
        return _summary(plan, plan.tally(), IdRanges())


def draw_seed() -> int:
    """Draw a seed from the system; below 2**53, so that JSON readers keep it exactly."""
    return secrets.randbits(53)


def check_seed(seed: int) -> int:
    """Return a seed as it is.

    Raises:
        InvalidInput: it is not a whole number from 0 to 2**63 - 1.
    """
    return _whole("seed", seed, SEED_LIMIT - 1)


@contextmanager
def all_or_nothing(session: Session) -> Iterator[tuple[Connection, Chinook]]:
    """Run a block under a savepoint, on a recognised Chinook; errors come as ours.

    Raises:
        BatchFailed: the database refused something; the savepoint was rolled back.
        NotAChinook: the database holds no Chinook.
    """
    with translated():
        connection = connection_of(session)
        _begin(connection)
        # Before the savepoint, which flushes what is pending: that may be rows of this Chinook.
        chinook = recognise(connection)
        with session.begin_nested(), translated():
            # Asked for again: only now does the session send the SAVEPOINT.
            yield connection_of(session), chinook


def _begin(connection: Connection) -> None:
    """Open SQLite's transaction, for writing, where the driver has not.

    Python's sqlite3 opens none before a SAVEPOINT, which would then be the outermost transaction:
    releasing it commits. And one that only reads at first may not write once another has.
    """
    if connection.dialect.name == "sqlite":
        driver: Any = connection.connection.driver_connection
        if not driver.in_transaction:
            connection.exec_driver_sql("BEGIN IMMEDIATE")


@contextmanager
def translated() -> Iterator[None]:
    """Turn what the database refuses into BatchFailed; other errors pass."""
    try:
        yield
    except ChinookSimError:
        raise
    except Exception as error:
        # When the connection is gone, taking the batch back fails too; the first error says why.
        ours = _first_of_ours(error)
        if ours is not None:
            raise ours from error
        refusal = refusal_of(error)
        if refusal is None:
            raise
        raise BatchFailed(
            f"the batch failed and nothing was written: {refusal.line}", sqlstate=refusal.sqlstate
        ) from error


def _first_of_ours(error: BaseException) -> ChinookSimError | None:
    context = error.__context__
    while context is not None:
        if isinstance(context, ChinookSimError):
            return context
        context = context.__context__
    return None


class _Request:
    """What was asked for, checked before anything is tried."""

    def __init__(
        self,
        n: int,
        day: date | None,
        timezone: str | None,
        seed: int | None,
        start: int = 0,
        catalogue: Catalogue | None = None,
    ) -> None:
        self._count = _whole("number of sales", n, COUNT_LIMIT)
        self._day = None if day is None else check_day(day)
        self._timezone = None if timezone is None else check_timezone(timezone)
        self._seed = draw_seed() if seed is None else check_seed(seed)
        self._start = start
        self._catalogue = catalogue

    def plan(self, connection: Connection) -> SalePlan:
        """Fill in what only the database knows."""
        day = self._day or d1(connection, self._timezone)
        catalogue = self._catalogue or read_catalogue(connection)
        return SalePlan(catalogue, self._seed, day, self._start, self._count)


def _summary(plan: SalePlan, tally: Tally, ids: IdRanges) -> BatchSummary:
    return BatchSummary(
        day=plan.day,
        count=tally.count,
        lines=tally.lines,
        revenue=tally.revenue,
        seed=plan.seed,
        digest=tally.digest,
        invoice_ids=ids,
        hours=tuple(tally.hours.tolist()),
    )


def _whole(what: str, value: SupportsIndex, limit: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = -1
    if isinstance(value, bool) or not 0 <= number <= limit:
        raise InvalidInput(f"the {what} must be a whole number from 0 to {limit}, not {value!r}")
    return number
