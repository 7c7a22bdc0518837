"""Chinooks whose names have neither of the usual spellings: everything works on them."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from chinook_sim import (
    Artist,
    Employee,
    Invoice,
    InvoiceLine,
    SaleFactory,
    generate_d1,
    recognise,
    undo,
)
from chinook_sim.database.error_messages import describe_driver_error
from chinook_sim.database.name_file import load_names
from chinook_sim.database.names import SPELLINGS
from chinook_sim.models import Base, playlist_track
from chinook_sim.provisioning.migration_runner import upgrade
from chinook_sim.verification import verify_all
from support.cases import OTHERS, VARIANTS, needs_real_files, on_variants
from support.chinook_variants import TABLES

if TYPE_CHECKING:
    from pathlib import Path

    from support.command import Command
    from support.databases import ChinookDatabase

DAY = date(2026, 1, 31)
AT = datetime(2026, 1, 31, 14, 30)  # noqa: DTZ001
others_unmigrated = on_variants([case for case in OTHERS if not case.migrated])
others_migrated = on_variants([case for case in OTHERS if case.migrated])
tutorial = on_variants([VARIANTS["sqlite-tutorial"]])
plural = on_variants([VARIANTS["postgres-plural-pg18"], VARIANTS["sqlite-tutorial"]])


def names_of(shop: ChinookDatabase) -> dict[str, str]:
    """Return what the shop calls its tables and columns, by Chinook's names."""
    keys = [
        key
        for table, columns in TABLES.items()
        for key in (table, *(f"{table}.{word.split(':')[0]}" for word in columns.split()))
    ]
    return {key: shop.shape.spell(key.rpartition(".")[2]).strip('"') for key in keys}


@others_unmigrated
def test_every_table_and_column_is_found(shop: ChinookDatabase) -> None:
    with shop.engine.connect() as connection:
        names = recognise(connection).names

    assert {key: names[key] for key in names_of(shop)} == names_of(shop)
    assert names.spelling is None


@others_unmigrated
def test_all_classes_can_be_queried(shop: ChinookDatabase) -> None:
    with Session(shop.engine) as session:
        recognise(session)
        classes: dict[str, Any] = {
            "Employee": Employee,
            "Artist": Artist,
            "PlaylistTrack": playlist_track,
            "InvoiceLine": InvoiceLine,
        }
        counts = {
            table: session.scalar(select(func.count()).select_from(it))
            for table, it in classes.items()
        }
        employee = session.scalars(select(Employee).order_by(Employee.employee_id)).first()

        assert counts == {it: shop.value(f"SELECT count(*) FROM [{it}]") for it in counts}
        assert employee is not None
        assert str(employee.birth_date) == "1970-01-01 00:00:00"


@others_migrated
def test_a_day_of_every_kind_is_undone_exactly(shop: ChinookDatabase, command: Command) -> None:
    def run(*arguments: str) -> dict[str, Any]:
        done = command(*arguments, "--json", DATABASE_URL=shop.text)
        assert done.returncode == 0, done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    before = shop.snapshot()
    changes = ("--updates=9", "--cancellations=4", "--new-customers=2", "--moves=2")
    moved = run("align")
    assert moved["invoices"] == 30
    first = run("generate", "1000", "--day", "2026-01-30")
    made = run("generate", "50", "--day", "2026-01-31", *changes, "--price-changes=3")
    assert (made["updates"], made["cancellations"]) == (9, 4)
    run("verify", "--day", "2026-01-31", "--expect", "50")
    run("verify", "--all")
    days = run("backfill", "2025-12-01", "2025-12-03", "--per-day", "5")
    assert days["made"] == 3
    with Session(shop.engine) as session, session.begin():
        sale = SaleFactory(session, seed=1).create(AT)
        assert sale.total == sum(line.unit_price for line in sale.lines)
        session.rollback()
    run("verify", "--all")
    run("undo", "--backfill", "2025-12-01", "2025-12-03")
    run("undo", made["run"])
    run("undo", first["run"])
    run("undo", moved["run"])
    assert shop.snapshot() == before


@others_unmigrated
@pytest.mark.slow(reason="a thousand sales one by one")
def test_thousands_of_sales_are_right_before_a_migration(
    shop: ChinookDatabase, command: Command
) -> None:
    done = command("generate", "1000", "--day", "2026-01-30", DATABASE_URL=shop.text)
    assert done.returncode == 0, done.stderr
    with Session(shop.engine) as session, session.begin():
        generate_d1(session, 1000, day=DAY)
        factory = SaleFactory(session, seed=1)
        for _ in range(1000):
            factory.create(AT)
    with shop.engine.connect() as connection:
        assert [check for check in verify_all(connection) if not check.passed] == []
    baskets = shop.rows(
        "SELECT i.[Total], sum(l.[UnitPrice] * l.[Quantity]), count(*), "
        "count(DISTINCT l.[TrackId]), max(l.[Quantity]) FROM [Invoice] i "
        "JOIN [InvoiceLine] l ON l.[InvoiceId] = i.[InvoiceId] "
        "WHERE i.[InvoiceId] > 30 GROUP BY i.[InvoiceId], i.[Total]"
    )
    assert len(baskets) == 3000
    for total, of_lines, size, tracks, quantity in baskets:
        assert round(total * 100) == round(of_lines * 100)
        assert 1 <= size == tracks <= 5
        assert quantity == 1


@on_variants([case for case in OTHERS if case.migrated and case.major])
def test_the_sql_functions_use_the_names(shop: ChinookDatabase) -> None:
    before = shop.value("SELECT count(*) FROM [Invoice]")
    shop.execute(
        "SELECT simulate_sales('2026-01-31', 1000)",
        "SELECT simulate_new_sale('2026-01-31 14:30')",
    )
    with shop.engine.connect() as connection:
        checks = verify_all(connection)
    assert [check for check in checks if not check.passed] == []
    shop.execute("SELECT simulate_update_sale('2026-01-31')")
    shop.execute("SELECT simulate_delete_sale('2026-01-31')")
    assert shop.value("SELECT count(*) FROM [Invoice]") == before + 1000


@plural
def test_four_tables_are_enough(shop: ChinookDatabase, command: Command) -> None:
    """No table is made beside them: what it should be called is not known."""
    tables = ["PlaylistTrack", "Playlist", "InvoiceLine", "Invoice", "Customer", "Employee"]
    sold = {"Customer", "Track", "Invoice", "InvoiceLine"}
    cascade = "" if shop.server is None else " CASCADE"
    for table in (*tables, "Track", "Album", "Artist", "Genre", "MediaType"):
        if table not in sold:
            shop.execute(f"DROP TABLE [{table}]{cascade}")
    done = command("init", "--json", DATABASE_URL=shop.text)
    assert (done.returncode, json.loads(done.stdout)["made"]) == (0, "nothing"), done.stderr
    done = command("generate", "20", "--updates", "3", DATABASE_URL=shop.text)
    assert done.returncode == 0, done.stderr
    done = command("verify", DATABASE_URL=shop.text)
    assert done.returncode == 0, done.stdout


MAP = """
[Customer]
table = "shop_clients"
CustomerId = "id"
[Invoice]
InvoiceId = "id"
CustomerId = "client"
Total = "sum's: 5%"
InvoiceDate = "on.day"
[InvoiceLine]
table = 'shop "lines"'
InvoiceLineId = "id"
InvoiceId = "invoice's"
UnitPrice = 'a "price"'
Quantity = "a.0.b"
[Track]
TrackId = "id"
"""


@on_variants([VARIANTS["postgres-plural-pg18"], VARIANTS["sqlite-autoincrement"]])
def test_a_file_states_what_recognition_cannot_know(
    shop: ChinookDatabase, command: Command, tmp_path: Path
) -> None:
    shop.execute(
        "ALTER TABLE [Invoice] RENAME COLUMN [CustomerId] TO client",
        "ALTER TABLE [Invoice] RENAME COLUMN [InvoiceId] TO id",
        "ALTER TABLE [InvoiceLine] RENAME COLUMN [InvoiceLineId] TO id",
        'ALTER TABLE [InvoiceLine] RENAME COLUMN [InvoiceId] TO "invoice\'s"',
        'ALTER TABLE [InvoiceLine] RENAME COLUMN [UnitPrice] TO "a ""price"""',
        'ALTER TABLE [InvoiceLine] RENAME COLUMN [Quantity] TO "a.0.b"',
        'ALTER TABLE [Invoice] RENAME COLUMN [Total] TO "sum\'s: 5%"',
        'ALTER TABLE [Invoice] RENAME COLUMN [InvoiceDate] TO "on.day"',
        "ALTER TABLE [Track] RENAME COLUMN [TrackId] TO id",
        "ALTER TABLE [Customer] RENAME COLUMN [CustomerId] TO id",
        "ALTER TABLE [Customer] RENAME TO shop_clients",
        'ALTER TABLE [InvoiceLine] RENAME TO "shop ""lines"""',
    )
    file = tmp_path / "shop.toml"
    file.write_text(MAP, encoding="utf-8")
    done = command("generate", "10", DATABASE_URL=shop.text)
    assert done.returncode == 3
    assert "state these in a file for --map" in done.stderr

    def run(*arguments: str) -> dict[str, Any]:
        done = command(*arguments, "--json", DATABASE_URL=shop.text, CHINOOK_SIM_MAP=str(file))
        assert done.returncode == 0, done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    names = run("init")["names"]
    assert names["Customer"] == "shop_clients"
    assert names["Customer.CustomerId"] == "id"
    assert names["InvoiceLine"] == 'shop "lines"'
    sold = '"shop ""lines"""'
    before = shop.rows(f"SELECT * FROM {sold} ORDER BY id")
    changes = ("--updates=9", "--cancellations=4", "--new-customers=2", "--moves=2")
    first = run("generate", "100", "--day", "2026-01-30")
    made = run("generate", "50", "--day", "2026-01-31", *changes, "--price-changes=3")
    assert (made["updates"], made["cancellations"]) == (9, 4)
    run("verify", "--all")
    engine = create_engine(shop.url, execution_options={"chinook_names": load_names(file)})
    with Session(engine) as session, session.begin():
        SaleFactory(session, seed=1).create(AT)
        # Both tables have a column `id`.
        both = select(Invoice, InvoiceLine).join(InvoiceLine).subquery()
        lines = session.scalar(select(func.count()).select_from(InvoiceLine))
        assert session.scalar(select(func.count()).select_from(both)) == lines
        session.rollback()
    run("undo", made["run"])
    run("undo", first["run"])
    assert shop.rows(f"SELECT * FROM {sold} ORDER BY id") == before
    engine.dispose()
    if shop.server is not None:
        shop.execute(
            "SELECT simulate_sales('2026-01-29', 10)",
            "SELECT simulate_new_sale('2026-01-29 14:30')",
        )
        run("verify", "--all")
        shop.execute(
            "SELECT simulate_update_sale('2026-01-29')",
            "SELECT simulate_delete_sale('2026-01-29')",
        )


@tutorial
def test_status_shows_names_that_are_not_usual(shop: ChinookDatabase, command: Command) -> None:
    done = command("status", DATABASE_URL=shop.text)
    assert "  InvoiceLine    invoice_items\n" in done.stdout
    assert "InvoiceLine.InvoiceId" not in done.stdout


@needs_real_files
@on_variants(
    [
        type(case)(case.shape, case.major, case.migrated, real=True)
        for case in OTHERS
        if case.shape.file
    ]
)
def test_the_real_files_work(shop: ChinookDatabase) -> None:
    before = shop.snapshot()
    with Session(shop.engine) as session, session.begin():
        upgrade(session.connection())
        made = generate_d1(session, 1000, day=DAY, updates=5, new_customers=3, moves=2)
    with shop.engine.connect() as connection:
        checks = verify_all(connection)
    assert [check for check in checks if not check.passed] == []
    assert made.run_id is not None
    with Session(shop.engine) as session, session.begin():
        undo(session, made.run_id)
    assert shop.snapshot() == before


@on_variants([VARIANTS["postgres-plural-pg18"], VARIANTS["postgres-lower-pg18"]])
def test_an_id_that_another_writer_took_is_no_index_of_the_users(shop: ChinookDatabase) -> None:
    copy = "INSERT INTO [Invoice] SELECT * FROM [Invoice] WHERE [InvoiceId] = 1"
    with shop.engine.connect() as connection, pytest.raises(DBAPIError) as caught:
        connection.exec_driver_sql(shop.sql(copy))
    found = describe_driver_error(caught.value)
    assert found is not None
    assert found.retryable
    assert "index of your own" not in found.line


def test_names_are_the_same_in_another_process() -> None:
    code = (
        "import pickle, sys; from chinook_sim.database.names import SPELLINGS; "
        "sys.stdout.buffer.write(pickle.dumps(SPELLINGS['snake']))"
    )
    names = pickle.loads(subprocess.check_output([sys.executable, "-c", code]))
    assert names == SPELLINGS["snake"]
    assert {SPELLINGS["snake"]: 1}[names] == 1


def test_a_base_of_several_classes_needs_no_table() -> None:
    class Described(Base):
        __abstract__ = True

    assert not hasattr(Described, "__table__")
