"""What runs did to invoices is captured, and undone exactly."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from chinook_sim import (
    UndoRefused,
    align,
    generate_d1,
    undo,
)
from chinook_sim.verification import verify_day
from support.cases import (
    on_both_databases,
    on_each_shape,
    on_each_sqlite_shape,
    on_three_shapes,
    on_two_postgresql_shapes,
)
from support.changes import DAY, change, failed, make, sales, tracks_of
from support.runs import take_back

if TYPE_CHECKING:
    from support.databases import ChinookDatabase


@on_each_shape
def test_undo_restores_exactly_what_was_there(shop: ChinookDatabase) -> None:
    make(shop)
    before = sales(shop)
    made = make(shop, updates=6, cancellations=4)
    assert sales(shop) != before
    take_back(shop, made.run_id)
    assert sales(shop) == before
    assert failed(shop, None) == []
    # And once more, from the same seed, the same is done to the same sales.
    again = make(shop, updates=6, cancellations=4)
    changed = "SELECT kind, subject_id FROM chinook_sim_change WHERE run_id = '{}' ORDER BY 1, 2"
    assert shop.rows(changed.format(again.run_id)) == shop.rows(changed.format(made.run_id))


@on_three_shapes
def test_the_ledger_keeps_what_was_and_what_became(shop: ChinookDatabase) -> None:
    make(shop)
    lines = shop.rows(
        "SELECT [InvoiceId], [InvoiceLineId] FROM [InvoiceLine] ORDER BY [InvoiceLineId]"
    )
    made = change(shop, updates=2, cancellations=2)
    rows = shop.rows(
        f"SELECT kind, subject_id, before, after FROM chinook_sim_change "
        f"WHERE run_id = '{made.run_id}' ORDER BY change_id"
    )
    assert [row[0] for row in rows] == ["cancellation"] * 2 + ["update"] * 2
    (key, total) = (shop.sql(f"[{name}]").strip('"') for name in ("InvoiceLineId", "Total"))
    for kind, number, before, after in rows:
        then = json.loads(before)
        assert [row[key] for row in then["InvoiceLine"]] == [
            line for invoice, line in lines if invoice == number
        ]
        if kind == "cancellation":
            assert after is None
        else:
            now = json.loads(after)
            assert len(now["InvoiceLine"]) == len(then["InvoiceLine"]) + 1
            assert round(now["Invoice"][0][total] * 100) == shop.value(
                "SELECT CAST(round([Total] * 100) AS INTEGER) FROM [Invoice] "
                f"WHERE [InvoiceId] = {number}"
            )


@on_three_shapes
def test_runs_are_undone_in_the_reverse_order(shop: ChinookDatabase) -> None:
    before = sales(shop)
    first = make(shop, 10)
    second = change(shop, updates=10, cancellations=0)
    third = change(shop, updates=0, cancellations=10)
    for run, later in ((first, (second, third)), (second, (third,))):
        with pytest.raises(UndoRefused) as refused:
            take_back(shop, run.run_id)
        for other in later:
            assert str(other.run_id)[:8] in str(refused.value)
    for run in (third, second, first):
        take_back(shop, run.run_id)
    assert sales(shop) == before


@on_three_shapes
def test_a_change_that_was_changed_by_hand_is_seen_and_not_undone(shop: ChinookDatabase) -> None:
    make(shop, 10)
    made = change(shop, updates=3, cancellations=2)
    updated, cancelled = (
        shop.value(
            "SELECT min(subject_id) FROM chinook_sim_change "
            f"WHERE run_id = '{made.run_id}' AND kind = '{kind}'"
        )
        for kind in ("update", "cancellation")
    )
    last = f"SELECT max([InvoiceLineId]) FROM [InvoiceLine] WHERE [InvoiceId] = {updated}"
    line = shop.value(last)
    of_it = f"WHERE [InvoiceId] = {updated}"
    for statement in (
        f"UPDATE [InvoiceLine] SET [UnitPrice] = 5.55 WHERE [InvoiceLineId] = {line}",
        f"UPDATE [Invoice] SET [Total] = [Total] + 1 WHERE [InvoiceId] = {updated}",
        f"DELETE FROM [InvoiceLine] WHERE [InvoiceLineId] = {line}",
        "UPDATE [Invoice] SET [CustomerId] = (SELECT max(c.[CustomerId]) FROM [Customer] c "
        "WHERE c.[CustomerId] <> [Invoice].[CustomerId]) " + of_it,
        "UPDATE [Invoice] SET [BillingCity] = 'Elsewhere' " + of_it,
        "UPDATE [Invoice] SET [BillingAddress] = NULL " + of_it,
        "UPDATE [Invoice] SET [BillingState] = 'XY' " + of_it,
    ):
        with shop.engine.connect() as connection:
            connection.execute(text(shop.sql(statement)))
            names = [check.name for check in verify_day(connection, DAY) if not check.passed]
            assert "updated invoices match the ledger" in names
            with (
                Session(connection) as session,
                pytest.raises(UndoRefused, match="changed since"),
            ):
                undo(session, str(made.run_id))
            connection.rollback()
    assert failed(shop) == []
    shop.execute(
        "INSERT INTO [Invoice] ([InvoiceId], [CustomerId], [InvoiceDate], [Total]) "
        f"{'OVERRIDING SYSTEM VALUE ' if shop.server else ''}"
        f"SELECT {cancelled}, min([CustomerId]), '2026-01-31 00:00:00', 1 FROM [Customer]"
    )
    assert "cancelled invoices are deleted" in failed(shop)
    with pytest.raises(UndoRefused, match=f"invoice {cancelled}"):
        take_back(shop, made.run_id)


@on_three_shapes
def test_columns_of_the_owners_come_back_too(shop: ChinookDatabase) -> None:
    shop.execute(
        "ALTER TABLE [Invoice] ADD COLUMN note TEXT DEFAULT 'none'",
        "ALTER TABLE [InvoiceLine] ADD COLUMN weight DOUBLE PRECISION",
        "ALTER TABLE [Invoice] ADD COLUMN \"an :odd 100%% name\" TEXT DEFAULT 'x'",
    )
    make(shop, 10)
    shop.execute(
        "UPDATE [Invoice] SET note = 'a ''note'' with \\ and \"quotes\"' WHERE [InvoiceId] > 30",
        "UPDATE [InvoiceLine] SET weight = 0.1 + 0.2 WHERE [InvoiceId] > 30",
    )
    before = sales(shop)
    made = change(shop, updates=4, cancellations=4)
    # A column that a table gets later is left alone.
    shop.execute("ALTER TABLE [Invoice] ADD COLUMN later TEXT DEFAULT 'new'")
    assert failed(shop) == []
    take_back(shop, made.run_id)
    after = sales(shop)
    assert [row[:-1] for row in after["Invoice"]] == before["Invoice"]
    assert after["InvoiceLine"] == before["InvoiceLine"]


@on_two_postgresql_shapes
def test_what_json_can_spell_in_many_ways_comes_back_as_it_was(shop: ChinookDatabase) -> None:
    tables = ("Customer", "Invoice", "InvoiceLine")
    for table in tables:
        shop.execute(
            f"ALTER TABLE [{table}] ADD COLUMN note json "
            """DEFAULT '{"b":  1, "a":2,\n "b":3, "c": 1.50, "\\u00e9": "\\u00e9"}'""",
            f"ALTER TABLE [{table}] ADD COLUMN weight float8 DEFAULT '-0'",
            f"ALTER TABLE [{table}] ADD COLUMN marks integer ARRAY DEFAULT '{{1,2}}'",
            f"ALTER TABLE [{table}] ADD COLUMN odd json DEFAULT 'null'",
        )

    def spelled() -> list[Any]:
        return [shop.rows(f"SELECT t::text FROM [{table}] t ORDER BY 1") for table in tables]

    make(shop, 10)
    shop.execute(*(f"UPDATE [{table}] SET odd = NULL" for table in tables))
    before = spelled()
    assert '""b"":  1, ""a"":2' in before[0][0][0]
    made = make(shop, 10, updates=4, cancellations=4, moves=3)
    assert failed(shop) == failed(shop, None) == []
    take_back(shop, made.run_id)
    assert spelled() == before
    # Of a row that stayed, what holds the same is not put back: JSON's null, as which NULL is kept.
    shop.execute("UPDATE [Customer] SET odd = 'null'")
    before = spelled()
    made = change(shop, moves=3)
    assert spelled() != before
    take_back(shop, made.run_id)
    assert spelled() == before


@on_each_sqlite_shape
def test_infinities_come_back_too(shop: ChinookDatabase) -> None:
    for table in ("Invoice", "InvoiceLine"):
        shop.execute(f"ALTER TABLE [{table}] ADD COLUMN weight REAL DEFAULT 9e999")
    make(shop, 10)
    shop.execute("UPDATE [InvoiceLine] SET weight = -1e308 * 10 WHERE [InvoiceLineId] % 2 = 0")
    assert shop.rows("SELECT DISTINCT weight FROM [Invoice]") == [(float("inf"),)]
    before = sales(shop)
    made = make(shop, 10, updates=4, cancellations=4)
    assert failed(shop) == failed(shop, None) == []
    take_back(shop, made.run_id)
    assert sales(shop) == before
    assert failed(shop, None) == []


@on_each_shape
def test_ids_of_cancelled_sales_are_not_given_again(shop: ChinookDatabase) -> None:
    first = make(shop, 5)
    top = shop.value("SELECT max([InvoiceLineId]) FROM [InvoiceLine]")
    gone = change(shop, cancellations=5)
    assert gone.cancellations == 5
    second = make(shop, 5)
    assert second.invoice_ids[0] > first.invoice_ids[-1]
    lines = "SELECT min([InvoiceLineId]) FROM [InvoiceLine] WHERE [InvoiceId] >= "
    assert shop.value(f"{lines}{second.invoice_ids[0]}") > top
    take_back(shop, gone.run_id)
    assert {*first.invoice_ids, *second.invoice_ids} <= tracks_of(shop).keys()


@on_three_shapes
@pytest.mark.slow(reason="a rare order; test_model.py has any")
def test_the_history_moves_between_a_change_and_its_undoing(shop: ChinookDatabase) -> None:
    last = shop.value("SELECT max([InvoiceDate]) FROM [Invoice]")
    day = datetime.fromisoformat(str(last)).date()
    before = sales(shop)
    cancelled = change(shop, day=day, cancellations=1)
    updated = change(shop, day=day, updates=1)
    assert (cancelled.cancellations, updated.updates) == (1, 1)
    with Session(shop.engine) as session, session.begin():
        moved = align(session).run_id
    assert failed(shop, None) == []
    with pytest.raises(UndoRefused, match=f"undo run {str(moved)[:8]} first"):
        take_back(shop, cancelled.run_id)
    take_back(shop, updated.run_id)
    take_back(shop, moved)
    take_back(shop, cancelled.run_id)
    assert sales(shop) == before


@on_both_databases
def test_a_failing_batch_leaves_earlier_sales_as_they_were(shop: ChinookDatabase) -> None:
    make(shop)
    before = shop.snapshot()
    with Session(shop.engine) as session:
        with pytest.raises(RuntimeError, match="stop"), session.begin_nested():
            generate_d1(session, 5, day=DAY, updates=5, cancellations=5)
            raise RuntimeError("stop")
        session.rollback()
    assert shop.snapshot() == before
