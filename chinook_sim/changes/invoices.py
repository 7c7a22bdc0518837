"""Changes of invoices after their sale: tracks are added to some, and others are cancelled.

Which ones follows from seed and day, and from the invoices that exist: each is drawn by its
position among the candidates, in the order of their ids. Statements work on sets, so that the
number of round trips does not depend on the number of changes, except on SQLite, which has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import func, select, update

from chinook_sim.changes.snapshots import snapshots_of
from chinook_sim.database.backends import backend_for
from chinook_sim.database.foreign_keys import references, referred
from chinook_sim.database.skipped_rows import check_written, delete_rows
from chinook_sim.dates import bounds
from chinook_sim.kinds import ChangeCounts, ChangeKind
from chinook_sim.models import Invoice, InvoiceLine
from chinook_sim.sales.writers import choose_writer
from chinook_sim.sampling.draws import MAX_BASKET
from chinook_sim.sampling.selections import sample_below, sample_others, sample_ranks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Connection

    from chinook_sim.database.schema import Chinook
    from chinook_sim.sales.catalogue import Catalogue

__all__ = ["WINDOW", "SelectedInvoices", "choose_changes", "make_changes", "recent_ids"]

WINDOW = 90
"""Days before the day of a batch whose invoices may change, besides those of the day itself."""

ROUNDS = 5
"""How often another invoice is drawn for one that another transaction is changing."""

BY_ID = 3
"""In how many of these rounds ids are drawn, if that may find candidates."""


# Substreams of the generator that nothing else reads.
_CANCELLED, _UPDATED, _UPDATED_LARGE, _ADDED = range(16, 20)

_IDS = 16  # from the first three of these on, those by which ids are drawn


@dataclass(frozen=True, slots=True)
class SelectedInvoices:
    """The invoices to change, as rising ids. No invoice is in both lists."""

    updated: list[int]
    cancelled: list[int]


def choose_changes(
    connection: Connection,
    catalogue: Catalogue,
    wanted: ChangeCounts,
    seed: int,
    day: date,
    *,
    locked: bool = False,
    span: tuple[int, int] | None = None,
) -> SelectedInvoices:
    """Choose the invoices to change; fewer than wanted if there are not enough candidates.

    Candidates are the invoices of the day and of the `WINDOW` days before it. An invoice that rows
    other than its lines refer to is never cancelled. Invoices with fewer than five tracks are
    updated first, so that sales keep one to five tracks as long as there is such an invoice.

    Args:
        connection: on a recognised Chinook.
        catalogue: its tracks.
        wanted: number of changes.
        seed: as for sales.
        day: the day of the batch.
        locked: whether to lock the invoices until the transaction ends.
        span: the range that `recent_ids` returned. Ids are then drawn from it first, so that a few
            invoices are found without counting all candidates.
    """
    chooser = _Chooser(connection, seed, day, locked=locked, span=span)
    cancelled: list[int] = []
    if wanted.cancellations:
        free = [~condition for condition in referred(references(connection))]
        cancelled = chooser.choose(_CANCELLED, wanted.cancellations, *free)
    updated: list[int] = []
    if wanted.updates:
        size = func.count(InvoiceLine.invoice_line_id)
        of_it = InvoiceLine.invoice_id == Invoice.invoice_id
        lines = select(size).where(of_it).correlate(Invoice).scalar_subquery()
        tracks = len(catalogue.track_ids)
        left = ~backend_for(connection).in_values(Invoice.invoice_id, cancelled)
        updated = chooser.choose(_UPDATED, wanted.updates, left, lines < min(MAX_BASKET, tracks))
        missing = wanted.updates - len(updated)
        if missing and tracks > MAX_BASKET:
            large = lines.between(MAX_BASKET, tracks - 1)
            updated += chooser.choose(_UPDATED_LARGE, missing, left, large)
    return SelectedInvoices(sorted(updated), cancelled)


def recent_ids(connection: Connection, day: date) -> tuple[int, int] | None:
    """Return the lowest and the highest id of the invoices that a batch of a day may change."""
    low, high = connection.execute(
        select(func.min(Invoice.invoice_id), func.max(Invoice.invoice_id)).where(*_recent(day))
    ).one()
    return None if low is None else (low, high)


def _recent(day: date) -> tuple[ColumnElement[bool], ...]:
    start, end = bounds(day)
    # There is no day before the first.
    start -= min(timedelta(days=WINDOW), start - start.min)
    return Invoice.invoice_date >= start, Invoice.invoice_date < end


class _Chooser:
    """Draws invoices out of those that meet some conditions."""

    def __init__(
        self,
        connection: Connection,
        seed: int,
        day: date,
        *,
        locked: bool,
        span: tuple[int, int] | None,
    ) -> None:
        self._connection = connection
        self._backend = backend_for(connection)
        self._seed = seed
        self._day = day
        self._locked = locked and self._backend.locks_rows
        self._recent = _recent(day)
        self._span = span

    def choose(self, substream: int, wanted: int, *conditions: ColumnElement[bool]) -> list[int]:
        """Return the ids of as many invoices, rising; of all where there are fewer."""
        chosen: list[int] = []
        seen: list[int] = []
        for turn in range(ROUNDS):
            fresh = ~self._backend.in_values(Invoice.invoice_id, seen)
            candidates = (*self._recent, *conditions, *([fresh] if seen else []))
            missing = wanted - len(chosen)
            drawn: list[int] = []
            if self._span and turn < BY_ID:
                drawn = self._draw_ids(substream, missing, candidates, turn)
            drawn = drawn or self._draw(substream, missing, candidates)
            seen += drawn
            chosen += self._lock_candidates(drawn, candidates) if self._locked else drawn
            if len(chosen) == wanted or not drawn:
                break
        return sorted(chosen)

    def _draw_ids(
        self, substream: int, wanted: int, candidates: Sequence[ColumnElement[bool]], turn: int
    ) -> list[int]:
        """Draw ids out of a span, as many as will do if one in eight is a candidate's."""
        low, high = self._span or (0, 0)
        size = 8 * wanted + 8
        drawn = sample_below(
            self._seed, self._day, substream + _IDS, (turn + 1) * size, high - low + 1
        )[turn * size :]
        ids = dict.fromkeys((low + drawn).tolist())
        those = self._backend.in_values(Invoice.invoice_id, ids)
        found = set(self._ids(select(Invoice.invoice_id).where(those, *candidates)))
        return sorted([id_ for id_ in ids if id_ in found][:wanted])

    def _draw(
        self, substream: int, wanted: int, candidates: Sequence[ColumnElement[bool]]
    ) -> list[int]:
        count = select(func.count()).select_from(Invoice).where(*candidates)
        size = self._connection.scalar(count) or 0
        ranks = sample_ranks(self._seed, self._day, substream, wanted, size)
        place = func.row_number().over(order_by=Invoice.invoice_id) - 1
        placed = select(Invoice.invoice_id, place.label("place")).where(*candidates).subquery()
        drawn = self._backend.in_values(placed.c.place, ranks.tolist())
        return self._ids(select(placed.c[0]).where(drawn))

    def _lock_candidates(
        self, ids: list[int], candidates: Sequence[ColumnElement[bool]]
    ) -> list[int]:
        """Lock invoices until the transaction ends; return those that still are candidates."""
        those = select(Invoice.invoice_id).where(self._backend.in_values(Invoice.invoice_id, ids))
        # SKIP LOCKED: rows that another transaction holds are skipped, so batches do not wait for
        # each other.
        held = self._ids(those.with_for_update(skip_locked=True))
        still = self._backend.in_values(Invoice.invoice_id, held)
        # In a statement of its own, which sees what was done to them before they were locked.
        return self._ids(select(Invoice.invoice_id).where(still, *candidates))

    def _ids(self, query: Any) -> list[int]:
        return sorted(self._connection.scalars(query))


def make_changes(
    connection: Connection,
    chinook: Chinook,
    catalogue: Catalogue,
    chosen: SelectedInvoices,
    *,
    run_id: str,
    seed: int,
    day: date,
) -> None:
    """Cancel and update the chosen invoices, and record their rows before and after in the ledger.

    Args:
        connection: on which they were chosen, in the same transaction.
        chinook: what was recognised.
        catalogue: the tracks to add.
        chosen: the invoices.
        run_id: the run that does it.
        seed: as for sales.
        day: the day of the batch.
    """
    snapshots = snapshots_of(connection)
    if chosen.cancelled:
        snapshots.capture_before(run_id, ChangeKind.CANCELLATION, chosen.cancelled)
        for model in (InvoiceLine, Invoice):
            these = backend_for(connection).in_values(model.invoice_id, chosen.cancelled)
            delete_rows(connection, model, these)
    if chosen.updated:
        snapshots.capture_before(run_id, ChangeKind.UPDATE, chosen.updated)
        tracks = _others(connection, catalogue, chosen.updated, seed, day)
        choose_writer(connection, chinook).add_lines(
            np.array(chosen.updated), catalogue.track_ids[tracks], catalogue.prices[tracks]
        )
        _add_up(connection, chosen.updated)
        snapshots.capture_after(run_id, ChangeKind.UPDATE)


def _others(
    connection: Connection, catalogue: Catalogue, ids: list[int], seed: int, day: date
) -> Any:
    """Choose for each invoice a track that it does not have; return their positions."""
    sold = connection.execute(
        select(InvoiceLine.invoice_id, InvoiceLine.track_id)
        .where(backend_for(connection).in_values(InvoiceLine.invoice_id, ids))
        .distinct()
        .order_by(InvoiceLine.invoice_id, InvoiceLine.track_id)
    )
    owners, tracks = np.array([tuple(row) for row in sold], dtype=np.int64).reshape(-1, 2).T
    positions = np.searchsorted(catalogue.track_ids, tracks)
    # The track of a line may have been deleted, if foreign keys are off.
    known = catalogue.track_ids[np.minimum(positions, len(catalogue.track_ids) - 1)] == tracks
    sizes = np.bincount(np.searchsorted(np.array(ids), owners[known]), minlength=len(ids)).astype(
        np.int64
    )
    return sample_others(seed, day, _ADDED, positions[known], sizes, len(catalogue.track_ids))


def _add_up(connection: Connection, ids: list[int]) -> None:
    """Make the totals of invoices the sums of their lines."""
    backend = backend_for(connection)
    amount = backend.sum_of_lines(InvoiceLine.unit_price, InvoiceLine.quantity)
    total = select(amount).where(InvoiceLine.invoice_id == Invoice.invoice_id).scalar_subquery()
    result = connection.execute(
        update(Invoice).where(backend.in_values(Invoice.invoice_id, ids)).values(total=total),
        execution_options={"synchronize_session": False},
    )
    check_written(connection, Invoice.__table__, result.rowcount, len(ids))
