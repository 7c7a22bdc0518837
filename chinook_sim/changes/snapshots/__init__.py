"""Snapshots of rows in the ledger: capture them before and after a change, compare, restore.

The snapshot of an invoice is its row and those of its lines; of a customer or a track, its row.
Rows are stored as JSON with all their columns, including those that Chinook does not have.
PostgreSQL writes and reads the JSON itself, so that no row is sent to the client and back. For
SQLite, whose JSON functions write floating-point numbers with too few digits, Python does it.

Rows are compared column by column, as values and not as text, in the columns that existed when the
snapshot was captured. Columns that were added to a table since are left alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from chinook_sim.changes.snapshots.postgresql import PostgresqlSnapshots
from chinook_sim.changes.snapshots.sqlite import SqliteSnapshots
from chinook_sim.database.backends import backend_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import ColumnElement, Connection

    from chinook_sim.kinds import ChangeKind, Subject

__all__ = ["Snapshots", "snapshots_of"]


class Snapshots(Protocol):
    """Captures, compares and restores rows on one connection, in the rows of `Change`."""

    def capture_before(self, run_id: str, kind: ChangeKind, ids: Sequence[int]) -> None:
        """Capture what a run is about to change."""

    def capture_after(self, run_id: str, kind: ChangeKind) -> None:
        """Capture the same after the run has changed it."""

    def capture_inserted(self, run_id: str, kind: ChangeKind, ids: Sequence[int]) -> None:
        """Capture what a run has inserted."""

    def changed_since(self, runs: Sequence[str], subject: Subject) -> list[int]:
        """Return the ids of what is not as the changes of some runs left it.

        If something was changed more than once, each change must also have found it as the one
        before had left it.
        """

    def restore(self, runs: Sequence[str], subject: Subject) -> None:
        """Restore what was there before the first change of these runs, including ids."""

    def unlike_before(self, runs: Sequence[str], subject: Subject) -> list[int]:
        """Return the ids of what is not as it was before the first change of these runs."""

    def customer_before(self) -> ColumnElement[int]:
        """Return the customer of the invoice that a row of `Change` has kept, as an expression."""


def snapshots_of(connection: Connection) -> Snapshots:
    """Return the implementation for a connection to a recognised Chinook."""
    return _SNAPSHOTS[backend_for(connection).name](connection)


_SNAPSHOTS: dict[str, Callable[[Connection], Snapshots]] = {
    "postgresql": PostgresqlSnapshots,
    "sqlite": SqliteSnapshots,
}
