"""Yesterday's sales, and changes of earlier ones: `generate_d1` and `simulate_changes`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chinook_sim.kinds import ChangeCounts, RunKind
from chinook_sim.operations.options import BatchOptions, backdating_rule
from chinook_sim.operations.run_batch import run_batch
from chinook_sim.sales.batch import NO_BACKDATING
from chinook_sim.sampling.profile import load_profile

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
        A summary with day, count, lines, revenue, seed, digest, invoice_ids, run_id, and how many
        of each change were made.

    Raises:
        InvalidInput: an argument cannot mean anything; nothing was tried.
        KeyTaken: the day or key was asked for before with another number, day or seed.
        NoLedger: `once`, `key` or a change is asked for, and the database has no ledger.
        NotAChinook: the database holds no Chinook.
        CatalogueUnusable: there are no customers, no tracks, or a price no sale can be made of.
        BatchFailed: the database did not take the batch; nothing of it was kept.
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
