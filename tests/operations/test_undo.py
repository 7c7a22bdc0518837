"""`undo` takes out what a run made, and nothing else."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from chinook_sim import InvalidInput, UndoRefused, align, generate_d1, undo
from chinook_sim.operations.options import BatchOptions
from chinook_sim.operations.run_batch import BatchContext, run_batch
from chinook_sim.provisioning.migration_runner import upgrade
from chinook_sim.verification import verify_day
from support.cases import (
    alternating_versions,
    on_both_databases,
    on_each_postgresql_shape,
    on_each_shape,
    on_three_shapes,
    on_two_postgresql_shapes,
)
from support.chinook_variants import SHAPES, build_postgresql
from support.postgres_server import LOCK_WAITS
from support.runs import make, runs, take_back

if TYPE_CHECKING:
    from pathlib import Path

    from support.chinook_variants import Shape
    from support.databases import ChinookDatabase, DatabaseTemplates
    from support.postgres_server import Server

DAY = date(2026, 1, 31)

SIMILAR = pytest.mark.slow(reason="differs in where ids come from, as in other tests of this file")


@on_each_shape
def test_a_run_is_taken_out_and_everything_else_stays(shop: ChinookDatabase) -> None:
    make(shop, 5)
    first = make(shop, 30, once=True)
    later = make(shop, 7)
    ids = ", ".join(map(str, first.invoice_ids))
    kept = [
        f"SELECT * FROM [{table}] WHERE [InvoiceId] NOT IN ({ids}) ORDER BY 1"
        for table in ("Invoice", "InvoiceLine")
    ]
    before = [shop.rows(query) for query in kept]
    assert not take_back(shop, (first.run_id or "")[:8])
    assert [shop.rows(query) for query in kept] == before
    assert shop.value("SELECT count(*) FROM [Invoice]") == 30 + 5 + 7
    assert [row[4] for row in runs(shop)] == [False, True, False]
    # Again it is done already; and its key is free.
    assert take_back(shop, first.run_id)
    assert not make(shop, 30, once=True).existed
    take_back(shop, later.run_id)


@on_each_postgresql_shape
def test_a_run_with_interleaved_ids_is_undone_alone(shop: ChinookDatabase) -> None:
    source = "invoice_id_seq" if not shop.shape.gives_ids else "invoice_invoice_id_seq"
    shop.execute(f"ALTER SEQUENCE {source} INCREMENT BY 2")
    even = make(shop, 10)
    ids = list(even.invoice_ids)
    assert ids == list(range(ids[0], ids[0] + 20, 2))
    customer = shop.value("SELECT min([CustomerId]) FROM [Customer]")
    always = "OVERRIDING SYSTEM VALUE" if "ALWAYS" in shop.shape.ids else ""
    for between in ids[:3]:
        shop.execute(
            "INSERT INTO [Invoice] ([InvoiceId], [CustomerId], [InvoiceDate], [Total]) "
            f"{always} VALUES ({between + 1}, {customer}, '2026-01-31', 0)"
        )
    take_back(shop, even.run_id)
    assert shop.value("SELECT count(*) FROM [Invoice]") == 33


@on_three_shapes
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("DELETE FROM [Invoice] WHERE [InvoiceId] = {0}", "cancelled"),
        ("UPDATE [InvoiceLine] SET [UnitPrice] = 5 WHERE [InvoiceId] = {0}", "changed"),
        ("UPDATE [Invoice] SET [InvoiceDate] = '2026-01-31 00:00:00'", "changed"),
        ("UPDATE [Invoice] SET [Total] = [Total] + 5 WHERE [InvoiceId] = {0}", "changed"),
        ("UPDATE [InvoiceLine] SET [Quantity] = 2 WHERE [InvoiceId] = {0}", "changed"),
        (
            "INSERT INTO [InvoiceLine] ([InvoiceLineId], [InvoiceId], [TrackId], [UnitPrice], "
            "[Quantity]) {1} VALUES (9999, {0}, 3, 0.99, 1)",
            "changed",
        ),
    ],
)
def test_a_run_whose_sales_were_changed_is_not_taken_out(
    shop: ChinookDatabase, change: str, told: str
) -> None:
    made = make(shop)
    always = "OVERRIDING SYSTEM VALUE" if "ALWAYS" in shop.shape.ids else ""
    first = made.invoice_ids[0]
    if change.startswith("DELETE"):
        shop.execute(f"DELETE FROM [InvoiceLine] WHERE [InvoiceId] = {first}")
    shop.execute(change.format(first, always))
    before = shop.snapshot()
    with pytest.raises(UndoRefused, match=told):
        take_back(shop, made.run_id)
    assert shop.snapshot() == before
    assert [row[4] for row in runs(shop)] == [False]


@on_three_shapes
@pytest.mark.parametrize(
    ("table", "key"), [("Invoice", "InvoiceId"), ("InvoiceLine", "InvoiceLineId")]
)
def test_undo_does_not_delete_rows_that_refer_to_sales(
    shop: ChinookDatabase, table: str, key: str
) -> None:
    made = make(shop)
    shop.execute(
        "CREATE TABLE shipment (id int PRIMARY KEY, "
        f"sold int REFERENCES [{table}] ([{key}]) ON DELETE CASCADE)",
        f"INSERT INTO shipment SELECT 1, max([{key}]) FROM [{table}]",
    )
    with pytest.raises(UndoRefused, match="shipment"):
        take_back(shop, made.run_id)
    shop.execute(
        "DELETE FROM shipment", f"INSERT INTO shipment SELECT 2, min([{key}]) FROM [{table}]"
    )
    take_back(shop, made.run_id)
    assert shop.value("SELECT count(*) FROM shipment") == 1


@on_three_shapes
@pytest.mark.parametrize("rule", ["ON DELETE CASCADE", ""])
def test_a_foreign_key_of_two_columns_is_compared_as_a_pair(
    shop: ChinookDatabase, rule: str
) -> None:
    made = make(shop)
    own = shop.value("SELECT max([InvoiceId]) FROM [Invoice]")
    # Ids that are customers' must not be taken for invoices', nor the other way round.
    shop.execute(
        "CREATE UNIQUE INDEX pair ON [Invoice] ([CustomerId], [InvoiceId])",
        "CREATE TABLE loyalty (customer integer, invoice integer, FOREIGN KEY (customer, invoice) "
        f"REFERENCES [Invoice] ([CustomerId], [InvoiceId]) {rule})",
        "INSERT INTO loyalty SELECT [CustomerId], [InvoiceId] FROM [Invoice] "
        f"WHERE [InvoiceId] IN (2, {own})",
    )
    with pytest.raises(UndoRefused, match="loyalty"):
        take_back(shop, made.run_id)
    assert shop.value("SELECT count(*) FROM loyalty") == 2
    shop.execute(f"DELETE FROM loyalty WHERE invoice = {own}")
    take_back(shop, made.run_id)
    assert shop.value("SELECT count(*) FROM loyalty") == 1


@on_two_postgresql_shapes
def test_undo_does_not_delete_a_row_that_refers_to_a_line_meanwhile(shop: ChinookDatabase) -> None:
    made = make(shop)
    shop.execute(
        "CREATE TABLE shipment "
        "(sold integer REFERENCES [InvoiceLine] ([InvoiceLineId]) ON DELETE CASCADE)"
    )
    assert shop.server is not None
    with (
        shop.server.connect(shop.url.database or "") as other,
        ThreadPoolExecutor() as pool,
    ):
        with other.transaction():
            insert = "INSERT INTO shipment SELECT max([InvoiceLineId]) FROM [InvoiceLine]"
            other.execute(shop.sql(insert))
            undoing = pool.submit(take_back, shop, made.run_id)
            while not shop.value(LOCK_WAITS) and not undoing.done():
                time.sleep(0.01)
        with pytest.raises(UndoRefused, match="shipment"):
            undoing.result(timeout=60)
    assert shop.value("SELECT count(*) FROM shipment") == 1


@on_three_shapes
def test_a_run_whose_sales_are_all_gone_can_be_asked_for_again(shop: ChinookDatabase) -> None:
    made = make(shop, once=True)
    shop.execute(
        "DELETE FROM [InvoiceLine] WHERE [InvoiceId] > 30",
        "DELETE FROM [Invoice] WHERE [InvoiceId] > 30",
    )
    assert not take_back(shop, made.run_id)
    assert not make(shop, once=True).existed


def test_sqlite_does_not_wait_for_readers_in_the_middle_of_a_batch(
    templates: DatabaseTemplates, tmp_path: Path
) -> None:
    (case,) = [case for case in alternating_versions() if case.id == "sqlite-int"]
    shop = templates.copy(case, tmp_path)
    with Session(shop.engine) as session, session.begin():
        pragma = text("PRAGMA busy_timeout")
        usual = session.scalar(pragma)
        during: set[int] = set()
        context = BatchContext(progress=lambda _: during.add(session.scalar(pragma)))
        run_batch(session, 5, BatchOptions(day=DAY), context)
        assert during == {0}
        assert session.scalar(pragma) == usual


@on_both_databases
def test_only_a_run_that_is_named_is_undone(shop: ChinookDatabase) -> None:
    make(shop)
    for name in ("", "abc", "baseline", "%", "____", "0000-not-there", "x" * 40):
        with pytest.raises(InvalidInput):
            take_back(shop, name)
    assert [row[4] for row in runs(shop)] == [False]


@on_each_postgresql_shape
def test_a_day_made_by_sql_is_taken_out_too(shop: ChinookDatabase) -> None:
    before = shop.snapshot()
    ((run, sales),) = shop.rows(f"SELECT run_id, sales FROM simulate_sales('{DAY}', 300)")
    assert sales == 300
    with shop.engine.connect() as connection:
        assert all(check.passed for check in verify_day(connection, DAY, expect=300))
    assert not take_back(shop, run)
    assert shop.snapshot() == before


@pytest.mark.parametrize(
    ("shape", "server"),
    [
        (SHAPES[0], 16),
        (SHAPES[1], 18),
        pytest.param(SHAPES[2], 16, marks=SIMILAR),
        pytest.param(SHAPES[3], 18, marks=SIMILAR),
    ],
    indirect=["server"],
    ids=lambda it: getattr(it, "name", it),
)
def test_all_of_it_works_off_the_search_path(shape: Shape, server: Server) -> None:
    database = server.create_database()
    build_postgresql(shape, server, database, schema="Music Shop")
    engine = create_engine(server.url(database), poolclass=NullPool)
    with engine.begin() as connection:
        upgrade(connection)
    for existed in (False, True):
        with Session(engine) as session, session.begin():
            made = generate_d1(session, 9, day=DAY, once=True)
            moved = align(session)
        assert (made.existed, moved.existed, moved.invoices) == (existed, existed, 30)
    for run in (made.run_id, moved.run_id):
        with Session(engine) as session, session.begin():
            assert not undo(session, run or "").existed
    with server.connect(database) as other:
        invoice = f'"Music Shop".{shape.spell("Invoice")}'
        assert other.execute(f"SELECT count(*) FROM {invoice}").fetchone() == (30,)
    server.drop_database(database)
