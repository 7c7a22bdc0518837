"""The highest ids that were given, and sequences that are behind their tables."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import func, null, select, update

from chinook_sim.database.backends import backend_for
from chinook_sim.database.locks import ID_LOCK
from chinook_sim.database.privileges import INSUFFICIENT_PRIVILEGE, missing_grants
from chinook_sim.errors import BatchFailed
from chinook_sim.kinds import RunKind
from chinook_sim.models import Change, Customer, Invoice, InvoiceLine, Run, RunInvoices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Connection, Select

    from chinook_sim.database.schema import Chinook, IdSource

__all__ = ["Wanted", "advance_sequences", "lock_ids", "positions_of", "record_highest_ids"]

STEPS = 1_000_000
"""The widest gap that is crossed by `nextval`: less than a second of work."""

OVERLAPPING = 100
"""Ranges of the ledger that are read for its highest invoice: those that begin last. One would do,
but for streams that sold at the same time, whose merged ranges overlap."""

_GIVEN = "given"
"""Where the parameters of the ledger's first row have what `record_highest_ids` noted, by table."""


class Wanted(NamedTuple):
    """How many ids of a table are wanted, and where they come from."""

    table: Any
    source: IdSource
    needed: int


def lock_ids(connection: Connection) -> None:
    """Take the advisory lock under which ids are read, until the transaction ends."""
    backend_for(connection).lock(connection, ID_LOCK)


def advance_sequences(connection: Connection, chinook: Chinook) -> None:
    """Move the sequences that are behind their tables forward, where ids are left to them."""
    positions_of(
        connection,
        chinook,
        (
            Wanted(Invoice.__table__, chinook.invoice_ids, 1),
            Wanted(InvoiceLine.__table__, chinook.line_ids, 1),
        ),
    )


def positions_of(connection: Connection, chinook: Chinook, wanted: Sequence[Wanted]) -> list[int]:
    """Return the id after which each table's next ones come; sequences that are behind catch up."""
    seen = _read_positions(connection, chinook, wanted)
    if any(source.kind == "sequence" and (last or 0) < high for source, high, last in seen):
        # Another process may be doing it; the second one finds it done.
        lock_ids(connection)
        for source, high, last in _read_positions(connection, chinook, wanted):
            if source.kind == "sequence" and (last or 0) < high:
                _move_forward(connection, source, high, last)
        seen = _read_positions(connection, chinook, wanted)
    return [max(high, last or 0) for _, high, last in seen]


class _Seen(NamedTuple):
    """The highest id of a table that is known, 0 for none, and the last that its source gave.

    The last is None if it is not known.
    """

    source: IdSource
    highest: int
    last: int | None


def _read_positions(
    connection: Connection, chinook: Chinook, wanted: Sequence[Wanted]
) -> list[_Seen]:
    lasts = backend_for(connection).last_given_ids(
        connection, [(table, source) for table, source, _ in wanted]
    )
    sources = tuple(
        (table, source, last) for (table, source, _), last in zip(wanted, lasts, strict=True)
    )
    parameters, *found = connection.execute(_positions_query(sources, ledger=chinook.ledger)).one()
    noted = json.loads(parameters or "{}").get(_GIVEN, {})
    return [
        _Seen(source, max(it or 0 for it in (highest, *known, noted.get(table.name))), last)
        for (table, source, _), highest, last, *known in zip(
            wanted, found[::4], found[1::4], found[2::4], found[3::4], strict=True
        )
    ]


# `SaleFactory.create` asks for each sale, and the answer takes less than making the statement.
@lru_cache(maxsize=64)
def _positions_query(
    sources: tuple[tuple[Any, IdSource, ColumnElement[Any]], ...], *, ledger: bool
) -> Select[Any]:
    """Return the statement that reads how far ids have been given.

    Args:
        sources: tables, where their ids come from, and the expressions of `last_given_ids`.
        ledger: whether there is one.

    Returns:
        One row: the parameters with what `record_highest_ids` noted; for each table its highest id,
        the last that its source gave, and two that the ledger has.
    """
    given = ledger and any(source.counted for _, source, _ in sources)
    noted = select(Run.parameters).where(Run.run_id == RunKind.BASELINE).scalar_subquery()
    columns: list[Any] = [noted if given else null()]
    for table, source, last in sources:
        (key,) = table.primary_key.columns
        readable = source.counted or (source.kind == "sequence" and source.readable)
        columns.append(select(func.max(key)).scalar_subquery() if readable else null())
        # Read after the highest id, whose snapshot is older: what was given meanwhile is no lag.
        columns.append(last)
        recorded = ledger and source.counted
        columns += _recorded(table) if recorded else (null(), null())
    return select(*columns)


def _recorded(table: Any) -> tuple[Any, Any]:
    """Return the highest ids that the ledger has: of what was changed, and of what runs made.

    So a pipeline that has not yet heard of a cancellation does not take a new sale for the old one,
    and the old one can be put back.
    """
    if table is InvoiceLine.__table__:
        return select(func.max(Change.last_line_id)).scalar_subquery(), null()
    subject = "customer" if table is Customer.__table__ else "invoice"
    changed = select(func.max(Change.subject_id)).where(Change.subject == subject)
    made: Any = null()
    if table is Invoice.__table__:
        last = select(RunInvoices.last_id).order_by(RunInvoices.first_id.desc()).limit(OVERLAPPING)
        made = select(func.max(last.subquery().c.last_id)).scalar_subquery()
    return changed.scalar_subquery(), made


def record_highest_ids(connection: Connection, chinook: Chinook) -> None:
    """Record the highest ids of invoices and lines in the ledger, so that they are not given again.

    Args:
        connection: in a transaction that is going to delete rows that runs made.
        chinook: what was recognised, with a ledger.
    """
    keys = {
        table.name: table.primary_key.columns[0]
        for table, source in (
            (Invoice.__table__, chinook.invoice_ids),
            (InvoiceLine.__table__, chinook.line_ids),
        )
        if source.counted
    }
    if not keys:
        return
    highest = [select(func.max(key)).scalar_subquery() for key in keys.values()]
    row = Run.run_id == RunKind.BASELINE
    # Locked, as another transaction may be noting something.
    found = connection.execute(select(Run.parameters, *highest).where(row).with_for_update())
    for text_, *last in found:
        parameters = json.loads(text_)
        noted = parameters.get(_GIVEN, {})
        parameters[_GIVEN] = {
            name: max(number or 0, noted.get(name, 0))
            for name, number in zip(keys, last, strict=True)
        }
        connection.execute(update(Run).where(row).values(parameters=json.dumps(parameters)))


def _move_forward(connection: Connection, source: IdSource, highest: int, last: int | None) -> None:
    """Move a sequence forward, so that its next id comes after the highest there is."""
    name = func.to_regclass(source.sequence)
    if last is None:
        # It was restarted: where it stands is only known from what it gives.
        last = int(connection.scalar(select(func.nextval(name))) or 0)
    steps = -(-(highest - last) // source.increment)
    if steps > STEPS:
        lacking = missing_grants(connection, [("UPDATE", f"SEQUENCE {source.sequence}")])
        if lacking:
            raise BatchFailed(
                f"the batch failed and nothing was written: {source.sequence} is far behind its "
                f"table; {lacking}",
                sqlstate=INSUFFICIENT_PRIVILEGE,
            )
        connection.execute(select(func.setval(name, highest)))
    elif steps > 0:
        series = func.generate_series(1, steps).table_valued("n")
        connection.execute(select(func.count(func.nextval(name))).select_from(series))
