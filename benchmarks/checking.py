"""How long checking and undoing take, against reading the same rows once."""

from __future__ import annotations

import time
from datetime import date, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from chinook_sim import Invoice, InvoiceLine, backfill, undo
from chinook_sim.database.introspection import recognise
from chinook_sim.ledger.listing import count_runs, latest_runs
from chinook_sim.verification import verify_all, verify_day
from chinook_sim.verification.distribution import verify_shape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["PER_DAY", "Figures", "measure"]

PER_DAY = 400
"""Sales of a run."""

START = date(2020, 1, 1)

Figures = tuple[str, int, float, float | None]
"""What was measured, how many sales there are, our seconds, and the rival's."""


def measure(engine: Engine, sales: int) -> Iterator[Figures]:
    """Fill a shop, and measure what reads it.

    Args:
        engine: on the stand-in with a ledger; what is made is committed, and undone at the end.
        sales: how many sales there shall be, in runs of `PER_DAY`.
    """
    days = sales // PER_DAY
    runs = [
        made.run_id or ""
        for made in backfill(engine, START, START + timedelta(days=days - 1), PER_DAY, seed=7)
    ]
    n = days * PER_DAY
    # The first reading brings the pages into the cache.
    read_once(engine)
    reading = timed(lambda: read_once(engine))
    yield "verify --all", n, timed(lambda: check_all(engine)), reading
    yield "verify --all --shape", n, timed(lambda: check_all(engine, shape=True)), reading
    yield "verify of a day", n, timed(lambda: check_day(engine, START)), None
    yield "the runs of status", n, timed(lambda: list_runs(engine)), None
    yield "undo of every run", n, timed(lambda: undo_all(engine, runs)), reading


def timed(run: Callable[[], object]) -> float:
    """Return the seconds that something takes."""
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def read_once(engine: Engine) -> None:
    """Read all invoices and all their lines, every column."""
    with engine.connect() as connection:
        recognise(connection)
        for model in (Invoice, InvoiceLine):
            rows = connection.execute(
                select(model.__table__), execution_options={"yield_per": 10_000}
            )
            for _ in rows.partitions(10_000):
                pass


def check_all(engine: Engine, *, shape: bool = False) -> None:
    """Check all sales, and that all checks pass."""
    with engine.connect() as connection:
        checks = verify_all(connection)
        if shape:
            checks += verify_shape(connection)
    assert all(check.passed for check in checks), [it for it in checks if not it.passed]


def check_day(engine: Engine, day: date) -> None:
    """Check the sales of a day."""
    with engine.connect() as connection:
        checks = verify_day(connection, day, expect=PER_DAY)
    assert all(check.passed for check in checks), [it for it in checks if not it.passed]


def list_runs(engine: Engine) -> None:
    """Ask for what `status` shows of the ledger."""
    with engine.connect() as connection:
        recognise(connection)
        latest_runs(connection, 10)
        count_runs(connection)


def undo_all(engine: Engine, runs: list[str]) -> None:
    """Undo every run, the latest first, each in a transaction of its own."""
    for run in reversed(runs):
        with Session(engine) as session, session.begin():
            undo(session, run)
