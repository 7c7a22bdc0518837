"""Merging the transactions of a stream into fewer runs of the ledger.

Each transaction of a stream writes rows of its own into the ledger. At 20 arrivals a second most of
them have one sale, and their rows are larger than it. So a stream replaces the rows of its finished
transactions, some hundreds at a time, by those of one run. If it ends before it does, the rows
stay: a merged run and the runs that it replaces say the same of the sales.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, insert, select, update

from chinook_sim.kinds import ChangeKind, RunKind
from chinook_sim.ledger.invoice_ranges import of_runs
from chinook_sim.ledger.recording import replace_entry
from chinook_sim.ledger.request import RunRequest
from chinook_sim.models import CHANGE, RANGE, RUN
from chinook_sim.sales.batch import CHUNK_SALES, Tally
from chinook_sim.sales.fingerprints import by_range, fingerprints
from chinook_sim.sales.id_ranges import IdRanges

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Connection

    from chinook_sim.sales.batch import SalePlan
    from chinook_sim.sales.summary import BatchSummary

__all__ = ["Group", "merge"]

TRANSACTIONS = 500
"""Transactions of a merged run, at most."""

MERGED_SALES = 10_000
"""Sales after which no transaction is added: where each has many, there is little to save."""


class Group:
    """Consecutive transactions of a stream that are to become one run.

    They are of one day, knew the same prices, and have ids that rise. What is kept of them is 24
    bytes for each sale.

    Attributes:
        fingerprints: those of their sales, in the order of the ids.
    """

    def __init__(self, plan: SalePlan) -> None:
        """Begin one with the plan of its first transaction, which is still to be added."""
        self._tally = Tally(plan.day)
        self._prices_known = plan.catalogue.as_of or None
        self._start = plan.start
        self._made: list[BatchSummary] = []
        self._ids: list[int] = []
        self.fingerprints = bytearray()

    def __len__(self) -> int:
        return len(self._made)

    @property
    def full(self) -> bool:
        """Whether no more transactions should be added."""
        return len(self._made) >= TRANSACTIONS or len(self._ids) >= MERGED_SALES

    @property
    def runs(self) -> list[str]:
        """The ids of their runs, in order."""
        return [str(made.run_id) for made in self._made]

    def accepts(self, plan: SalePlan, made: BatchSummary) -> bool:
        """Return whether a transaction can be added to those before it."""
        rising = not self._ids or not made.invoice_ids or self._ids[-1] < made.invoice_ids[0]
        # `verify` takes the price of a line from the last change of a price that its run knew.
        known = (plan.catalogue.as_of or None) == self._prices_known
        return not self.full and plan.day == self._tally.day and known and rising

    def add(self, plan: SalePlan, made: BatchSummary) -> None:
        """Add a transaction that was committed.

        Args:
            plan: what its sales were made of.
            made: what was made.
        """
        self._made.append(made)
        self._ids += made.invoice_ids
        for batch in plan.slices():
            self._tally.add(batch)
            self.fingerprints += fingerprints(batch)

    def summary(self) -> tuple[RunRequest, BatchSummary]:
        """Return the merged run, with an id of its own, as if it had been made at once."""
        last, tally = self._made[-1], self._tally
        changes: Counter[str] = Counter()
        for made in self._made:
            changes += Counter(updates=made.updates, cancellations=made.cancellations)
        request = RunRequest(
            RunKind.LIVE,
            tally.day,
            tally.count,
            last.key,
            last.seed,
            profile=last.profile,
            parameters={**({"start": self._start} if self._start else {}), **changes},
        )
        merged = replace(
            last,
            count=tally.count,
            lines=tally.lines,
            revenue=tally.revenue,
            digest=tally.digest,
            invoice_ids=IdRanges(list(_progressions(self._ids))),
            hours=tuple(tally.hours.tolist()),
            run_id=request.run_id,
            updates=changes["updates"],
            cancellations=changes["cancellations"],
        )
        return request, merged


def _progressions(ids: Sequence[int]) -> Iterator[range]:
    """Cut rising ids into ranges of equal steps, `CHUNK_SALES` ids each at most.

    Two ids always are a range. So there are half as many ranges as ids at most, also where others
    take ids in between.
    """
    start = 0
    while start < len(ids):
        step = ids[start + 1] - ids[start] if start + 1 < len(ids) else 1
        end = start + 1
        while end < len(ids) and end - start < CHUNK_SALES and ids[end] - ids[end - 1] == step:
            end += 1
        yield range(ids[start], ids[end - 1] + 1, step)
        start = end


def merge(connection: Connection, group: Group) -> str | None:
    """Replace the rows of some transactions of a stream by those of one run.

    Nothing is waited for. The number of statements does not depend on that of the transactions.

    Args:
        connection: in a transaction of its own.
        group: the transactions.

    Returns:
        The id of the merged run; None if they cannot be merged: one of them was undone, or is being
        undone, or a customer signed up between them.
    """
    runs, count = group.runs, len(group)
    these = of_runs(connection, RUN.c.run_id, runs)
    created = list(
        connection.scalars(
            select(RUN.c.created_at)
            .where(these, RUN.c.undone_at.is_(None))
            .order_by(RUN.c.created_at)
            .with_for_update(skip_locked=True)
        )
    )
    if len(created) < count:
        return None
    # `verify --shape` judges the customers of the runs since the last sign-up.
    signed_up = connection.scalar(
        select(func.max(func.coalesce(RUN.c.undone_at, RUN.c.created_at))).where(
            RUN.c.run_id.in_(
                select(CHANGE.c.run_id).where(
                    CHANGE.c.subject == "customer", CHANGE.c.kind == ChangeKind.SIGN_UP
                )
            )
        )
    )
    if signed_up is not None and created[0] < signed_up <= created[-1]:
        return None
    request, made = group.summary()
    # The row of the last one becomes that of all: its key, created_at and prices are theirs. An
    # undo of the stream that waits for this row then finds the merged run in it.
    connection.execute(delete(RUN).where(these, RUN.c.run_id != runs[-1]))
    replace_entry(connection, runs[-1], request, made)
    connection.execute(delete(RANGE).where(of_runs(connection, RANGE.c.run_id, runs)))
    ranges = by_range(request.run_id, made.invoice_ids, bytes(group.fingerprints))
    rows = [row._asdict() for row in ranges]
    if rows:
        connection.execute(insert(RANGE), rows)
    if made.updates or made.cancellations:
        connection.execute(
            update(CHANGE)
            .where(of_runs(connection, CHANGE.c.run_id, runs))
            .values(run_id=request.run_id)
        )
    return request.run_id
