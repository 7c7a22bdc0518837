"""The whole content of rows, kept in the ledger: taken down, compared, and put back.

What is kept of an invoice is its row and those of its lines; of a customer or a track, its row.
Rows are kept as JSON with all their columns, those too that Chinook does not have: PostgreSQL makes
and reads the JSON itself, so that no row makes the way to the client and back; for SQLite, which
writes floating-point numbers into JSON with fewer digits than they have, Python does.

Rows are compared column by column, as values and not as text, in the columns that were there when
they were taken down; a column that a table got since is left alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from chinook_sim.changes.snapshots.postgresql import PostgresqlContent
from chinook_sim.changes.snapshots.sqlite import SqliteContent
from chinook_sim.database.backends import backend_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import ColumnElement, Connection

    from chinook_sim.changes.snapshots.tables import Subject

__all__ = ["Content", "content_of"]


class Content(Protocol):
    """Keeps the content of rows on one connection, in the rows of `Change`."""

    def keep_before(self, run_id: str, kind: str, ids: Sequence[int]) -> None:
        """Take down what a run is about to change in some way, as it is."""

    def keep_after(self, run_id: str, kind: str) -> None:
        """Take down the same as it is now that the run has changed it."""

    def keep_new(self, run_id: str, kind: str, ids: Sequence[int]) -> None:
        """Take down what a run has made."""

    def changed_since(self, runs: Sequence[str], subject: Subject) -> list[int]:
        """Return the ids of what is not as the changes of some runs left it.

        What was changed more than once must also have been, at each change, as the one before had
        left it.
        """

    def put_back(self, runs: Sequence[str], subject: Subject) -> None:
        """Make it what it was before the first change of these runs, ids included."""

    def unlike_before(self, runs: Sequence[str], subject: Subject) -> list[int]:
        """Return the ids of what is not as it was before the first change of these runs."""

    def customer_before(self) -> ColumnElement[int]:
        """Return the customer of the invoice that a row of `Change` has kept, as an expression."""


def content_of(connection: Connection) -> Content:
    """Return what keeps content on a connection to a recognised Chinook."""
    return _CONTENT[backend_for(connection).name](connection)


_CONTENT: dict[str, Callable[[Connection], Content]] = {
    "postgresql": PostgresqlContent,
    "sqlite": SqliteContent,
}
