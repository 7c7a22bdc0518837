"""Yesterday's sales, and changes of earlier ones: `generate_d1` and `simulate_changes`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chinook_sim.kinds import ChangeCounts, RunKind
from chinook_sim.operations.options import BatchOptions, backdating_rule
from chinook_sim.operations.run_batch import run_batch
from chinook_sim.sales.batch import NO_BACKDATING
from chinook_sim.sampling.profile_file import load_profile

if TYPE_CHECKING:
    import os
    from datetime import date
    from decimal import Decimal

    from sqlalchemy.orm import Session

    from chinook_sim.sales.summary import BatchSummary
    from chinook_sim.sampling.profile import Profile

__all__ = ["generate_d1", "simulate_changes"]


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
    late_days: int = NO_BACKDATING.days,
    profile: str | os.PathLike[str] | Profile = "uniform",
) -> BatchSummary:
    """Add n sales of yesterday (D-1), spread at random over its 24 hours.

    The batch runs in the session's transaction, which is yours to commit or roll back. All of it is
    written or none, also if you catch the error and commit. From asyncio, use
    `await session.run_sync(generate_d1, n)`.

    Args:
        session: a session on a Chinook in PostgreSQL or SQLite.
        n: number of sales, 0 or more.
        day: the day to use instead of D-1.
        timezone: an IANA name such as `Europe/Paris`. D-1 is then taken from the clock there and
            not from the database's CURRENT_DATE.
        seed: 0 to 2**63 - 1. The same seed, day, n and catalogue always make the same sales. If
            None, a seed is drawn from the system and reported in the result.
        once: make the sales of the day exactly once, however often and by however many processes
            they are requested. A repeated call returns the summary of the first, with `existed`
            set. Needs the ledger, which the migrations make.
        key: the same for a name of your own, such as a scheduler's run id, instead of the day.
        updates: number of invoices, of the day and the 90 days before it, that get one more track
            and a new total; fewer if there are not enough. Needs the ledger, which keeps the rows
            from before.
        cancellations: number of such invoices that are deleted with their lines, before the
            updates.
        new_customers: number of customers who sign up before the sales. Each is the customer of
            one of the sales, if there are enough, and from then on one customer among the others.
        moves: number of customers who get another address in their country. Their earlier
            invoices keep the old one.
        price_changes: number of tracks that get another of the prices that tracks have. Their
            earlier sales keep the old one.
        late: share of late sales, from 0 to 1, with at most four decimal places. Late sales are
            dated before the day.
        late_days: the largest number of days by which a sale is late.
        profile: the distribution of the sales: `uniform`, `realistic`, a TOML file or a
            `Profile`. It does not change n.

    Returns:
        A summary with day, count, lines, revenue, seed, digest, invoice_ids, run_id, and the
        number of changes of each kind.

    Raises:
        InvalidInput: an argument is of the wrong type or out of range. Nothing was tried.
        KeyTaken: the day or key was used before with other options.
        NoLedger: `once`, `key` or a change is requested, and the database has no ledger.
        NotAChinook: the database holds no Chinook.
        CatalogueUnusable: there are no customers, no tracks, or a price that is not an amount.
        BatchFailed: the database refused the batch. Nothing of it was kept.
    """
    options = BatchOptions(
        day=day,
        timezone=timezone,
        seed=seed,
        once=once,
        key=key,
        changes=ChangeCounts(updates, cancellations, new_customers, moves, price_changes),
        backdating=backdating_rule(late, late_days),
        profile=load_profile(profile),
    )
    return run_batch(session, n, options)


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
    """Change earlier sales, customers and prices, and add no sales.

    `generate_d1` can do both at once. Cancellations come before updates. The keys of this function
    and of `generate_d1` are separate.

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

    Returns:
        As `generate_d1`.

    Raises:
        ChinookSimError: as for `generate_d1`.
    """
    options = BatchOptions(
        kind=RunKind.CHANGES,
        day=day,
        timezone=timezone,
        seed=seed,
        once=once,
        key=key,
        changes=ChangeCounts(updates, cancellations, new_customers, moves, price_changes),
    )
    return run_batch(session, 0, options)
