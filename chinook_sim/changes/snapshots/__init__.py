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

from sqlalchemy import BigInteger, cast, func

from chinook_sim.changes.snapshots.postgresql import PostgresqlSnapshots
from chinook_sim.changes.snapshots.sqlite import SqliteSnapshots
from chinook_sim.database.identifiers import quoted
from chinook_sim.models import Change, Invoice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Connection

    from chinook_sim.kinds import ChangeKind, Subject

__all__ = ["Snapshots", "customer_before", "snapshots_of"]


class Snapshots(Protocol):
    """Keeps the content of rows on one connection, in the rows of `Change`."""

    def capture_before(self, run_id: str, kind: ChangeKind, ids: Sequence[int]) -> None:
        """Take down what a run is about to change in some way, as it is."""

    def capture_after(self, run_id: str, kind: ChangeKind) -> None:
        """Take down the same as it is now that the run has changed it."""

    def capture_inserted(self, run_id: str, kind: ChangeKind, ids: Sequence[int]) -> None:
        """Take down what a run has made."""

    def changed_since(self, runs: Sequence[str], subject: Subject) -> list[int]:
        """Return the ids of what is not as the changes of some runs left it.

        What was changed more than once must also have been, at each change, as the one before had
        left it.
        """

    def restore(self, runs: Sequence[str], subject: Subject) -> None:
        """Make it what it was before the first change of these runs, ids included."""

    def unlike_before(self, runs: Sequence[str], subject: Subject) -> list[int]:
        """Return the ids of what is not as it was before the first change of these runs."""


def customer_before(connection: Connection) -> ColumnElement[int]:
    """Return the expression for the customer of an invoice that a row of `Change` has kept."""
    name = quoted(connection, Invoice.__table__.c.CustomerId.name).strip('"')
    if connection.dialect.name == "sqlite":
        found: ColumnElement[int] = func.json_extract(Change.before, f"$.Invoice[0].{name}")
        return found
    from sqlalchemy.dialects.postgresql import JSONB  # with all its drivers: not for SQLite

    path = func.jsonb_extract_path_text(cast(Change.before, JSONB), "Invoice", "0", name)
    return cast(path, BigInteger)


def snapshots_of(connection: Connection) -> Snapshots:
    """Return what keeps content on a connection to a recognised Chinook."""
    if connection.dialect.name == "sqlite":
        return SqliteSnapshots(connection)
    return PostgresqlSnapshots(connection)
