"""Making sales: plan a batch, write it, all of it or nothing of it.

Everything here runs inside the transaction of the session it is given, and never commits. A batch
is under a savepoint of its own, so that a caller who catches an error and commits what was before
it keeps nothing of the batch.
"""

from __future__ import annotations

import operator
import secrets
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, SupportsIndex

from chinook_sim.batch import BatchSummary, IdRanges, SalePlan
from chinook_sim.catalogue import read_catalogue
from chinook_sim.changes import Changes, choose_changes, make_changes
from chinook_sim.errors import BatchFailed, ChinookSimError, InvalidInput
from chinook_sim.ledger import (
    ONCE,
    Asked,
    made_already,
    once_key,
    record,
    require,
    require_changes,
)
from chinook_sim.models import Invoice, InvoiceLine
from chinook_sim.naming import connection_of, recognise
from chinook_sim.refusals import refusal_of
from chinook_sim.rights import INSUFFICIENT_PRIVILEGE, grants, needs
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
    from chinook_sim.rights import Purpose

__all__ = [
    "COUNT_LIMIT",
    "all_or_nothing",
    "check_key",
    "check_seed",
    "draw_seed",
    "generate_d1",
    "generate_day",
    "plan_day",
    "simulate_changes",
    "translated",
]

COUNT_LIMIT = 2**31 - 1
"""The most sales of a batch: as many as there are ids."""

KEY_LENGTH = 200
"""The most characters of a key: as many as the ledger's column holds."""


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

    Returns:
        A summary: day, count, lines, revenue, seed, digest, invoice_ids, run_id, updates,
        cancellations.

    Raises:
        InvalidInput: an argument cannot mean anything; nothing was tried.
        KeyTaken: the day or key was asked for before with another number, day or seed.
        NoLedger: `once`, `key`, `updates` or `cancellations` is given, and the database has no
            ledger.
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
    )


def simulate_changes(
    session: Session,
    *,
    updates: int = 0,
    cancellations: int = 0,
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
        kind="changes",
    )


def generate_day(
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
    kind: str = "generate",
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
        once: as for `generate_d1`.
        key: as for `generate_d1`.
        updates: as for `generate_d1`.
        cancellations: as for `generate_d1`.
        kind: of the run, in the ledger.
        start: index of the first sale within the day.
        catalogue: what to make sales of, where it has been read already.
        progress: told the number of sales after each part of the work; its numbers add up to 2 n.

    Raises:
        ChinookSimError: as for `generate_d1`.
    """
    request = _Request(
        n, day, timezone, seed, once, key, Changes(updates, cancellations), kind, start
    )
    with all_or_nothing(session, "changes" if request.changes else "batch") as (
        connection,
        chinook,
    ):
        asked = request.settle(connection, chinook)
        found = _found(connection, chinook, asked, locked=True)
        if found is not None:
            return found
        plan = _plan(asked, start, catalogue or read_catalogue(connection))
        changed = Changes()
        if request.changes:
            require_changes(chinook)
            changed = _change(session, connection, chinook, plan, request.changes, asked.run_id)
        tally = plan.tally()
        ids = IdRanges()
        if plan.count:
            writer = choose_writer(connection, chinook)
            ids = writer.write(plan, tally.lines, progress or (lambda _: None))
        made = _summary(plan, tally, ids, changed)
        if chinook.ledger:
            made = replace(made, run_id=asked.run_id, key=asked.key)
            record(connection, asked, made)
    return made


def plan_day(
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
) -> BatchSummary:
    """Return what `generate_d1` would do, without writing anything: a dry run."""
    request = _Request(n, day, timezone, seed, once, key, Changes(updates, cancellations))
    with translated():
        connection = connection_of(session)
        chinook = recognise(connection)
        asked = request.settle(connection, chinook)
        found = _found(connection, chinook, asked, locked=False)
        if found is not None:
            return found
        plan = _plan(asked, 0, read_catalogue(connection))
        changed = Changes()
        if request.changes:
            require_changes(chinook)
            changed = choose_changes(
                connection, plan.catalogue, request.changes, plan.seed, plan.day
            ).changes
        return _summary(plan, plan.tally(), IdRanges(), changed)


def _change(
    session: Session,
    connection: Connection,
    chinook: Chinook,
    plan: SalePlan,
    wanted: Changes,
    run_id: str,
) -> Changes:
    """Change earlier sales as the seed and day of a plan have it."""
    catalogue, seed, day = plan.catalogue, plan.seed, plan.day
    chosen = choose_changes(connection, catalogue, wanted, seed, day, chinook=chinook)
    make_changes(connection, chinook, catalogue, chosen, run_id=run_id, seed=seed, day=day)
    changed = {*chosen.updated, *chosen.cancelled}
    for loaded in session.identity_map.values():
        # The session knows nothing of what was done behind its back.
        if isinstance(loaded, Invoice | InvoiceLine) and loaded.invoice_id in changed:
            session.expire(loaded)
    return chosen.changes


def draw_seed() -> int:
    """Draw a seed from the system; below 2**53, so that JSON readers keep it exactly."""
    return secrets.randbits(53)


def check_seed(seed: int) -> int:
    """Return a seed as it is.

    Raises:
        InvalidInput: it is not a whole number from 0 to 2**63 - 1.
    """
    return _whole("seed", seed, SEED_LIMIT - 1)


def check_key(key: str) -> str:
    """Return a key as it is.

    Raises:
        InvalidInput: it is no text of 1 to 200 printable characters, or begins with `once:`, as
            those of `once` do.
    """
    if not isinstance(key, str) or not 1 <= len(key) <= KEY_LENGTH or not key.isprintable():
        raise InvalidInput(f"a key must be 1 to {KEY_LENGTH} printable characters, not {key!r:.60}")
    if not key.strip() or key.startswith(ONCE):
        raise InvalidInput(f"a key must not be blank, nor begin with {ONCE!r}; choose another name")
    return key


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
            with _writing(connection), session.begin_nested(), translated():
                # Asked for again: only now does the session send the SAVEPOINT.
                yield connection_of(session), chinook
        except BatchFailed as error:
            if error.sqlstate != INSUFFICIENT_PRIVILEGE:
                raise
            lacking = grants(connection, needs(connection, chinook, purpose))
            if not lacking:
                raise
            raise BatchFailed(f"{error}: {lacking}", sqlstate=error.sqlstate) from error


@contextmanager
def _writing(connection: Connection) -> Iterator[None]:
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
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {patience}")


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
        once: bool = False,
        key: str | None = None,
        changes: Changes | None = None,
        kind: str = "generate",
        start: int = 0,
    ) -> None:
        if once and key is not None:
            raise InvalidInput("once makes a key of the day; leave it out, or the key")
        self._count = _whole("number of sales", n, COUNT_LIMIT)
        self._day = None if day is None else check_day(day)
        self._timezone = None if timezone is None else check_timezone(timezone)
        self._seed = None if seed is None else check_seed(seed)
        self._once = once
        self._key = None if key is None else check_key(key)
        self._kind = kind
        wanted = asdict(changes or Changes())
        for name, number in wanted.items():
            wanted[name] = _whole(f"number of {name}", number, COUNT_LIMIT)
        self.changes = Changes(**wanted)
        self._parameters = {name: it for name, it in {"start": start, **wanted}.items() if it}

    def settle(self, connection: Connection, chinook: Chinook) -> Asked:
        """Fill in what only the database knows."""
        if self._day is not None:
            day = self._day
        elif self._timezone is not None:
            day = d1(connection, self._timezone)
        else:
            # As d1 has it, and no round trip more.
            day = chinook.today - timedelta(days=1)
        return Asked(
            kind=self._kind,
            day=day,
            count=self._count,
            key=once_key(day) if self._once else self._key,
            seed=self._seed,
            timezone=self._timezone,
            parameters=self._parameters,
        )


def _found(
    connection: Connection, chinook: Chinook, asked: Asked, *, locked: bool
) -> BatchSummary | None:
    """Return the batch that was asked for by a key, where it is there already."""
    if asked.key is not None:
        require(chinook)
    return made_already(connection, asked, locked=locked)


def _plan(asked: Asked, start: int, catalogue: Catalogue) -> SalePlan:
    seed = draw_seed() if asked.seed is None else asked.seed
    return SalePlan(catalogue, seed, asked.day, start, asked.count)


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
        **asdict(changed),
    )


def _whole(what: str, value: SupportsIndex, limit: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = -1
    if isinstance(value, bool) or not 0 <= number <= limit:
        raise InvalidInput(f"the {what} must be a whole number from 0 to {limit}, not {value!r}")
    return number
