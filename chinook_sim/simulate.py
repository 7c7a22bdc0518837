"""Making sales: plan a batch, write it, all of it or nothing of it.

Everything here runs inside the transaction of the session it is given, and never commits. A batch
is under a savepoint of its own, so that a caller who catches an error and commits what was before
it keeps nothing of the batch.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from chinook_sim.batch import NOT_LATE, BatchSummary, IdRanges, SalePlan
from chinook_sim.catalogue import read_catalogue
from chinook_sim.changes import Changes, choose_changes, make_changes
from chinook_sim.errors import BatchFailed, ChinookSimError, DatabaseUnavailable
from chinook_sim.interrupts import interruptible
from chinook_sim.ledger import made_already, record, require
from chinook_sim.models import Customer, Invoice, InvoiceLine, Track
from chinook_sim.naming import connection_of, recognise
from chinook_sim.pinned import pinned
from chinook_sim.refusals import UNTRANSLATABLE, refusal_of
from chinook_sim.request import Request, draw_seed
from chinook_sim.rights import INSUFFICIENT_PRIVILEGE, grants, needs
from chinook_sim.shop import ShopChanger
from chinook_sim.writers import choose_writer
from chinook_sim.writers.ids import hold
from chinook_sim.writers.postgresql import is_psycopg

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator
    from datetime import date
    from decimal import Decimal

    from numpy.typing import NDArray
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session
    from typing_extensions import Unpack

    from chinook_sim.batch import Tally
    from chinook_sim.catalogue import Catalogue
    from chinook_sim.ledger import Asked
    from chinook_sim.naming import Chinook
    from chinook_sim.profile import Profile
    from chinook_sim.request import Wishes
    from chinook_sim.rights import Purpose

__all__ = [
    "Moment",
    "all_or_nothing",
    "generate_d1",
    "generate_day",
    "make_batch",
    "plan_day",
    "simulate_changes",
    "translated",
    "writing",
]

logger = logging.getLogger(__name__)


def generate_d1(
    session: Session,
    n: int,
    *,
    day: date | None = None,
    timezone: str | None = None,
    seed: int | None = None,
    once: bool = False,
    key: str | None = None,
    updates: int = 0,
    cancellations: int = 0,
    new_customers: int = 0,
    moves: int = 0,
    price_changes: int = 0,
    late: float | Decimal | str = 0,
    late_days: int = NOT_LATE.days,
    profile: str | os.PathLike[str] | Profile = "uniform",
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
        once: the day's sales shall exist exactly once, however often and by however many
            processes they are asked for: a repetition returns the summary of the first, with
            `existed` set. Needs the ledger, which the migrations make.
        key: the same for a name of your own, such as a scheduler's run id, instead of the day.
        updates: add one track to so many invoices of the day and the 90 days before it, and make
            their totals right again; to fewer where there are not so many. Needs the ledger, which
            keeps what they were.
        cancellations: first take so many of them away, with their lines.
        new_customers: before all that, let so many people sign up; each is the customer of one of
            the sales, as far as there are so many, and after that one customer among the others.
        moves: let so many customers move, within their country; their earlier invoices keep the
            address they have.
        price_changes: give so many tracks another price out of those that tracks have; their
            earlier sales keep the price they had.
        late: which share of the sales, 0 to 1, of four decimal places at most, is dated before the
            day, as sales are that arrive late.
        late_days: by how many days at most.
        profile: the shape of the sales: `uniform`, where every second, customer, track and number
            of tracks is as likely as any other, `realistic`, or a TOML file; see `Profile`. It
            shapes the day; n stays n.

    Returns:
        A summary: day, count, lines, revenue, seed, digest, invoice_ids, run_id, and how many of
        each change were made.

    Raises:
        InvalidInput: an argument cannot mean anything; nothing was tried.
        KeyTaken: the day or key was asked for before with another number, day or seed.
        NoLedger: `once`, `key` or a change is asked for, and the database has no ledger.
        NotAChinook: the database holds no Chinook.
        CatalogueUnusable: there are no customers, no tracks, or a price no sale can be made of.
        BatchFailed: the database did not take the batch; nothing of it was kept.
    """
    return generate_day(
        session,
        n,
        day=day,
        timezone=timezone,
        seed=seed,
        once=once,
        key=key,
        updates=updates,
        cancellations=cancellations,
        new_customers=new_customers,
        moves=moves,
        price_changes=price_changes,
        late=late,
        late_days=late_days,
        profile=profile,
    )


def simulate_changes(
    session: Session,
    *,
    updates: int = 0,
    cancellations: int = 0,
    new_customers: int = 0,
    moves: int = 0,
    price_changes: int = 0,
    day: date | None = None,
    timezone: str | None = None,
    seed: int | None = None,
    once: bool = False,
    key: str | None = None,
) -> BatchSummary:
    """Change earlier sales, and add none; see `generate_d1`, which can do both at once.

    Cancellations come first, then updates. `once` and `key` here know nothing of those of
    `generate_d1`.

    Args:
        session: as for `generate_d1`.
        updates: as for `generate_d1`.
        cancellations: as for `generate_d1`.
        new_customers: as for `generate_d1`.
        moves: as for `generate_d1`.
        price_changes: as for `generate_d1`.
        day: as for `generate_d1`.
        timezone: as for `generate_d1`.
        seed: as for `generate_d1`.
        once: as for `generate_d1`.
        key: as for `generate_d1`.

    Raises:
        ChinookSimError: as for `generate_d1`.
    """
    return generate_day(
        session,
        0,
        day=day,
        timezone=timezone,
        seed=seed,
        once=once,
        key=key,
        updates=updates,
        cancellations=cancellations,
        new_customers=new_customers,
        moves=moves,
        price_changes=price_changes,
        kind="changes",
    )


def generate_day(
    session: Session,
    n: int,
    *,
    kind: str = "generate",
    start: int = 0,
    chinook: Chinook | None = None,
    catalogue: Catalogue | None = None,
    progress: Callable[[int], None] | None = None,
    **wishes: Unpack[Wishes],
) -> BatchSummary:
    """Add sales `start` to `start + n` of a day; `generate_d1` with the strings visible.

    Args:
        session: as for `generate_d1`.
        n: as for `generate_d1`.
        kind: of the run, in the ledger.
        start: index of the first sale within the day.
        chinook: what was recognised, where it was already; D-1 is not known then.
        catalogue: what to make sales of, where it has been read already.
        progress: told the number of sales after each part of the work; its numbers add up to 2 n.
        wishes: as for `generate_d1`.

    Raises:
        ChinookSimError: as for `generate_d1`.
    """
    request = Request(n, kind=kind, start=start, **wishes)
    return make_batch(session, request, chinook=chinook, catalogue=catalogue, progress=progress)


class Moment(NamedTuple):
    """What a batch that is made now, as one of many, need not draw; nor has anybody else its key.

    Attributes:
        seconds: shape (n,), int64: when the sales are made, in seconds of the day.
        seed: of the changes; that of the sales goes on from batch to batch.
        span: of `recent_ids`.
    """

    seconds: NDArray[np.int64]
    seed: int
    span: tuple[int, int] | None


def make_batch(
    session: Session,
    request: Request,
    *,
    chinook: Chinook | None = None,
    catalogue: Catalogue | None = None,
    progress: Callable[[int], None] | None = None,
    moment: Moment | None = None,
) -> BatchSummary:
    """Make what is asked for; see `generate_day`."""
    with all_or_nothing(session, _purpose(request.changes), chinook) as (connection, chinook):
        asked = request.settle(connection, chinook)
        found = None if moment else _found(connection, chinook, asked, locked=True)
        if found is not None:
            logger.debug("key %s: exists as run %s", asked.key, found.run_id)
            return found
        if request.changes or chinook.outdated_ledger:
            require(chinook)
        catalogue = catalogue or read_catalogue(connection, changes=chinook.ledger)
        plan = _plan(asked, request, catalogue)
        if moment:
            plan = replace(plan, moments=moment.seconds)
        logger.debug(
            "plan: day %s, sales %s, seed %s, profile %s, key %s, run %s",
            *(plan.day, plan.count, plan.seed, plan.profile.name, asked.key, asked.run_id),
        )
        changed = Changes()
        if request.changes:
            plan, changed = _change(
                session, connection, chinook, plan, request.changes, asked, moment
            )
            logger.debug("changed: %s", ", ".join(f"{k} {n}" for k, n in asdict(changed).items()))
        tally = plan.tally()
        logger.debug("sampled: sales %s, lines %s", tally.count, tally.lines)
        ids = IdRanges()
        writer = choose_writer(connection, chinook)
        if plan.count:
            ids = writer.write(plan, tally.lines, progress or (lambda _: None))
            logger.debug("wrote the sales by %s", writer.way)
        made = _summary(plan, tally, ids, changed)
        if chinook.ledger:
            made = replace(made, run_id=asked.run_id, key=asked.key)
            record(connection, asked, made, prices_known=plan.catalogue.as_of)
            if ids:
                writer.record(asked.run_id, plan, ids)
            logger.debug("wrote the run into the ledger")
    return made


def plan_day(session: Session, n: int, **wishes: Unpack[Wishes]) -> BatchSummary:
    """Return what `generate_d1` would do, without writing anything: a dry run.

    The sales are those of the customers and prices there are, whoever would sign up first.
    """
    request = Request(n, **wishes)
    with translated():
        connection = connection_of(session)
        chinook = recognise(connection)
        asked = request.settle(connection, chinook)
        with pinned(connection, chinook):
            found = _found(connection, chinook, asked, locked=False)
        if found is not None:
            return found
        if request.changes or chinook.outdated_ledger:
            require(chinook)
        plan = _plan(asked, request, read_catalogue(connection))
        catalogue, wanted = plan.catalogue, request.changes
        chosen = choose_changes(connection, catalogue, wanted, plan.seed, plan.day)
        changed = replace(
            wanted,
            updates=len(chosen.updated),
            cancellations=len(chosen.cancelled),
            moves=min(wanted.moves, len(catalogue.customer_ids)),
            price_changes=min(wanted.price_changes, len(catalogue.track_ids)),
        )
        return _summary(plan, plan.tally(), IdRanges(), changed)


def _change(
    session: Session,
    connection: Connection,
    chinook: Chinook,
    plan: SalePlan,
    wanted: Changes,
    asked: Asked,
    moment: Moment | None,
) -> tuple[SalePlan, Changes]:
    """Change the shop as the seed and day of a plan have it; return a plan for what it is now."""
    seed, day = moment.seed if moment else plan.seed, plan.day
    changer = ShopChanger(
        connection, chinook, plan.catalogue, run_id=asked.run_id, seed=seed, day=day
    )
    # Before any row is locked: see there.
    hold(connection, chinook)
    newcomers = changer.sign_up(wanted.new_customers)
    moved = changer.move(wanted.moves)
    priced = changer.change_prices(wanted.price_changes)
    if moved or newcomers or priced:
        catalogue = read_catalogue(connection, changes=chinook.ledger)
        buyers = np.searchsorted(catalogue.customer_ids, np.array(newcomers, dtype=np.int64))
        plan = replace(plan, catalogue=catalogue, buyers=buyers)
    catalogue, span = plan.catalogue, moment.span if moment else None
    chosen = choose_changes(connection, catalogue, wanted, seed, day, locked=True, span=span)
    make_changes(connection, chinook, catalogue, chosen, run_id=asked.run_id, seed=seed, day=day)
    for loaded in session.identity_map.values():
        # The session knows nothing of what was done behind its back.
        if isinstance(loaded, Invoice | InvoiceLine | Customer | Track):
            session.expire(loaded)
    return plan, Changes(
        updates=len(chosen.updated),
        cancellations=len(chosen.cancelled),
        new_customers=len(newcomers),
        moves=moved,
        price_changes=priced,
    )


@contextmanager
def all_or_nothing(
    session: Session, purpose: Purpose = "batch", chinook: Chinook | None = None
) -> Iterator[tuple[Connection, Chinook]]:
    """Run a block under a savepoint, on a recognised Chinook; errors come as ours.

    Args:
        session: whose transaction it is.
        purpose: what the block does, to name the rights it takes where they are lacking.
        chinook: what was recognised, where it was already.

    Raises:
        BatchFailed: the database refused something; the savepoint was rolled back.
        NotAChinook: the database holds no Chinook.
    """
    with translated():
        connection = connection_of(session)
        # Before the savepoint, which flushes what is pending: that may be rows of this Chinook.
        chinook = chinook or recognise(connection)
        try:
            with writing(connection), session.begin_nested(), translated():
                # Asked for again: only now does the session send the SAVEPOINT.
                connection = connection_of(session)
                with pinned(connection, chinook), _encoding(connection):
                    yield connection, chinook
        except BatchFailed as error:
            if error.sqlstate != INSUFFICIENT_PRIVILEGE:
                raise
            lacking = grants(connection, needs(connection, chinook, purpose))
            if not lacking:
                raise
            raise BatchFailed(f"{error}. Run: {lacking}", sqlstate=error.sqlstate) from error


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


@contextmanager
def writing(connection: Connection) -> Iterator[None]:
    """Open SQLite's transaction, for writing, where the driver has not.

    Python's sqlite3 opens none before a SAVEPOINT, which would then be the outermost transaction:
    releasing it commits. And one that only reads at first may not write once another has.
    """
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name != "sqlite" or driver.in_transaction:
        yield
        return
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    # With the write lock there is nothing to wait for before COMMIT; but while anybody reads,
    # SQLite would wait each time that its cache is full, and could be written out early.
    patience = connection.exec_driver_sql("PRAGMA busy_timeout").scalar()
    connection.exec_driver_sql("PRAGMA busy_timeout = 0")
    try:
        yield
    finally:
        # Interrupted in a statement, SQLAlchemy has closed it; the interruption is what matters.
        if not connection.invalidated:
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {patience}")


@contextmanager
def translated() -> Iterator[None]:
    """Turn what the database refuses into BatchFailed; other errors pass."""
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
        refusal = refusal_of(error)
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


def _purpose(changes: Changes) -> Purpose:
    if changes.new_customers or changes.moves or changes.price_changes:
        return "shop"
    return "changes" if changes else "batch"


def _found(
    connection: Connection, chinook: Chinook, asked: Asked, *, locked: bool
) -> BatchSummary | None:
    """Return the batch that was asked for by a key, where it is there already."""
    if asked.key is not None:
        require(chinook)
    return made_already(connection, asked, locked=locked)


def _plan(asked: Asked, request: Request, catalogue: Catalogue) -> SalePlan:
    seed = draw_seed() if asked.seed is None else asked.seed
    return SalePlan(
        catalogue,
        seed,
        asked.day,
        request.start,
        asked.count,
        late=request.late,
        profile=request.profile,
    )


def _summary(plan: SalePlan, tally: Tally, ids: IdRanges, changed: Changes) -> BatchSummary:
    return BatchSummary(
        day=plan.day,
        count=tally.count,
        lines=tally.lines,
        revenue=tally.revenue,
        seed=plan.seed,
        digest=tally.digest,
        invoice_ids=ids,
        hours=tuple(tally.hours.tolist()),
        late=tally.late,
        profile=plan.profile.name,
        **asdict(changed),
    )
