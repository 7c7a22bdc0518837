"""Writing the rows of the ledger."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, insert, select, update

from chinook_sim._version import __version__
from chinook_sim.database.backends import backend_for
from chinook_sim.kinds import RunKind
from chinook_sim.ledger.commit_outcome import note_server_transaction
from chinook_sim.ledger.invoice_ranges import of_runs
from chinook_sim.models import RANGE, RUN, Invoice
from chinook_sim.sales.fingerprints import by_range

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from chinook_sim.ledger.request import RunRequest
    from chinook_sim.sales.id_ranges import IdRanges
    from chinook_sim.sales.summary import BatchSummary


__all__ = ["baseline", "insert_run", "mark_undone", "record", "replace_entry", "set_baseline"]


def record(
    connection: Connection, request: RunRequest, made: BatchSummary, *, prices_known: int | None
) -> None:
    """Write a batch into the ledger, except for its ids, which its writer records.

    Args:
        connection: in the transaction of the batch.
        request: what was requested.
        made: what was made.
        prices_known: the number of the last change of a price that it had seen; 0 or None for
            none.
    """
    _insert_run_row(
        connection,
        request,
        made.invoice_ids,
        seed=made.seed,
        sales=made.count,
        lines=made.lines,
        revenue=made.revenue,
        digest=made.digest,
        hours=json.dumps(made.hours),
        prices_known=prices_known or None,
    )


def replace_entry(
    connection: Connection, run_id: str, request: RunRequest, made: BatchSummary
) -> None:
    """Replace the row of a run by that of a larger one, of the same kind, key, day and seed.

    Args:
        connection: in a transaction.
        run_id: the run whose row it is.
        request: what the larger one stands for.
        made: what it made.
    """
    ids = made.invoice_ids
    entry: Any = update(RUN).where(RUN.c.run_id == run_id)
    _write(
        connection,
        entry.values(
            run_id=request.run_id,
            requested=request.count,
            parameters=request.parameters_text,
            parameters_hash=request.parameters_hash,
            first_invoice_id=ids[0] if ids else None,
            last_invoice_id=ids[-1] if ids else None,
            sales=made.count,
            lines=made.lines,
            revenue=made.revenue,
            digest=made.digest,
            hours=json.dumps(made.hours),
        ),
    )


def insert_run(
    connection: Connection, request: RunRequest, ids: IdRanges, fingerprints: bytes
) -> None:
    """Write a run without sales into the ledger: the request, and the invoices that it moved.

    Args:
        connection: in the transaction of the run.
        request: what was asked for.
        ids: the invoices.
        fingerprints: one for each of them, in the same order.
    """
    _insert_run_row(connection, request, ids, sales=len(ids))
    rows = [row._asdict() for row in by_range(request.run_id, ids, fingerprints)]
    if rows:
        connection.execute(insert(RANGE), rows)


def _insert_run_row(
    connection: Connection, request: RunRequest, ids: IdRanges, **made: object
) -> None:
    entry: Any = insert(RUN).values(
        run_id=request.run_id,
        kind=request.kind,
        key=request.key,
        day=request.day,
        timezone=request.timezone,
        requested=request.count,
        profile=request.profile,
        parameters=request.parameters_text,
        parameters_hash=request.parameters_hash,
        first_invoice_id=ids[0] if ids else None,
        last_invoice_id=ids[-1] if ids else None,
        version=__version__,
        **made,
    )
    _write(connection, entry)


def _write(connection: Connection, statement: Any) -> None:
    """Write to the ledger, and remember the server's transaction for `resolve_commit_outcome`."""
    who = backend_for(connection).server_transaction
    if not who:
        connection.execute(statement)
        return
    # All rows have the same answer.
    note_server_transaction(connection, *connection.execute(statement.returning(*who)).all()[0])


def baseline(connection: Connection) -> int:
    """Return the highest invoice id from before the ledger; 0 if there was no invoice."""
    highest = select(RUN.c.last_invoice_id).where(RUN.c.kind == RunKind.BASELINE)
    return connection.scalar(highest) or 0


def mark_undone(connection: Connection, *runs: str) -> None:
    """Mark runs as undone, which frees their keys."""
    these = of_runs(connection, RUN.c.run_id, runs)
    _write(connection, update(RUN).where(these).values(undone_at=func.current_timestamp()))


def set_baseline(connection: Connection) -> None:
    """Record that all current invoices existed before anything was simulated."""
    highest = select(func.max(Invoice.invoice_id)).scalar_subquery()
    connection.execute(
        update(RUN).where(RUN.c.kind == RunKind.BASELINE).values(last_invoice_id=highest)
    )
