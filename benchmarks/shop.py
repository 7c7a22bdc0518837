"""The shops that are measured on, and the same rows written in the plainest way."""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, text
from sqlalchemy.orm import Session

from chinook_sim import generate_d1
from chinook_sim.provisioning.migration_runner import upgrade
from chinook_sim.provisioning.sample_loader import fill

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.postgres_server import Server as Server  # the tests' own

if TYPE_CHECKING:
    from collections.abc import Callable

DAY = date(2026, 1, 31)

TABLES = {
    "Invoice": '"InvoiceId", "CustomerId", "InvoiceDate", "BillingAddress", "BillingCity", '
    '"BillingState", "BillingCountry", "BillingPostalCode", "Total"',
    "InvoiceLine": '"InvoiceLineId", "InvoiceId", "TrackId", "UnitPrice", "Quantity"',
}


def stocked(engine: Engine, scale: int = 1) -> Engine:
    """Make the stand-in Chinook, with all its keys and indexes, and let the planner know it."""
    with engine.begin() as connection:
        upgrade(connection)
        fill(connection, scale, date(2026, 1, 1))
        if engine.dialect.name == "postgresql":
            # It would come into the middle of a timing, and `tidy` does its work.
            for table in TABLES:
                connection.execute(text(f'ALTER TABLE "{table}" SET (autovacuum_enabled = off)'))
    tidy(engine)
    return engine


def tidy(engine: Engine) -> None:
    """Clear away what was rolled back, so that no run is slower for the ones before it."""
    if engine.dialect.name != "postgresql":
        return
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
        # VACUUM leaves an index as large as it was, and so large a one on so small a table has
        # every key checked by reading the table, for as long as the connection lasts.
        for table in TABLES:
            connection.execute(text(f'REINDEX TABLE "{table}"'))
        # The first change of a page after a checkpoint logs all of it: let none come between.
        connection.execute(text("CHECKPOINT"))


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
                    text(f'SELECT {columns} FROM "{table}" WHERE "InvoiceId" >= {first} ORDER BY 1')
                )
            ]
            for table, columns in TABLES.items()
        }
        session.rollback()
    return found


def plain_copy(engine: Engine, sales: int, over: Engine | None = None) -> Callable[[], None]:
    """Return a run that copies the same rows, ready-made as text, if need be over another way."""
    ready = {
        table: "".join(
            "\t".join(r"\N" if value is None else str(value).replace("\\", r"\\") for value in row)
            + "\n"
            for row in rows
        ).encode()
        for table, rows in rows_of(engine, sales).items()
    }

    def run() -> None:
        with (over or engine).connect() as connection:
            connection.begin()
            copy_in(connection, ready)
            connection.rollback()

    return run


def copy_in(connection: Connection, ready: dict[str, bytes]) -> None:
    """Copy rows that are ready-made as text into their tables."""
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor:
        for table, block in ready.items():
            with cursor.copy(f'COPY "{table}" ({TABLES[table]}) FROM STDIN') as copy:
                copy.write(block)


def copy_out(connection: Connection, first: int, last: int) -> dict[str, bytes]:
    """Return the rows of some invoices as text that `copy_in` takes."""
    driver: Any = connection.connection.driver_connection
    found = {}
    with driver.cursor() as cursor:
        for table, columns in TABLES.items():
            rows = f'SELECT {columns} FROM "{table}" WHERE "InvoiceId" BETWEEN {first} AND {last}'
            with cursor.copy(f"COPY ({rows} ORDER BY 1) TO STDOUT") as copy:
                found[table] = b"".join(bytes(block) for block in copy)
    return found


def plain_executemany(engine: Engine, sales: int) -> Callable[[], None]:
    """Return a run that inserts the same rows through the driver's executemany."""
    ready = rows_of(engine, sales)

    def run() -> None:
        with engine.connect() as connection:
            connection.begin()
            driver: Any = connection.connection.driver_connection
            driver.execute("PRAGMA foreign_keys = ON")
            driver.execute("BEGIN IMMEDIATE")
            for table, rows in ready.items():
                marks = ", ".join("?" * len(rows[0]))
                driver.executemany(
                    f'INSERT INTO "{table}" ({TABLES[table]}) VALUES ({marks})', rows
                )
            connection.rollback()

    return run
