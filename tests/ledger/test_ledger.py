"""The ledger, and what it makes possible: nights that are repeated, moved, and taken back."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from chinook_sim import (
    BatchFailed,
    InvalidInput,
    KeyTaken,
    NoLedger,
    SaleFactory,
    UndoRefused,
    align,
    backfill,
    generate_d1,
    live,
    simulate_changes,
    undo,
)
from chinook_sim.database.clock import d1
from chinook_sim.ledger.commit_outcome import resolve_commit_outcome, server_transaction_of
from chinook_sim.operations.options import BatchOptions
from chinook_sim.operations.run_batch import BatchContext, run_batch
from chinook_sim.provisioning.migration_runner import upgrade
from chinook_sim.verification import verify_day
from support import ROOT
from support.cases import (
    alternating_versions,
    cases,
    on_each_postgresql_shape,
    on_each_shape,
    on_each_shape_unmigrated,
    on_each_sqlite_shape,
    parameters,
)
from support.chinook_variants import SHAPES, build_postgresql

if TYPE_CHECKING:
    from pathlib import Path

    from chinook_sim.sales.summary import BatchSummary
    from support.databases import ChinookDatabase, DatabaseTemplates
    from support.postgres_server import Server

DAY = date(2026, 1, 31)


def make(shop: ChinookDatabase, n: int = 20, **wanted: Any) -> BatchSummary:
    with Session(shop.engine) as session, session.begin():
        return generate_d1(session, n, **{"day": DAY, **wanted})


def take_back(shop: ChinookDatabase, run: str | None) -> bool:
    with Session(shop.engine) as session, session.begin():
        return undo(session, run or "").existed


def runs(shop: ChinookDatabase) -> list[tuple[Any, ...]]:
    return shop.rows(
        "SELECT run_id, kind, key, sales, undone_at IS NOT NULL FROM chinook_sim_run "
        "WHERE kind <> 'baseline' ORDER BY created_at, last_invoice_id"
    )


@on_each_shape
def test_a_batch_stands_in_the_ledger(shop: ChinookDatabase) -> None:
    made = make(shop, seed=7, key="a job's run")
    (row,) = shop.rows(
        "SELECT run_id, key, day, timezone, requested, seed, profile, sales, lines, revenue, "
        "digest, first_invoice_id, last_invoice_id, hours, version "
        "FROM chinook_sim_run WHERE kind = 'generate'"
    )
    assert row[:2] == (made.run_id, "a job's run")
    assert str(row[2]) == str(DAY)
    assert row[3:9] == (None, 20, 7, "uniform", 20, made.lines)
    assert round(float(row[9]) * 100) == made.revenue * 100
    assert row[10:13] == (made.digest, made.invoice_ids[0], made.invoice_ids[-1])
    assert tuple(json.loads(row[13])) == made.hours
    assert row[14] == "0.1.0"
    ranges = shop.rows(
        "SELECT run_id, first_id, last_id, step, length(fingerprints) FROM chinook_sim_run_invoices"
    )
    assert ranges == [(made.run_id, row[11], row[12], 1, 16 * made.count)]


@on_each_shape_unmigrated
def test_without_a_ledger_sales_are_made_but_not_once(shop: ChinookDatabase) -> None:
    assert make(shop).run_id is None
    requests: list[dict[str, Any]] = [{"once": True}, {"key": "k"}]
    for wanted in requests:
        with pytest.raises(NoLedger, match="init"):
            make(shop, **wanted)
    assert shop.value("SELECT count(*) FROM [Invoice]") == 50


@on_each_shape
def test_what_is_rolled_back_is_in_no_ledger(shop: ChinookDatabase) -> None:
    with Session(shop.engine) as session:
        generate_d1(session, 5, day=DAY, once=True)
        session.rollback()
    assert runs(shop) == []
    assert not make(shop, once=True).existed


@on_each_shape
def test_a_day_asked_for_again_is_there_already(shop: ChinookDatabase) -> None:
    first = make(shop, once=True)
    requests: list[dict[str, Any]] = [{}, {"seed": first.seed}]
    for wanted in requests:
        again = make(shop, once=True, **wanted)
        assert again == replace(first, existed=True)
    assert shop.value("SELECT count(*) FROM [Invoice]") == 50
    assert len(runs(shop)) == 1
    # Another day, and the same day without a key, are other requests.
    assert not make(shop, once=True, day=DAY + timedelta(days=1)).existed
    assert not make(shop).existed


@on_each_shape
def test_a_key_stands_for_one_request(shop: ChinookDatabase) -> None:
    make(shop, key="job", seed=7)
    assert make(shop, key="job").existed
    others: list[tuple[dict[str, Any], str, str]] = [
        ({"n": 21}, "number of sales", "number of sales 20, not 21"),
        ({"seed": 8}, "seed", "seed 7, not 8"),
        ({"day": date(2026, 2, 1)}, "day", "day 2026-01-31, not 2026-02-01"),
    ]
    for wanted, name, told in others:
        with pytest.raises(KeyTaken, match=told) as caught:
            make(shop, **{"key": "job", **wanted})
        assert list(caught.value.differences) == [name]
        assert caught.value.key == "job"
    assert len(runs(shop)) == 1


@pytest.mark.parametrize("key", ["", " ", "x" * 201, "two\nlines", "once:2026-01-31", 7])
def test_a_key_is_short_and_printable(key: Any) -> None:
    with pytest.raises(InvalidInput, match="key"):
        generate_d1(None, 1, key=key)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="once"):
        generate_d1(None, 1, key="a", once=True)  # type: ignore[arg-type]


@on_each_shape
def test_a_factory_s_batches_stand_in_the_ledger(shop: ChinookDatabase) -> None:
    with Session(shop.engine) as session, session.begin():
        factory = SaleFactory(session, seed=3)
        factory.create_batch(5, DAY)
        second = factory.create_batch(5, DAY)
    assert [row[3] for row in runs(shop)] == [5, 5]
    found = shop.rows(f"SELECT parameters FROM chinook_sim_run WHERE run_id = '{second.run_id}'")
    assert found == [('{"start": 5}',)]


# --- undo --------------------------------------------------------------------------------------


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
    before = [shop.rows(question) for question in kept]
    assert not take_back(shop, (first.run_id or "")[:8])
    assert [shop.rows(question) for question in kept] == before
    assert shop.value("SELECT count(*) FROM [Invoice]") == 30 + 5 + 7
    assert [row[4] for row in runs(shop)] == [False, True, False]
    # Again it is done already; and its key is free.
    assert take_back(shop, first.run_id)
    assert not make(shop, 30, once=True).existed
    take_back(shop, later.run_id)


@on_each_postgresql_shape
def test_interleaved_runs_are_told_apart(shop: ChinookDatabase) -> None:
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


@on_each_shape
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


@on_each_shape
@pytest.mark.parametrize(
    ("table", "key"), [("Invoice", "InvoiceId"), ("InvoiceLine", "InvoiceLineId")]
)
def test_rows_of_others_are_not_taken_along(shop: ChinookDatabase, table: str, key: str) -> None:
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


@on_each_shape
@pytest.mark.parametrize("rule", ["ON DELETE CASCADE", ""])
def test_a_key_of_two_columns_is_followed_whole(shop: ChinookDatabase, rule: str) -> None:
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


@on_each_postgresql_shape
def test_a_row_that_refers_to_a_line_meanwhile_is_not_taken_along(shop: ChinookDatabase) -> None:
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
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            while not shop.value(waiting) and not undoing.done():
                time.sleep(0.01)
        with pytest.raises(UndoRefused, match="shipment"):
            undoing.result(timeout=60)
    assert shop.value("SELECT count(*) FROM shipment") == 1


@on_each_shape
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


@on_each_shape
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


def test_all_of_it_works_off_the_search_path(server: Server) -> None:
    for shape in SHAPES[:4]:
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


# --- align -------------------------------------------------------------------------------------


def dates(shop: ChinookDatabase, where: str = "1 = 1") -> dict[int, str]:
    rows = shop.rows(f"SELECT [InvoiceId], [InvoiceDate] FROM [Invoice] WHERE {where}")
    return {number: str(moment) for number, moment in rows}


@on_each_shape
def test_the_history_is_moved_up_and_back(shop: ChinookDatabase) -> None:
    sold = make(shop, 40)
    if shop.server:
        shop.rows(f"SELECT simulate_new_sale('{DAY}')")
    before = shop.snapshot()
    old = dates(shop, "[InvoiceId] <= 30")
    with Session(shop.engine) as session, session.begin():
        planned = align(session, dry_run=True)
    assert shop.snapshot() == before
    assert (planned.invoices, planned.run_id) == (30, None)
    with Session(shop.engine) as session, session.begin():
        moved = align(session)
        target = d1(session.connection()) - timedelta(days=1)
    assert replace(moved, run_id=None) == planned
    assert moved.target == target
    new = dates(shop, "[InvoiceId] <= 30")
    assert max(new.values()) == f"{target} 00:00:00"
    shift = {
        date.fromisoformat(new[number][:10]) - date.fromisoformat(old[number][:10])
        for number in old
    }
    assert shift == {timedelta(days=moved.days)}
    assert {number: moment[:10] for number, moment in dates(shop, "[InvoiceId] > 30").items()} == (
        dict.fromkeys(dates(shop, "[InvoiceId] > 30"), str(DAY))
    )
    with Session(shop.engine) as session, session.begin():
        assert align(session) == replace(moved, existed=True)
    make(shop, 5)
    take_back(shop, moved.run_id)
    assert dates(shop, "[InvoiceId] <= 30") == old
    assert dates(shop)[sold.invoice_ids[0]][:10] == str(DAY)
    with Session(shop.engine) as session, session.begin():
        assert not align(session).existed


@on_each_shape_unmigrated
def test_sales_from_before_the_ledger_are_not_history(shop: ChinookDatabase) -> None:
    """They have a time of day; the invoices of every Chinook are dated at midnight."""
    made = make(shop, 50)
    # One in 86,400 of them is at midnight too.
    shop.execute(
        f"UPDATE [Invoice] SET [InvoiceDate] = '{DAY} 00:00:00' "
        f"WHERE [InvoiceId] = {made.invoice_ids[7]}"
    )
    with shop.engine.begin() as connection:
        upgrade(connection)
    sold = dates(shop, "[InvoiceId] > 30")
    with Session(shop.engine) as session, session.begin():
        assert align(session).invoices == 30
    assert dates(shop, "[InvoiceId] > 30") == sold


@on_each_shape
def test_sales_on_a_day_of_the_history_are_told_apart(shop: ChinookDatabase) -> None:
    # As if there had been more invoices once: only the ledger's ids tell then.
    shop.execute("UPDATE chinook_sim_run SET last_invoice_id = 1000 WHERE kind = 'baseline'")
    day = date.fromisoformat(min(dates(shop).values())[:10])
    make(shop, 50, day=day)
    sold = dates(shop, "[InvoiceId] > 30")
    with Session(shop.engine) as session, session.begin():
        assert align(session).invoices == 30
    assert dates(shop, "[InvoiceId] > 30") == sold


@on_each_shape
@pytest.mark.parametrize(
    "change",
    [
        "UPDATE [Invoice] SET [InvoiceDate] = '2030-01-01 12:00:00' WHERE [InvoiceId] = 3",
        "UPDATE [Invoice] SET [InvoiceDate] = '2020-02-03 00:00:00' WHERE [InvoiceId] = 3",
        "DELETE FROM [InvoiceLine] WHERE [InvoiceId] = 3;"
        "DELETE FROM [Invoice] WHERE [InvoiceId] = 3",
    ],
    ids=["to a time of day", "to another day", "deleted"],
)
def test_a_history_that_was_dated_anew_is_not_moved_back(
    shop: ChinookDatabase, change: str
) -> None:
    with Session(shop.engine) as session, session.begin():
        moved = align(session)
    shop.execute(*change.split(";"))
    before = dates(shop)
    with pytest.raises(UndoRefused, match="got another date or were deleted"):
        take_back(shop, moved.run_id)
    assert dates(shop) == before


@on_each_shape
def test_a_history_of_which_a_run_cancelled_invoices_is_moved_back_after_it(
    shop: ChinookDatabase,
) -> None:
    before = dates(shop)
    with Session(shop.engine) as session, session.begin():
        moved = align(session)
    with Session(shop.engine) as session, session.begin():
        gone = simulate_changes(session, cancellations=3)
    with pytest.raises(
        UndoRefused, match=f"3 of .* cancelled since; undo run {str(gone.run_id)[:8]} first"
    ):
        take_back(shop, moved.run_id)
    take_back(shop, gone.run_id)
    take_back(shop, moved.run_id)
    assert dates(shop) == before


@on_each_shape_unmigrated
def test_in_a_shop_that_was_empty_at_first_nothing_is_history(shop: ChinookDatabase) -> None:
    shop.execute("DELETE FROM [InvoiceLine]", "DELETE FROM [Invoice]")
    with shop.engine.begin() as connection:
        upgrade(connection)
    with Session(shop.engine) as session, session.begin():
        SaleFactory(session).create(datetime(2026, 1, 29))  # noqa: DTZ001
    with Session(shop.engine) as session, session.begin():
        assert align(session).invoices == 0


@on_each_shape
def test_a_shop_without_history_has_nothing_to_move(shop: ChinookDatabase) -> None:
    shop.execute("DELETE FROM [InvoiceLine]", "DELETE FROM [Invoice]")
    with Session(shop.engine) as session, session.begin():
        moved = align(session)
    assert (moved.days, moved.invoices, moved.run_id) == (0, 0, None)


@on_each_shape_unmigrated
def test_without_a_ledger_nothing_is_moved_or_undone(shop: ChinookDatabase) -> None:
    with Session(shop.engine) as session:
        with pytest.raises(NoLedger):
            align(session)
        with pytest.raises(NoLedger):
            undo(session, "12345678")


# --- ids ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("distance", [5, 1_500_000])
@pytest.mark.parametrize(
    "shop",
    parameters(
        [
            case
            for case in (*cases(), *cases(migrated=True))
            if case.major and (case.shape.ids or case.migrated)
        ]
    ),
    indirect=True,
)
def test_a_sequence_behind_its_table_is_moved_forward(shop: ChinookDatabase, distance: int) -> None:
    always = "OVERRIDING SYSTEM VALUE" if "ALWAYS" in shop.shape.ids else ""
    shop.execute(
        "INSERT INTO [Invoice] ([InvoiceId], [CustomerId], [InvoiceDate], [Total]) "
        f"{always} VALUES ({30 + distance}, 5, '2020-01-01', 0.99)",
        "INSERT INTO [InvoiceLine] ([InvoiceLineId], [InvoiceId], [TrackId], [UnitPrice], "
        f"[Quantity]) {always} SELECT max([InvoiceLineId]) + {distance}, {30 + distance}, 3, 0.99, "
        "1 FROM [InvoiceLine]",
    )
    assert make(shop, 10).invoice_ids[0] == 31 + distance
    with Session(shop.engine) as session, session.begin():
        assert SaleFactory(session).create(DAY).invoice_id == 41 + distance
    shop.execute(
        "INSERT INTO [Invoice] ([InvoiceId], [CustomerId], [InvoiceDate], [Total]) "
        f"{always} VALUES ({42 + distance}, 5, '2020-01-01', 0.99)"
    )
    with Session(shop.engine) as session, session.begin():
        assert SaleFactory(session).create(DAY).invoice_id == 43 + distance
    if shop.shape.ids:
        assert shop.insert_by_default() == 44 + distance


@on_each_postgresql_shape
def test_a_sequence_that_was_restarted_is_moved_forward(shop: ChinookDatabase) -> None:
    source = "invoice_id_seq" if not shop.shape.gives_ids else "invoice_invoice_id_seq"
    shop.execute(f"ALTER SEQUENCE {source} RESTART")
    assert make(shop, 3).invoice_ids[0] == 31
    shop.execute(f"ALTER SEQUENCE {source} RESTART WITH 500")
    assert make(shop, 3).invoice_ids[0] in (500, 501)


# --- lost answers ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shop",
    # It takes five seconds to give up waiting.
    parameters([case for case in cases(migrated=True) if case.shape.name == "postgres-neon"]),
    indirect=True,
)
@pytest.mark.parametrize("ending", ["committed", "rolled back", "left hanging"])
def test_the_outcome_of_a_lost_commit_is_found(shop: ChinookDatabase, ending: str) -> None:
    writer = create_engine(shop.url, poolclass=NullPool).connect()
    writer.begin()
    with Session(writer) as session:
        run = generate_d1(session, 5, day=DAY).run_id or ""
    backend = server_transaction_of(writer)
    if ending == "committed":
        writer.commit()
    if ending == "rolled back":
        writer.rollback()
    with shop.engine.connect() as connection:
        # The one that hangs is ended: it must not commit after we said that it did not.
        assert resolve_commit_outcome(connection, run, backend) is (ending == "committed")
    if ending == "left hanging":
        with pytest.raises(Exception, match=r"terminat|closed|consum"):
            writer.execute(text("SELECT 1"))
    writer.invalidate()
    assert len(runs(shop)) == (ending == "committed")
    found = shop.value("SELECT count(*) FROM [Invoice]")
    assert found == (35 if ending == "committed" else 30)


@on_each_postgresql_shape
def test_a_batch_that_cannot_be_serialized_says_so(shop: ChinookDatabase) -> None:
    """Two ask for one key at once, where a transaction sees only what was before it began."""
    engine = create_engine(shop.url, poolclass=NullPool, isolation_level="REPEATABLE READ")
    with Session(engine) as late:
        late.connection().execute(text("SELECT 1 FROM chinook_sim_run"))
        make(shop, once=True)
        with pytest.raises(BatchFailed) as caught:
            generate_d1(late, 20, day=DAY, once=True)
        assert caught.value.sqlstate in ("23505", "40001")
        late.rollback()
    assert len(runs(shop)) == 1


def test_tables_made_by_sqlalchemy_have_the_key_too(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom sqlalchemy import create_engine, inspect\n"
        "from chinook_sim import Base\nengine = create_engine(sys.argv[1])\n"
        "Base.metadata.create_all(engine)\n"
        "print(inspect(engine).get_indexes('chinook_sim_run')[0]['name'])"
    )
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    done = subprocess.run(
        [sys.executable, "-c", code, url], capture_output=True, text=True, check=True
    )
    assert done.stdout == "chinook_sim_run_key\n"


@on_each_sqlite_shape
def test_each_column_of_the_ledger_has_one_storage_class(shop: ChinookDatabase) -> None:
    # Prices of whole dollars beside others, and rows of every kind of run.
    shop.execute("UPDATE [Track] SET [UnitPrice] = 1 WHERE [TrackId] % 2 = 0")
    with Session(shop.engine) as session, session.begin():
        align(session)
    for number in range(12):
        made = make(shop, 1, seed=number, key=str(number), timezone="Europe/Paris")
    take_back(shop, made.run_id)
    make(shop, 0)
    make(shop, 20, late=0.5, profile="realistic", new_customers=2, moves=2, price_changes=5)
    make(shop, 20, updates=3, cancellations=3)
    with Session(shop.engine) as session, session.begin():
        simulate_changes(session, updates=2, cancellations=2)
        SaleFactory(session).create_batch(3, day=DAY)
    list(backfill(shop.engine, DAY - timedelta(days=3), DAY - timedelta(days=1), 5, seed=1))
    list(live(shop.engine, 200, seed=7, mix=(6, 3, 1), duration=0.2))
    assert any(revenue % 1 == 0 for (revenue,) in shop.rows("SELECT revenue FROM chinook_sim_run"))
    with shop.engine.connect() as connection:
        found = inspect(connection)
        columns = [
            (table, column["name"])
            for table in found.get_table_names()
            # Nothing was made in a shop that was there, so nothing is noted as made.
            if table.startswith("chinook_sim_") and table != "chinook_sim_created_table"
            for column in found.get_columns(table)
        ]
    kinds = {
        f"{table}.{column}": {
            kind
            for (kind,) in shop.rows(
                f"SELECT DISTINCT typeof({column}) FROM {table} WHERE {column} IS NOT NULL"
            )
        }
        for table, column in columns
    }
    assert [column for column, classes in kinds.items() if len(classes) > 1] == []
    assert [column for column, classes in kinds.items() if not classes] == []
    assert kinds["chinook_sim_run.revenue"] == {"real"}
    assert kinds["chinook_sim_run.day"] == {"text"}
    assert kinds["chinook_sim_run_invoices.fingerprints"] == {"blob"}
    # The shop's own columns have what they are declared as; the documented queries have one class.
    guide = (ROOT / "docs" / "how-to" / "read-sqlite.md").read_text(encoding="utf-8")
    cast, cents = re.findall(r"```sql\n(.*?);\n```", guide, re.DOTALL)
    assert {type(row[2]) for row in shop.rows(cast)} == {float}
    assert {type(row[1]) for row in shop.rows(cents)} == {int}
    assert len(shop.rows("SELECT DISTINCT typeof([Total]) FROM [Invoice]")) == 2
