"""What the tests of selected runs share."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session

from chinook_sim import UndoResult, backfill, invoice_history, simulate_changes, undo

if TYPE_CHECKING:
    from chinook_sim import InvoiceHistory
    from chinook_sim.sales.summary import BatchSummary
    from support.databases import ChinookDatabase

DAY = date(2026, 1, 31)
START = DAY - timedelta(days=4)


def change(shop: ChinookDatabase, **wanted: Any) -> BatchSummary:
    with Session(shop.engine) as session, session.begin():
        return simulate_changes(session, **{"day": DAY, **wanted})


def take_back(shop: ChinookDatabase, *run: str, **selected: Any) -> UndoResult:
    with Session(shop.engine) as session, session.begin():
        return undo(session, *run, **selected)


def fill(shop: ChinookDatabase, n: int = 5) -> list[BatchSummary]:
    return list(backfill(shop.engine, START, DAY, n, seed=3))


def count_active_runs(shop: ChinookDatabase) -> int:
    return int(
        shop.value(
            "SELECT count(*) FROM chinook_sim_run WHERE kind <> 'baseline' AND undone_at IS NULL"
        )
    )


def history(shop: ChinookDatabase, invoice: int) -> InvoiceHistory:
    with shop.engine.connect() as connection:
        return invoice_history(connection, invoice)
