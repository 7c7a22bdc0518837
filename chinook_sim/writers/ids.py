"""Ids for new invoices and lines, without a race, on every Chinook there is.

Where a sequence gives them, `nextval` reserves them; it is the only way to read a sequence that
no other session can come between. Where nothing gives them, the table's highest id is read under
a lock, and read by a statement of its own after the lock is held: a statement that does both, like
one that runs on a snapshot from before the lock, sees ids of before and takes them again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, text

from chinook_sim.batch import IdRanges
from chinook_sim.errors import IdsExhausted
from chinook_sim.models import Invoice, InvoiceLine
from chinook_sim.naming import quoted

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

    from chinook_sim.naming import Chinook, IdSource

__all__ = ["ID_LOCK", "allocate"]

ID_LOCK = 0x6368696E6F6F6B
"""Key of the advisory lock ("chinook" in ASCII) that everything of ours that takes ids by MAX
holds until the end of its transaction."""


def allocate(
    connection: Connection, chinook: Chinook, *, invoices: int, lines: int
) -> tuple[IdRanges, IdRanges]:
    """Reserve ids for invoices and for their lines, for this transaction alone.

    Raises:
        IdsExhausted: a table has fewer ids left; none were taken.
    """
    wanted = (
        (Invoice.__table__, chinook.invoice_ids, invoices),
        (InvoiceLine.__table__, chinook.line_ids, lines),
    )
    if any(source.kind == "none" for _, source, _ in wanted):
        _lock(connection, wanted)
    # All are looked at before any is taken: what nextval gave is gone, also after a rollback.
    last = [_last(connection, table, source) for table, source, _ in wanted]
    for (table, source, count), highest in zip(wanted, last, strict=True):
        left = max((source.limit - highest) // source.increment, 0)
        if count > left:
            name = quoted(connection, table)
            raise IdsExhausted(
                f"{name} has {left} ids left and the batch needs {count}; "
                f"make a smaller batch, or widen the id column of {name} to BIGINT",
                table=name,
                needed=count,
                left=left,
            )
    first, second = (
        _nextval(connection, source, count)
        if source.kind == "sequence"
        else IdRanges([range(highest + 1, highest + 1 + count)])
        for (_, source, count), highest in zip(wanted, last, strict=True)
    )
    return first, second


def _lock(connection: Connection, wanted: Any) -> None:
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ID_LOCK})
    # The advisory lock needs no right but holds off only what asks for it. Where we may, we also
    # hold off writers that know nothing of us; readers are not held up.
    lockable = [table for table, source, _ in wanted if source.lockable]
    if lockable:
        names = quoted(connection, *lockable)
        connection.execute(text(f"LOCK TABLE {names} IN SHARE ROW EXCLUSIVE MODE"))


def _last(connection: Connection, table: Any, source: IdSource) -> int:
    """Return the id after which the next ones come; 0 where there are none yet."""
    if source.kind == "sequence":
        return source.last or 0
    (key,) = table.primary_key.columns
    highest = connection.scalar(select(func.coalesce(func.max(key), 0)))
    return max(
        int(highest or 0), _autoincrement(connection, table) if source.kind == "rowid" else 0
    )


def _autoincrement(connection: Connection, table: Table) -> int:
    """Return the highest id SQLite promised never to give again, which may be a deleted row's."""
    if not connection.scalar(text("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'")):
        return 0
    kept = text("SELECT max(seq) FROM sqlite_sequence WHERE lower(name) = lower(:name)")
    name = quoted(connection, table).strip('"')
    return int(connection.scalar(kept, {"name": name}) or 0)


def _nextval(connection: Connection, source: IdSource, count: int) -> IdRanges:
    """Take ids from a sequence, all in one round trip.

    Another session may take some in between, so they come as islands of consecutive ids: nearly
    always one.
    """
    islands = connection.execute(
        text(
            """
            WITH taken AS MATERIALIZED (
                SELECT nextval(CAST(:sequence AS regclass)) AS id FROM generate_series(1, :count)
            )
            SELECT min(id), max(id)
              FROM (SELECT id, id - :step * row_number() OVER (ORDER BY id) AS island FROM taken) t
             GROUP BY island ORDER BY 1
            """
        ),
        {"sequence": source.sequence, "count": count, "step": source.increment},
    )
    return IdRanges([range(first, last + 1, source.increment) for first, last in islands])
