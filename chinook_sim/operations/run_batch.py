"""One batch, from its request to its row in the ledger."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from chinook_sim.changes.counts import Changes
from chinook_sim.changes.customers_and_prices import ShopChanger
from chinook_sim.changes.invoices import choose_changes, make_changes
from chinook_sim.database.connections import connection_of
from chinook_sim.database.introspection import recognise
from chinook_sim.database.session_settings import pinned
from chinook_sim.database.transactions import all_or_nothing, check_visible_rows, translated
from chinook_sim.ledger.keys import made_already, require_ledger
from chinook_sim.ledger.recording import record
from chinook_sim.models import Customer, Invoice, InvoiceLine, Track
from chinook_sim.operations.options import Request, draw_seed
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
    from typing_extensions import Unpack

    from chinook_sim.database.privileges import Purpose
    from chinook_sim.database.schema import Chinook
    from chinook_sim.ledger.keys import Asked
    from chinook_sim.operations.options import Wishes
    from chinook_sim.sales.batch import Tally
    from chinook_sim.sales.catalogue import Catalogue

__all__ = ["Moment", "generate_day", "make_batch", "plan_day"]

logger = logging.getLogger(__name__)


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
        if request.changes or chinook.unusable_ledger:
            require_ledger(chinook)
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
        check_visible_rows(chinook)
        asked = request.settle(connection, chinook)
        with pinned(connection, chinook):
            found = _found(connection, chinook, asked, locked=False)
        if found is not None:
            return found
        if request.changes or chinook.unusable_ledger:
            require_ledger(chinook)
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
    lock_id_allocation(connection, chinook)
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


def _purpose(changes: Changes) -> Purpose:
    if changes.new_customers or changes.moves or changes.price_changes:
        return "shop"
    return "changes" if changes else "batch"


def _found(
    connection: Connection, chinook: Chinook, asked: Asked, *, locked: bool
) -> BatchSummary | None:
    """Return the batch that was asked for by a key, where it is there already."""
    if asked.key is not None:
        require_ledger(chinook)
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
