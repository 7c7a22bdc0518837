"""The summary of a batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chinook_sim.models.base import CENT
from chinook_sim.sales.id_ranges import IdRanges

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date
    from decimal import Decimal

__all__ = ["BatchSummary"]


@dataclass(frozen=True, slots=True)
class BatchSummary:
    """What was written.

    Attributes:
        day: the day of the sales.
        count: number of sales.
        lines: number of tracks sold.
        revenue: sum of the totals.
        seed: the seed that makes these sales again.
        digest: SHA-256 of the content of the sales, in hexadecimal; see `Digest`.
        invoice_ids: the ids of the invoices, in the order of the sales; empty after a dry run.
        hours: number of sales in each of the day's 24 hours.
        run_id: the batch's id in the ledger; None where there is no ledger, or after a dry run.
        key: the key of the request; None without one.
        existed: whether the batch was there already, by its key, and nothing was written now.
        differences: of a day that existed before `backfill`, what differs from the request: its
            name → what exists, what was requested; empty if nothing does.
        late: number of sales that are dated before the day.
        profile: the name of the shape of the sales.
        updates: number of earlier invoices that got one more track.
        cancellations: number of earlier invoices that were deleted.
        new_customers: number of people who signed up.
        moves: number of customers who got another address.
        price_changes: number of tracks that got another price.
    """

    day: date
    count: int
    lines: int
    revenue: Decimal
    seed: int
    digest: str
    invoice_ids: IdRanges = field(default_factory=IdRanges)
    hours: tuple[int, ...] = ()
    run_id: str | None = None
    key: str | None = None
    existed: bool = False
    late: int = 0
    profile: str = "uniform"
    updates: int = 0
    cancellations: int = 0
    new_customers: int = 0
    moves: int = 0
    price_changes: int = 0
    differences: Mapping[str, tuple[object, object]] = field(default_factory=dict, hash=False)

    def __repr__(self) -> str:
        """Show a line, and not the ids, of which there may be millions."""
        sales = f"{self.count} sale{'' if self.count == 1 else 's'}"
        said = f"{self.day}: {sales}, revenue {self.revenue}, seed {self.seed}"
        run = "" if self.run_id is None else f", run {self.run_id}"
        return f"<BatchSummary {said}{run}{', existed' if self.existed else ''}>"

    @property
    def average(self) -> Decimal:
        """Revenue per sale, to the cent; 0 where there are no sales."""
        return (self.revenue / max(self.count, 1)).quantize(CENT)
