"""Runs are undone together: those of a day, a key or a backfill."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

from chinook_sim import InvalidInput, UndoRefused, align, backfill, undo
from chinook_sim.operations import undo as undoing
from chinook_sim.verification import verify_all
from support.cases import alternating_versions, on_both_databases, on_three_shapes, on_variants
from support.runs import make
from support.selections import change, count_active_runs, fill, history, take_back

if TYPE_CHECKING:
    from support.databases import ChinookDatabase

pytestmark = pytest.mark.one_database

DAY = date(2026, 1, 31)
START = DAY - timedelta(days=4)

ids_can_be_moved = on_variants(
    [case for case in alternating_versions(migrated=True) if "ALWAYS" not in case.shape.ids]
)


def assert_sound(shop: ChinookDatabase) -> None:
    with shop.engine.connect() as connection:
        assert [it for it in verify_all(connection) if not it.passed] == []


@on_three_shapes
def test_a_day_is_undone_with_all_that_its_runs_did_to_each_other(shop: ChinookDatabase) -> None:
    fill(shop, 8)
    take_back(shop, f"once:{DAY}")
    before = shop.snapshot()
    ways = {"updates": 6, "cancellations": 4, "moves": 3, "price_changes": 6}
    runs = [
        make(shop, 30, once=True, seed=1, new_customers=4, **ways),
        change(shop, seed=2, new_customers=2, **ways),
        make(shop, 30, seed=3, **ways),
        change(shop, seed=4, **ways),
    ]
    again = (
        "SELECT count(DISTINCT subject) FROM (SELECT subject, subject_id FROM chinook_sim_change "
        "GROUP BY 1, 2 HAVING count(DISTINCT run_id) > 1) x"
    )
    assert shop.value(again) == 3, "the runs did not change the same things"
    done = take_back(shop, day=DAY)
    assert shop.snapshot() == before
    assert set(done.runs) == {run.run_id for run in runs}
    assert (done.sales, done.day, done.left, done.existed) == (60, DAY, 0, False)
    assert done.revenue == sum(run.revenue for run in runs)
    assert done.probe_run_id in done.runs
    assert_sound(shop)
    # Sales at the prices of before are sound, too.
    make(shop, 20, once=True)
    assert_sound(shop)


@on_both_databases
@pytest.mark.slow(reason="many sizes")
def test_a_day_is_undone_in_slices_of_any_size(
    shop: ChinookDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = shop.snapshot()
    for seed in range(8):
        make(shop, 10, seed=seed, updates=6, cancellations=2)
    # In the order of their ids, which says nothing of that of their changes.
    shop.execute("UPDATE chinook_sim_run SET created_at = '2026-01-01 00:00:00'")
    shop.execute("UPDATE chinook_sim_run SET last_invoice_id = NULL WHERE kind = 'generate'")
    for runs, sales in ((1, 500_000), (3, 500_000), (1_000, 25), (1_000, 500_000)):
        monkeypatch.setattr(undoing, "SLICE_RUNS", runs)
        monkeypatch.setattr(undoing, "SLICE_SALES", sales)
        with Session(shop.engine) as session:
            assert len(undo(session, day=DAY).runs) == 8
            session.rollback()
    monkeypatch.setattr(undoing, "SLICE_SALES", 25)
    take_back(shop, day=DAY)
    assert shop.snapshot() == before


@on_three_shapes
def test_a_day_that_others_changed_is_not_undone(shop: ChinookDatabase) -> None:
    make(shop, 10, once=True)
    make(shop, 10)
    later = make(shop, 5, day=DAY + timedelta(days=1), updates=15)
    there = shop.snapshot()
    with pytest.raises(UndoRefused, match=f"undo run {str(later.run_id)[:8]} first"):
        take_back(shop, day=DAY)
    assert (shop.snapshot(), count_active_runs(shop)) == (there, 3)
    take_back(shop, day=DAY + timedelta(days=1))
    shop.execute("UPDATE [Invoice] SET [Total] = [Total] + 1 WHERE [InvoiceId] = 45")
    with pytest.raises(UndoRefused, match="sales were changed"):
        take_back(shop, day=DAY)
    assert count_active_runs(shop) == 2


@on_three_shapes
def test_a_backfill_is_undone_at_once_or_in_parts(shop: ChinookDatabase) -> None:
    before = shop.snapshot()
    days = fill(shop)
    mine = make(shop, 3, day=START, key="mine")
    days_of_it = (START, DAY)
    with Session(shop.engine) as session:
        done = undo(session, backfill=days_of_it)
        assert (len(done.runs), done.sales, done.day) == (5, 25, START)
        session.rollback()
    lefts: list[int] = []
    while not lefts or lefts[-1]:
        done = take_back(shop, backfill=days_of_it, limit=2)
        lefts.append(done.left)
        if len(lefts) == 1:
            # The latest ones first.
            assert set(done.runs) == {days[-1].run_id, days[-2].run_id}
    assert lefts == [3, 1, 0]
    # A run under another key is no day of the backfill.
    assert count_active_runs(shop) == 1
    again = take_back(shop, backfill=days_of_it)
    assert (again.existed, again.runs, again.sales) == (True, (), 25)
    take_back(shop, str(mine.run_id))
    assert shop.snapshot() == before
    # The keys are free.
    assert not any(day.existed for day in fill(shop))


@on_both_databases
@pytest.mark.slow(reason="as of a day")
def test_nothing_of_a_backfill_is_undone_where_others_changed_any_of_it(
    shop: ChinookDatabase,
) -> None:
    days = fill(shop, 8)
    # Only what the first day sold.
    first = days[0].invoice_ids[0]
    other = change(shop, day=START, updates=35)
    assert history(shop, first).changes
    with pytest.raises(UndoRefused, match=f"undo run {str(other.run_id)[:8]} first"):
        take_back(shop, backfill=(START, DAY), limit=1)
    assert count_active_runs(shop) == 6
    take_back(shop, str(other.run_id))
    assert take_back(shop, backfill=(START, DAY), limit=1).left == 4


@ids_can_be_moved
@pytest.mark.slow(reason="test_undo.py has such ids")
def test_runs_whose_ids_take_turns_are_undone_together(shop: ChinookDatabase) -> None:
    """As processes that make days at the same time leave them."""
    before = shop.snapshot()
    first, second = (make(shop, 6, day=day, once=True) for day in (START, DAY))
    statements = []
    for number, old in enumerate([*first.invoice_ids, *second.invoice_ids]):
        new = 1001 + 2 * (number % 6) + number // 6
        statements += [
            f"UPDATE [{table}] SET [InvoiceId] = {new} WHERE [InvoiceId] = {old}"
            for table in ("Invoice", "InvoiceLine")
        ]
    for run, low in ((first, 1001), (second, 1002)):
        statements += [
            f"UPDATE chinook_sim_run SET first_invoice_id = {low}, last_invoice_id = {low + 10} "
            f"WHERE run_id = '{run.run_id}'",
            f"UPDATE chinook_sim_run_invoices SET first_id = {low}, last_id = {low + 10}, step = 2 "
            f"WHERE run_id = '{run.run_id}'",
        ]
    shop.execute(*(["SET session_replication_role = replica"] if shop.server else []), *statements)
    there = shop.snapshot()
    shop.execute("UPDATE [Invoice] SET [InvoiceDate] = '2026-01-31 00:00:00'")
    with pytest.raises(UndoRefused, match="sales were changed"):
        take_back(shop, backfill=(START, DAY))
    for number, *_, moment in [(row[0], row[2]) for row in there["Invoice"]]:
        shop.execute(
            f"UPDATE [Invoice] SET [InvoiceDate] = '{moment}' WHERE [InvoiceId] = {number}"
        )
    assert take_back(shop, backfill=(START, DAY)).sales == 12
    assert shop.snapshot() == before


@on_both_databases
def test_a_run_of_the_middle_that_was_cut_down_by_hand_is_named(shop: ChinookDatabase) -> None:
    days = fill(shop)
    gone = days[2].invoice_ids[1]
    for table in ("InvoiceLine", "Invoice"):
        shop.execute(f"DELETE FROM [{table}] WHERE [InvoiceId] = {gone}")
    run = str(days[2].run_id)[:8]
    with pytest.raises(UndoRefused, match=f"1 of run {run}'s 5 sales was .* delete the others"):
        take_back(shop, backfill=(START, DAY))
    # Where all of it is gone, there is nothing to lose.
    for table in ("InvoiceLine", "Invoice"):
        for number in days[2].invoice_ids:
            shop.execute(f"DELETE FROM [{table}] WHERE [InvoiceId] = {number}")
    shop.execute(
        f"UPDATE [InvoiceLine] SET [Quantity] = 2 WHERE [InvoiceId] = {days[3].invoice_ids[0]}"
    )
    with pytest.raises(UndoRefused, match="sales were changed"):
        take_back(shop, backfill=(START, DAY))
    shop.execute("UPDATE [InvoiceLine] SET [Quantity] = 1")
    shop.execute(
        f"UPDATE [InvoiceLine] SET [UnitPrice] = 7 WHERE [InvoiceId] = {days[4].invoice_ids[0]}"
    )
    with pytest.raises(UndoRefused, match=f"run {str(days[4].run_id)[:8]}, day {DAY}"):
        take_back(shop, backfill=(START, DAY))


@on_both_databases
@pytest.mark.slow(reason="a long backfill")
def test_a_backfill_is_undone_with_few_statements(shop: ChinookDatabase) -> None:
    statements = []
    event.listen(shop.engine, "before_cursor_execute", lambda *_: statements.append(1))
    needed = []
    for days in (5, 60):
        list(backfill(shop.engine, DAY - timedelta(days=days - 1), DAY, 3))
        statements.clear()
        assert len(take_back(shop, backfill=(date(2025, 1, 1), DAY)).runs) == days
        needed.append(len(statements))
    assert needed[0] == needed[1] < 40


@on_both_databases
def test_a_run_is_undone_by_its_key(shop: ChinookDatabase) -> None:
    made = make(shop, 5, key="job 7/a")
    night = make(shop, 5, once=True)
    assert take_back(shop, "job 7/a").run_id == made.run_id
    assert take_back(shop, key=f"once:{DAY}").run_id == night.run_id
    assert take_back(shop, f"once:{DAY}").existed
    # It stands for the run that stands, and not for one that was undone.
    later = make(shop, 6, once=True)
    done = take_back(shop, key=f"once:{DAY}")
    assert (done.run_id, done.sales, done.existed) == (later.run_id, 6, False)
    for unknown in ("job", "JOB 7/A", "job 7/", "%"):
        with pytest.raises(InvalidInput, match=r"no run has the key .*status"):
            take_back(shop, key=unknown)


@on_both_databases
def test_a_name_that_means_two_runs_is_refused(shop: ChinookDatabase) -> None:
    made = make(shop, 5)
    beginning = str(made.run_id)[:6]
    other = make(shop, 5, key=beginning)
    with pytest.raises(InvalidInput, match=f"{made.run_id}.*{other.run_id}.*by its key"):
        take_back(shop, beginning)
    assert take_back(shop, key=beginning).run_id == other.run_id
    make(shop, 5, key="job")
    change(shop, updates=1, key="job")
    with pytest.raises(InvalidInput, match=r"2 runs have the key 'job'.*generate"):
        take_back(shop, key="job")
    assert count_active_runs(shop) == 3


@on_both_databases
def test_runs_are_selected_in_one_way(shop: ChinookDatabase) -> None:
    make(shop, 5, once=True)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({}, "got none"),
        ({"key": "a", "day": DAY}, "got key and day"),
        ({"day": DAY, "limit": 0}, "limit"),
        ({"backfill": (DAY, START)}, "swap them"),
        ({"day": datetime(2026, 1, 31)}, "datetime.date"),  # noqa: DTZ001
        ({"day": START}, f"no run has the day {START}"),
        ({"backfill": (START, START)}, "was made by backfill or with once"),
    ]
    for selected, said in wrong:
        with pytest.raises(InvalidInput, match=said):
            take_back(shop, **selected)
    assert count_active_runs(shop) == 1
    with Session(shop.engine) as session, session.begin():
        moved = align(session)
    # It moved the history, whichever day that is: it is named to be undone.
    with pytest.raises(InvalidInput, match="no run has the day"):
        take_back(shop, day=moved.target)
    assert take_back(shop, "align").run_id == moved.run_id
