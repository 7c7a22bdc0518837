"""How many bytes the ledger of a stream takes, against the sales that it describes.

    uv run python -m benchmarks.ledger

Each transaction has one arrival, as at 20 arrivals a second, but they are made one after the other
without waiting.
"""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.pool import NullPool

from benchmarks import shop
from chinook_sim import live
from chinook_sim.database.introspection import recognise
from chinook_sim.ledger.listing import count_runs, latest_runs
from chinook_sim.sampling.arrivals import MIX

SALES = ("Invoice", "InvoiceLine")
RUNS = ("chinook_sim_run", "chinook_sim_run_invoices")
CHANGES = ("chinook_sim_change",)

TRANSACTIONS = 5_000

LISTED = 1_000_000
"""Rows of a stream that `status` is timed with."""


class Clock(threading.Event):
    """The event that ends a stream, whose clock only moves while the stream waits."""

    def __init__(self) -> None:
        super().__init__()
        self._seconds = 0.0

    def __call__(self) -> float:
        """Return the seconds that were waited."""
        return self._seconds

    def wait(self, timeout: float | None = None) -> bool:
        """Let the time pass at once."""
        self._seconds += max(timeout or 0.0, 0.0)
        return self.is_set()


def sell(engine: Engine, transactions: int, mix: tuple[int, int, int]) -> int:
    """Make a stream of transactions of one arrival each; return how many sales it made."""
    clock, sales = Clock(), 0
    for number, batch in enumerate(live(engine, 20, mix=mix, seed=7, stop=clock, clock=clock), 1):
        sales += batch.made.count
        if number == transactions:
            clock.set()
    return sales


def size(engine: Engine, tables: tuple[str, ...]) -> int:
    """Return the bytes of tables and their indexes, once they are vacuumed."""
    if engine.dialect.name == "sqlite":
        query = text(
            "SELECT sum(d.pgsize) FROM dbstat d JOIN sqlite_master m ON m.name = d.name "
            f"WHERE m.tbl_name IN ({', '.join(map(repr, tables))})"
        )
        with engine.connect() as connection:
            return int(connection.scalar(query) or 0)
    names = [f'"{table}"' for table in tables]
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"VACUUM FULL {', '.join(names)}"))
        return sum(
            int(connection.scalar(text(f"SELECT pg_total_relation_size('{name}')")) or 0)
            for name in names
        )


def measure(name: str, engine: Engine) -> None:
    """Print the bytes a sale of a stream, for sales alone and for the default mix."""
    for mix in ((1, 0, 0), MIX):
        before = [size(engine, tables) for tables in (SALES, RUNS, CHANGES)]
        begun = time.perf_counter()
        sales = sell(engine, TRANSACTIONS, mix)
        took = time.perf_counter() - begun
        grown = (
            size(engine, tables) - then
            for tables, then in zip((SALES, RUNS, CHANGES), before, strict=True)
        )
        data, runs, changes = (it / sales for it in grown)
        print(
            f"{name}, {':'.join(map(str, mix))}, {TRANSACTIONS:,} transactions: bytes a sale: "
            f"{data:.0f} of sales, {runs:.1f} of runs ({runs / data:.1%}), "
            f"{changes:.1f} of changes ({changes / data:.1%}); {took / TRANSACTIONS * 1e3:.2f} ms "
            "a transaction",
            flush=True,
        )


def measure_status(engine: Engine) -> None:
    """Print how long `status` takes to list a million rows of a stream that were not merged."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO chinook_sim_run (run_id, kind, key, day, requested, seed, profile, "
                "sales, lines, revenue, digest, version) SELECT gen_random_uuid(), 'live', "
                "'live-0000000' || n % 10 || '/' || n, CURRENT_DATE, 1, 7, 'uniform', 1, 3, 2.97, "
                f"repeat('0', 64), '0' FROM generate_series(1, {LISTED}) n"
            )
        )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE chinook_sim_run"))
    with engine.connect() as connection:
        recognise(connection)
        for asked in (lambda: latest_runs(connection, 10), lambda: count_runs(connection)):
            begun = time.perf_counter()
            asked()
            print(f"{LISTED:,} live rows: {time.perf_counter() - begun:.2f} s", flush=True)


def main() -> None:
    """Measure SQLite and PostgreSQL."""
    with tempfile.TemporaryDirectory() as directory, shop.Server(18) as server:
        file = Path(directory) / "shop.db"
        embedded = shop.stocked(create_engine(f"sqlite:///{file}", poolclass=NullPool))
        measure("SQLite", embedded)
        served = shop.stocked(
            create_engine(server.url(server.create_database()), poolclass=NullPool)
        )
        measure("PostgreSQL", served)
        measure_status(served)


if __name__ == "__main__":
    main()
