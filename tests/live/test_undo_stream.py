"""Live streams are undone, in slices and together with each other."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import islice
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from chinook_sim import (
    InvalidInput,
    UndoRefused,
    backfill,
    generate_d1,
    live,
    simulate_changes,
    undo,
)
from chinook_sim.operations import undo as undoing
from chinook_sim.verification import verify_all
from support.cases import on_both_databases
from support.live_streams import StepClock, sell
from support.runs import take_back

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chinook_sim.operations.live.worker import LiveBatch
    from support.databases import ChinookDatabase


def stream_name(batches: Sequence[LiveBatch]) -> str:
    return str(batches[0].made.key).split("/")[0]


@on_both_databases
@pytest.mark.slow(reason="a long stream")
def test_a_long_stream_is_undone_a_slice_at_a_time(
    shop: ChinookDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = shop.snapshot()
    batches: list[LiveBatch] = []
    clock = StepClock()
    # So many changes that sales are changed again, in the same slice and in others.
    for batch in live(shop.engine, 400, seed=7, mix=(2, 2, 1), clock=clock):
        batches.append(batch)
        clock.pass_by(0.1)
        if len(batches) == 10:
            break
    name = stream_name(batches)
    statements = []

    def count(*_: object) -> None:
        statements.append(1)

    event.listen(shop.engine, "before_cursor_execute", count)
    needed = {}
    for runs in (1_000, 3):
        monkeypatch.setattr(undoing, "SLICE_RUNS", runs)
        statements.clear()
        with Session(shop.engine) as session:
            assert undo(session, name).sales == sum(it.made.count for it in batches)
            session.flush()
            needed[runs] = len(statements)
            session.rollback()
    assert needed[1_000] < 65
    assert needed[3] < 4 * needed[1_000]
    # One in the middle, which its own run id names, if nothing later came to its sales.
    for it in reversed(batches[5:]):
        take_back(shop, str(it.made.run_id))
    take_back(shop, name.upper())
    assert shop.snapshot() == before
    with shop.engine.connect() as connection:
        assert all(it.passed for it in verify_all(connection))


@on_both_databases
@pytest.mark.slow(reason="many runs")
def test_a_stream_is_undone_after_prices_changed_and_other_days_were_made(
    shop: ChinookDatabase,
) -> None:
    """All of these had seen the changes of prices, and changed none of them."""
    with Session(shop.engine) as session, session.begin():
        generate_d1(session, 50, price_changes=3)
    before = shop.snapshot()
    batches = sell(shop, 60, mix=(4, 2, 1))
    first = date(2024, 1, 1)
    days = list(backfill(shop.engine, first, first + timedelta(days=1), 3))
    with Session(shop.engine) as session, session.begin():
        gone = undo(session, stream_name(batches))
    assert gone.sales == sum(it.made.count for it in batches)
    for day in days:
        take_back(shop, str(day.run_id))
    assert shop.snapshot() == before
    with shop.engine.connect() as connection:
        assert all(it.passed for it in verify_all(connection))


@on_both_databases
def test_what_was_changed_between_two_transactions_of_a_stream_is_not_lost(
    shop: ChinookDatabase,
) -> None:
    first = stream_name(sell(shop, 20, mix=(1, 0, 0)))
    changing = live(shop.engine, 400, seed=8, mix=(0, 1, 0))
    some = list(islice(changing, 4))
    # By hand, on every invoice there is.
    shop.execute("UPDATE [Invoice] SET [BillingCity] = 'Elsewhere'")
    again = (
        "SELECT count(*) FROM (SELECT subject_id FROM chinook_sim_change GROUP BY 1 "
        "HAVING count(DISTINCT run_id) > 1) x"
    )
    while shop.value(again) < 5:
        some.append(next(changing))
    changing.close()
    there = shop.snapshot()
    with pytest.raises(UndoRefused, match="changed since"):
        take_back(shop, stream_name(some))
    with pytest.raises(UndoRefused, match=stream_name(some)):
        take_back(shop, first)
    assert shop.snapshot() == there


@on_both_databases
@pytest.mark.slow(reason="two streams")
def test_streams_that_changed_each_others_sales_are_undone_the_later_first(
    shop: ChinookDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undoing, "SLICE_RUNS", 3)
    before = shop.snapshot()
    first = sell(shop, 60)
    between = shop.snapshot()
    second = sell(shop, 60, seed=8, mix=(1, 2, 1))
    there = shop.snapshot()
    with pytest.raises(UndoRefused, match=f"undo {stream_name(second)} first"):
        take_back(shop, stream_name(first))
    assert shop.snapshot() == there
    take_back(shop, stream_name(second))
    assert shop.snapshot() == between
    # A run that is no stream's is named as ever.
    with Session(shop.engine) as session, session.begin():
        other = simulate_changes(session, day=first[0].made.day, seed=9, updates=5)
    with pytest.raises(UndoRefused, match=f"undo run {str(other.run_id)[:8]} first"):
        take_back(shop, stream_name(first))
    take_back(shop, str(other.run_id))
    take_back(shop, stream_name(first))
    assert shop.snapshot() == before


@on_both_databases
@pytest.mark.slow(reason="test_undo.py has it of a run")
def test_a_stream_with_a_sale_that_was_tampered_with_is_not_undone(
    shop: ChinookDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undoing, "SLICE_RUNS", 3)
    batches = sell(shop, 60)
    name = stream_name(batches)
    changed = "SELECT subject_id FROM chinook_sim_change WHERE subject = 'invoice'"
    sold = shop.value(
        f"SELECT min([InvoiceId]) FROM [Invoice] WHERE [InvoiceId] > 30 "
        f"AND [InvoiceId] NOT IN ({changed})"
    )
    of_it = f"WHERE [InvoiceId] = {sold}"
    before = shop.snapshot()
    for statement, said in (
        (f"UPDATE [Invoice] SET [Total] = [Total] + 1 {of_it}", "sales were changed"),
        (f"UPDATE [InvoiceLine] SET [Quantity] = 2 {of_it}", "sales were changed"),
        (f"UPDATE [InvoiceLine] SET [TrackId] = 3 {of_it}", "sales were changed"),
        (f"DELETE FROM [InvoiceLine] {of_it}", "sales were changed"),
        (
            "UPDATE [Invoice] SET [CustomerId] = (SELECT min([CustomerId]) FROM [Customer] c "
            f"WHERE c.[CustomerId] <> [Invoice].[CustomerId]) {of_it}",
            "sales were changed",
        ),
    ):
        with shop.engine.connect() as connection:
            connection.execute(text(shop.sql(statement)))
            with Session(connection) as session, pytest.raises(UndoRefused, match=said):
                undo(session, name)
            connection.rollback()
    assert shop.snapshot() == before
    take_back(shop, name)
    assert shop.value("SELECT count(*) FROM [Invoice] WHERE [InvoiceId] > 30") == 0


@on_both_databases
def test_a_stream_must_be_given_by_its_complete_name(shop: ChinookDatabase) -> None:
    name = stream_name(sell(shop, 5))
    for part in (name[:8], name[:8].upper(), "live-", f"{name}/1", "live-%"):
        with pytest.raises(InvalidInput, match=r"give the complete name, .* lists them"):
            take_back(shop, part)
    other = "live-00000000"
    with pytest.raises(InvalidInput, match=f"there is no stream '{other}'"):
        take_back(shop, other)
    take_back(shop, name.upper())
