"""How fast sales are written, against plain rows that were made before; see README.md here."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from chinook_sim import generate_d1, recognise
from chinook_sim.batch import SalePlan
from chinook_sim.catalogue import read_catalogue
from chinook_sim.migrate import upgrade
from chinook_sim.naming import connection_of
from chinook_sim.standin import fill

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from postgres import Server

if TYPE_CHECKING:
    from collections.abc import Callable

DAY = date(2026, 1, 31)

CALLS = 5_000
"""Calls of a function that makes one sale."""

TABLES = {
    "Invoice": '"InvoiceId", "CustomerId", "InvoiceDate", "BillingAddress", "BillingCity", '
    '"BillingState", "BillingCountry", "BillingPostalCode", "Total"',
    "InvoiceLine": '"InvoiceLineId", "InvoiceId", "TrackId", "UnitPrice", "Quantity"',
}


def stocked(engine: Engine) -> Engine:
    """Make the stand-in Chinook, with all its keys and indexes."""
    with engine.begin() as connection:
        upgrade(connection)
        fill(connection, 1, date(2026, 1, 1))
    return engine


def ours(engine: Engine, sales: int) -> Callable[[], None]:
    """Return a run of `generate_d1` that is rolled back."""

    def run() -> None:
        with Session(engine) as session:
            generate_d1(session, sales, day=DAY, seed=7)
            session.rollback()

    return run


def rows_of(engine: Engine, sales: int) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows that a batch leaves, as the database has them."""
    with Session(engine) as session:
        batch = generate_d1(session, sales, day=DAY, seed=7)
        first = batch.invoice_ids[0]
        found = {
            table: [
                tuple(row)
                for row in session.execute(
                    text(f'SELECT {columns} FROM "{table}" WHERE "InvoiceId" >= {first}')
                )
            ]
            for table, columns in TABLES.items()
        }
        session.rollback()
    return found


def plain_copy(engine: Engine, sales: int) -> Callable[[], None]:
    """Return a run that copies the same rows, ready-made as text."""
    ready = {
        table: "".join(
            "\t".join(r"\N" if value is None else str(value).replace("\\", r"\\") for value in row)
            + "\n"
            for row in rows
        ).encode()
        for table, rows in rows_of(engine, sales).items()
    }

    def run() -> None:
        with engine.connect() as connection:
            connection.begin()
            driver: Any = connection.connection.driver_connection
            with driver.cursor() as cursor:
                for table, block in ready.items():
                    with cursor.copy(f'COPY "{table}" ({TABLES[table]}) FROM STDIN') as copy:
                        copy.write(block)
            connection.rollback()

    return run


def plain_executemany(engine: Engine, sales: int) -> Callable[[], None]:
    """Return a run that inserts the same rows through the driver's executemany."""
    ready = rows_of(engine, sales)

    def run() -> None:
        with engine.connect() as connection:
            connection.begin()
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            for table, rows in ready.items():
                marks = ", ".join("?" * len(rows[0]))
                statement = f'INSERT INTO "{table}" ({TABLES[table]}) VALUES ({marks})'
                connection.exec_driver_sql(statement, rows)
            connection.rollback()

    return run


def compare(name: str, sales: int, run: Callable[[], None], rival: Callable[[], None]) -> None:
    """Time two runs in turn, three times each, and print the ratio of the medians."""
    times: dict[Callable[[], None], list[float]] = {run: [], rival: []}
    for _ in range(3):
        for each, taken in times.items():
            begun = time.perf_counter()
            each()
            taken.append(time.perf_counter() - begun)
    mine, theirs = (statistics.median(taken) for taken in times.values())
    print(f"{name:42} {sales / mine:>12,.0f} {sales / theirs:>14,.0f} {mine / theirs:>8.2f}")


def sampling_alone(engine: Engine, sales: int) -> None:
    """Time making and adding up sales, with no database in it."""
    with Session(engine) as session:
        recognise(session)
        plan = SalePlan(read_catalogue(connection_of(session)), 7, DAY, 0, sales)
    begun = time.perf_counter()
    for _ in plan.slices():
        pass
    print(f"{'making sales, no database':42} {sales / (time.perf_counter() - begun):>12,.0f}")


def functions(engine: Engine, sales: int) -> None:
    """Time the SQL functions: one sale a statement, and a whole day against plain COPY."""

    def one_by_one() -> None:
        with engine.connect() as connection:
            call = text("SELECT * FROM simulate_new_sale(:at)")
            for second in range(CALLS):
                connection.execute(call, {"at": datetime(2026, 1, 31) + timedelta(seconds=second)})  # noqa: DTZ001
            connection.rollback()

    def within() -> None:
        with engine.connect() as connection:
            connection.execute(
                text(
                    "SELECT count(*) FROM generate_series(1, :calls) n, LATERAL "
                    "simulate_new_sale(timestamp '2026-01-31' + n * interval '1 second')"
                ),
                {"calls": CALLS},
            )
            connection.rollback()

    def a_day() -> None:
        with engine.connect() as connection:
            connection.execute(text(f"SELECT simulate_sales('2026-01-31', {sales})"))
            connection.rollback()

    compare(
        "simulate_new_sale, within one statement, against a round trip each",
        CALLS,
        within,
        one_by_one,
    )
    compare("simulate_sales, against plain COPY", sales, a_day, plain_copy(engine, sales))


def peak_memory(url: str, sales: int) -> float:
    """Return the peak memory of a process that writes so many sales, in MB."""
    code = (
        "import re, sys, datetime, pathlib\n"
        "from sqlalchemy import create_engine\n"
        "from sqlalchemy.orm import Session\n"
        "from chinook_sim import generate_d1\n"
        "engine = create_engine(sys.argv[1])\n"
        "with Session(engine) as session:\n"
        "    generate_d1(session, int(sys.argv[2]), day=datetime.date(2026, 1, 31), seed=7)\n"
        "    session.commit()\n"
        # ru_maxrss would be the parent's: a process keeps it from before its exec.
        "status = pathlib.Path('/proc/self/status').read_text()\n"
        "print(re.search('VmHWM:[^0-9]*([0-9]+)', status)[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, url, str(sales)], capture_output=True, text=True, check=True
    )
    return int(done.stdout) / 1024


def main() -> None:
    """Run everything and print one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--sales", type=int, default=100_000, help="sales of a timed batch")
    parser.add_argument("--large", type=int, default=1_000_000, help="sales for peak memory")
    options = parser.parse_args()
    sales: int = options.sales
    print(f"{platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} cores")
    print(f"{'':42} {'sales/s':>12} {'plain rows/s':>14} {'time ratio':>8}")
    with tempfile.TemporaryDirectory() as directory, Server(18) as server:
        path = Path(directory) / "chinook.db"
        sqlite = stocked(create_engine(f"sqlite:///{path}", poolclass=NullPool))
        database = server.create_database()
        postgresql = stocked(create_engine(server.url(database), poolclass=NullPool))
        sampling_alone(sqlite, sales * 10)
        compare(
            "PostgreSQL 18, COPY, against plain COPY",
            sales,
            ours(postgresql, sales),
            plain_copy(postgresql, sales),
        )
        functions(postgresql, sales)
        compare(
            "SQLite, against plain executemany",
            sales,
            ours(sqlite, sales),
            plain_executemany(sqlite, sales),
        )
        url = server.url(database).render_as_string(hide_password=False)
        for name, where in (("PostgreSQL", url), ("SQLite", f"sqlite:///{path}")):
            small, large = (peak_memory(where, count) for count in (1_000, options.large))
            print(
                f"{name}: peak memory {small:.0f} MB for 1,000 sales, "
                f"{large:.0f} MB for {options.large:,}: {large / small:.2f} times"
            )


main()
