"""Runs for tests: made, undone and listed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import date
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session

from chinook_sim import generate_d1, undo

if TYPE_CHECKING:
    from pathlib import Path

    from chinook_sim.sales.summary import BatchSummary
    from support.databases import ChinookDatabase

DAY = date(2026, 1, 31)


def make(shop: ChinookDatabase, n: int = 20, **wanted: Any) -> BatchSummary:
    with Session(shop.engine) as session, session.begin():
        return generate_d1(session, n, **{"day": DAY, **wanted})


def generate(
    shop: ChinookDatabase, n: int, *, driver: str | None = None, seed: int = 7
) -> BatchSummary:
    engine = shop.engine_for(driver) if driver else shop.engine
    with Session(engine) as session, session.begin():
        return generate_d1(session, n, day=DAY, seed=seed)


def take_back(shop: ChinookDatabase, run: str | None) -> bool:
    with Session(shop.engine) as session, session.begin():
        return undo(session, run or "").existed


def runs(shop: ChinookDatabase) -> list[tuple[Any, ...]]:
    return shop.rows(
        "SELECT run_id, kind, key, sales, undone_at IS NOT NULL FROM chinook_sim_run "
        "WHERE kind <> 'baseline' ORDER BY created_at, last_invoice_id"
    )


def count_invoices(path: Path) -> int:
    """Return how many invoices a SQLite file with CamelCase names has."""
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute('SELECT count(*) FROM "Invoice"').fetchone()[0])
