"""What differs between the sales of a run and the ledger, and its text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from chinook_sim.verification.query import SHOWN, counted, listed

if TYPE_CHECKING:
    from datetime import date

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["KINDS", "Comparison", "Difference", "Figure", "RunDifference"]

KINDS = {
    "missing": ("sale missing", "sales missing"),
    "lines_missing": ("sale with lines missing", "sales with lines missing"),
    "lines_added": ("sale with lines added", "sales with lines added"),
    "lines_changed": ("sale with changed lines", "sales with changed lines"),
    "customer": ("sale with another customer", "sales with another customer"),
    "timestamp": ("sale with another timestamp", "sales with another timestamp"),
    "billing_address": ("sale with another billing address", "sales with another billing address"),
    "total": ("sale with another total", "sales with another total"),
}
"""What may differ, and how it is called of one sale and of several."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How many sales differ in some way, and up to `SHOWN` ids of their invoices."""

    count: int = 0
    ids: tuple[int, ...] = ()

    def plus(self, ids: NDArray[np.int64]) -> Difference:
        """Return this, and other ids, which are higher."""
        return Difference(
            self.count + len(ids), (*self.ids, *ids[: SHOWN - len(self.ids)].tolist())
        )


NONE = Difference()


class Figure(NamedTuple):
    """A figure of a run as a whole: what the ledger says it is, and what was found."""

    expected: Any
    found: Any

    def text(self, name: str) -> str:
        """Return it as text, for a person to read."""
        if name == "invoice_ids":
            ids, sales = self.found, self.expected
            return (
                f"{counted(ids, 'invoice id', 'invoice ids')} in the ledger for "
                f"{counted(sales, 'sale', 'sales')}"
            )
        if name == "lines":
            return f"{counted(self.found, 'line', 'lines')} instead of {self.expected:,}"
        if name == "revenue":
            return f"revenue {self.found:,} instead of {self.expected:,}"
        return "the digest of the sales differs"


@dataclass(frozen=True, slots=True)
class RunDifference:
    """How the sales of a run differ from what it made.

    Attributes:
        run_id: the run.
        day: its day.
        differences: by the names in `KINDS`, those that there are.
        figures: what differs of the run as a whole: `invoice_ids` (how many there are in the
            ledger), `digest`, `lines` or `revenue`.
    """

    run_id: str
    day: date
    differences: dict[str, Difference]
    figures: dict[str, Figure]

    @property
    def title(self) -> str:
        """The run, for a person to read."""
        return f"run {self.run_id[:8]} of {self.day}"

    @property
    def lines(self) -> list[str]:
        """The differences, for a person to read: one a line."""
        counts = [
            f"{counted(it.count, *KINDS[name])} "
            f"({'invoice' if it.count == 1 else 'invoices'} {listed(it.count, it.ids)})"
            for name, it in self.differences.items()
        ]
        return [*counts, *(it.text(name) for name, it in self.figures.items())]


@dataclass(slots=True)
class Comparison:
    """The result of a comparison.

    Attributes:
        runs: number of runs that were compared.
        differing: those whose sales differ.
        strays: invoices on a day of a run that no run made.
        copies: invoices that no run made, and that are the same as one that a run made.
        undone: sales of undone runs.
        moved_here: sales of runs of other days that are dated on the day that is compared.
    """

    runs: int = 0
    differing: list[RunDifference] = field(default_factory=list)
    strays: Difference = NONE
    copies: Difference = NONE
    undone: Difference = NONE
    moved_here: Difference = NONE
