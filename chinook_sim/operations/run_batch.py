"""One batch, from its options to its row in the ledger."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from chinook_sim.changes.customers_and_prices import ShopMutator
from chinook_sim.changes.invoices import choose_changes, make_changes
from chinook_sim.database.connections import connection_of
from chinook_sim.database.introspection import recognise
from chinook_sim.database.session_settings import pinned
from chinook_sim.database.transactions import all_or_nothing, check_visible_rows, translated
from chinook_sim.kinds import NO_CHANGES, ChangeCounts
from chinook_sim.ledger.keys import made_already, require_ledger
from chinook_sim.ledger.recording import record
from chinook_sim.models import Customer, Invoice, InvoiceLine, Track
from chinook_sim.operations.options import check_count, draw_seed
from chinook_sim.sales.batch import SalePlan
from chinook_sim.sales.catalogue import read_catalogue
from chinook_sim.sales.id_allocation import lock_id_allocation
from chinook_sim.sales.id_ranges import IdRanges
from chinook_sim.sales.summary import BatchSummary
from chinook_sim.sales.writers import choose_writer

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from chinook_sim.database.privileges import Purpose
    from chinook_sim.database.schema import Chinook
    from chinook_sim.ledger.request import RunRequest
    from chinook_sim.operations.options import BatchOptions
    from chinook_sim.sales.batch import Tally
    from chinook_sim.sales.catalogue import Catalogue

__all__ = ["BatchContext", "LiveContext", "plan_batch", "run_batch"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class LiveContext:
    """What a transaction of a live stream does not draw or look up.

    Attributes:
        timestamps: shape (n,), int64: when the sales are made, in seconds of the day.
        change_seed: the seed of the changes. That of the sales is the same for all transactions.
        candidate_ids: the range of ids that `recent_ids` found.
    """

    timestamps: NDArray[np.int64]
    change_seed: int
    candidate_ids: tuple[int, int] | None


@dataclass(frozen=True, slots=True, eq=False)
class BatchContext:
    """What the caller of a batch knows already, so that it is not read again.

    Attributes:
        chinook: what `recognise` returned. Its `today` may be of an earlier day.
        catalogue: what the sales are made of.
        progress: called with the number of sales after each part of the work; all its numbers add
            up to 2 n.
        live: of a live stream, whose keys nobody else has.
    """

    chinook: Chinook | None = None
    catalogue: Catalogue | None = None
    progress: Callable[[int], None] | None = None
    live: LiveContext | None = None


def run_batch(
    session: Session, n: int, options: BatchOptions, context: BatchContext | None = None
) -> BatchSummary:
    """Add n sales of a day, and make the changes that are asked for; see `generate_d1`.

    Args:
        session: as for `generate_d1`.
        n: as for `generate_d1`.
        options: what else is asked for.
        context: what is known already.

    Raises:
        ChinookSimError: as for `generate_d1`.
    """
    count, context = check_count(n), context or BatchContext()
    live = context.live
    with all_or_nothing(session, _purpose(options.changes), context.chinook) as (
        connection,
        chinook,
    ):
        request = options.resolve(count, connection, chinook)
        found = None if live else _found(connection, chinook, request, locked=True)
        if found is not None:
            logger.debug("key %s: exists as run %s", request.key, found.run_id)
            return found
        if options.changes or chinook.unusable_ledger:
            require_ledger(chinook)
        catalogue = context.catalogue or read_catalogue(connection, changes=chinook.ledger)
        plan = _plan(request, options, chinook, catalogue)
        if live:
            plan = replace(plan, timestamps=live.timestamps)
        logger.debug(
            "plan: day %s, sales %s, seed %s, profile %s, key %s, run %s",
            *(plan.day, plan.count, plan.seed, plan.profile.name, request.key, request.run_id),
        )
        changed = NO_CHANGES
        if options.changes:
            plan, changed = _change(
                session, connection, chinook, plan, options.changes, request, live
            )
            logger.debug("changed: %s", ", ".join(f"{k} {n}" for k, n in asdict(changed).items()))
        tally = plan.tally()
        logger.debug("sampled: sales %s, lines %s", tally.count, tally.lines)
        ids = IdRanges()
        writer = choose_writer(connection, chinook)
        if plan.count:
            ids = writer.write(plan, tally.lines, context.progress or (lambda _: None))
            logger.debug("wrote the sales by %s", writer.method)
        made = _summary(plan, tally, ids, changed)
        if chinook.ledger:
            made = replace(made, run_id=request.run_id, key=request.key)
            record(connection, request, made, prices_known=plan.catalogue.as_of)
            if ids:
                writer.record(request.run_id, plan, ids)
            logger.debug("wrote the run into the ledger")
    return made


def plan_batch(session: Session, n: int, options: BatchOptions) -> BatchSummary:
    """Return what `run_batch` would do, without writing anything: a dry run.

    The sales are those of the customers and prices there are, whoever would sign up first.

    Raises:
        ChinookSimError: as for `generate_d1`.
    """
    count = check_count(n)
    with translated():
        connection = connection_of(session)
        chinook = recognise(connection)
        check_visible_rows(chinook)
        request = options.resolve(count, connection, chinook)
        with pinned(connection, chinook):
            found = _found(connection, chinook, request, locked=False)
        if found is not None:
            return found
        if options.changes or chinook.unusable_ledger:
            require_ledger(chinook)
        plan = _plan(request, options, chinook, read_catalogue(connection))
        catalogue, wanted = plan.catalogue, options.changes
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
    wanted: ChangeCounts,
    request: RunRequest,
    live: LiveContext | None,
) -> tuple[SalePlan, ChangeCounts]:
    """Make the changes that follow from the seed and day of a plan.

    Returns:
        The plan for the customers and prices that there are then, and how many changes were made.
    """
    seed, day = live.change_seed if live else plan.seed, plan.day
    changer = ShopMutator(
        connection, chinook, plan.catalogue, run_id=request.run_id, seed=seed, day=day
    )
    # Before any row is locked. See `lock_id_allocation`.
    lock_id_allocation(connection, chinook)
    newcomers = changer.sign_up(wanted.new_customers)
    moved = changer.move(wanted.moves)
    priced = changer.change_prices(wanted.price_changes)
    if moved or newcomers or priced:
        catalogue = read_catalogue(connection, changes=chinook.ledger)
        buyers = np.searchsorted(catalogue.customer_ids, np.array(newcomers, dtype=np.int64))
        plan = replace(plan, catalogue=catalogue, buyers=buyers)
    catalogue, span = plan.catalogue, live.candidate_ids if live else None
    chosen = choose_changes(connection, catalogue, wanted, seed, day, locked=True, span=span)
    make_changes(connection, chinook, catalogue, chosen, run_id=request.run_id, seed=seed, day=day)
    for loaded in session.identity_map.values():
        # The changes are not made through the session.
        if isinstance(loaded, Invoice | InvoiceLine | Customer | Track):
            session.expire(loaded)
    return plan, ChangeCounts(
        updates=len(chosen.updated),
        cancellations=len(chosen.cancelled),
        new_customers=len(newcomers),
        moves=moved,
        price_changes=priced,
    )


def _purpose(changes: ChangeCounts) -> Purpose:
    if changes.new_customers or changes.moves or changes.price_changes:
        return "customers and prices"
    return "changes" if changes else "batch"


def _found(
    connection: Connection, chinook: Chinook, request: RunRequest, *, locked: bool
) -> BatchSummary | None:
    """Return the batch that was asked for by a key, where it is there already."""
    if request.key is not None:
        require_ledger(chinook)
    return made_already(connection, request, locked=locked)


def _plan(
    request: RunRequest, options: BatchOptions, chinook: Chinook, catalogue: Catalogue
) -> SalePlan:
    seed = draw_seed() if request.seed is None else request.seed
    return SalePlan(
        catalogue,
        seed,
        request.day,
        options.start,
        request.count,
        backdating=options.backdating,
        profile=options.profile,
        zone=chinook.zone,
    )


def _summary(plan: SalePlan, tally: Tally, ids: IdRanges, changed: ChangeCounts) -> BatchSummary:
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
