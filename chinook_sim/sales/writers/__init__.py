"""Ways to write a batch, the fastest first. The connection decides which one is used.

CopyWriter      psycopg on PostgreSQL: three COPY statements, whatever the size of the batch.
UnnestWriter    any other PostgreSQL driver, or identity ids without the privilege for `nextval`:
                an INSERT … SELECT FROM unnest for each slice, so round trips grow with the batch.
SqliteWriter    SQLite: executemany, a slice at a time.

All take the same plan and write the same rows. Ids are allocated in `id_allocation` only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from chinook_sim.database.backends import backend_for
from chinook_sim.database.connections import is_psycopg
from chinook_sim.sales.writers.postgresql import CopyWriter, UnnestWriter
from chinook_sim.sales.writers.sqlite import SqliteWriter

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray
    from sqlalchemy import Connection

    from chinook_sim.database.schema import Chinook
    from chinook_sim.sales.batch import SalePlan
    from chinook_sim.sales.id_ranges import IdRanges

__all__ = ["Writer", "choose_writer"]


class Writer(Protocol):
    """Writes batches on one connection, inside the transaction that is open there.

    Attributes:
        method: what it writes with, for log messages.
    """

    method: str

    def write(self, plan: SalePlan, lines: int, progress: Callable[[int], None]) -> IdRanges:
        """Write all sales of a plan and return the ids of their invoices, in order.

        Args:
            plan: the sales.
            lines: how many invoice lines they come to.
            progress: told the number of sales after each slice of invoices, and again after each
                slice of their lines.
        """

    def record(self, run_id: str, plan: SalePlan, ids: IdRanges) -> None:
        """Write into the ledger which invoices a run made, with a fingerprint of each.

        Args:
            run_id: the run.
            plan: its sales.
            ids: what `write` returned.
        """

    def add_lines(
        self, owners: NDArray[np.int64], tracks: NDArray[np.int64], prices: NDArray[np.int64]
    ) -> None:
        """Write lines of invoices that are there.

        Args:
            owners: shape (n,): the id of each line's invoice.
            tracks: shape (n,): the id of each line's track.
            prices: shape (n,): its price in cents.
        """


def choose_writer(connection: Connection, chinook: Chinook) -> Writer:
    """Return the fastest writer that a connection to a recognised Chinook allows."""
    return _WRITERS[backend_for(connection).name](connection, chinook)


def _choose_for_postgresql(connection: Connection, chinook: Chinook) -> Writer:
    if is_psycopg(connection) and not chinook.ids_come_back:
        return CopyWriter(connection, chinook)
    return UnnestWriter(connection, chinook)


_WRITERS: dict[str, Callable[[Connection, Chinook], Writer]] = {
    "postgresql": _choose_for_postgresql,
    "sqlite": SqliteWriter,
}
