"""Runs are selected by day, kind, key and range: to be listed, and to be undone together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

from chinook_sim import (
    InvalidInput,
    SaleFactory,
    UndoRefused,
    UndoResult,
    align,
    backfill,
    generate_d1,
    invoice_history,
    live,
    simulate_changes,
    undo,
)
from chinook_sim.database.introspection import recognise
from chinook_sim.ledger.listing import count_listings, latest_runs
from chinook_sim.operations import undo as undoing
from chinook_sim.verification import verify_all
from support.cases import alternating_versions, on_both_databases, on_each_shape, parameters
from support.processes import Popen

if TYPE_CHECKING:
    from chinook_sim import InvoiceHistory
    from chinook_sim.sales.summary import BatchSummary
    from support.command import Answer, Command
    from support.databases import ChinookDatabase

DAY = date(2026, 1, 31)
START = DAY - timedelta(days=4)

ids_can_be_moved = pytest.mark.parametrize(
    "shop",
    parameters(
        [case for case in alternating_versions(migrated=True) if "ALWAYS" not in case.shape.ids]
    ),
    indirect=True,
)


def make(shop: ChinookDatabase, n: int = 20, **wanted: Any) -> BatchSummary:
    with Session(shop.engine) as session, session.begin():
        return generate_d1(session, n, **{"day": DAY, **wanted})


def change(shop: ChinookDatabase, **wanted: Any) -> BatchSummary:
    with Session(shop.engine) as session, session.begin():
        return simulate_changes(session, **{"day": DAY, **wanted})


def take_back(shop: ChinookDatabase, *run: str, **selected: Any) -> UndoResult:
    with Session(shop.engine) as session, session.begin():
        return undo(session, *run, **selected)


def fill(shop: ChinookDatabase, n: int = 5) -> list[BatchSummary]:
    return list(backfill(shop.engine, START, DAY, n, seed=3))


def standing(shop: ChinookDatabase) -> int:
    return int(
        shop.value(
            "SELECT count(*) FROM chinook_sim_run WHERE kind <> 'baseline' AND undone_at IS NULL"
        )
    )


def assert_sound(shop: ChinookDatabase) -> None:
    with shop.engine.connect() as connection:
        assert [it for it in verify_all(connection) if not it.passed] == []


def history(shop: ChinookDatabase, invoice: int) -> InvoiceHistory:
    with shop.engine.connect() as connection:
        return invoice_history(connection, invoice)


# --- listing -----------------------------------------------------------------------------------


@on_each_shape
def test_runs_are_listed_by_day_and_kind(shop: ChinookDatabase) -> None:
    days = fill(shop)
    mine = make(shop, 3, key="mine")
    changed = change(shop, updates=2)
    with Session(shop.engine) as session, session.begin():
        align(session)

    def listed(limit: int | None = None, **selected: Any) -> set[str]:
        with shop.engine.connect() as connection:
            recognise(connection)
            found = [run.run for run in latest_runs(connection, limit, **selected)]
            if limit is None:
                assert count_listings(connection, **selected) == len(found)
            return set(found)

    assert len(listed()) == 8
    assert len(listed(3)) == 3
    assert listed(day=DAY) == {days[-1].run_id, mine.run_id, changed.run_id}
    assert listed(day=START) == {days[0].run_id}
    assert listed(kinds=["changes"], day=DAY) == {changed.run_id}
    assert len(listed(kinds=["changes", "align"])) == 2
    assert listed(kinds=["changes"], day=START) == set()
    assert len(listed(2, kinds=["generate"])) == 2
    # The order is that in which they were made: the last one is first in the list of its day.
    take_back(shop, str(changed.run_id))
    assert listed(day=DAY) == {days[-1].run_id, mine.run_id, changed.run_id}


@on_both_databases
def test_a_stream_is_listed_with_the_transactions_of_the_day(shop: ChinookDatabase) -> None:
    batches = []
    for batch in live(shop.engine, 400, seed=7, mix=(1, 0, 0)):
        batches.append(batch.made)
        if len(batches) == 4:
            break
    shop.execute(
        f"UPDATE chinook_sim_run SET day = '{DAY}' WHERE run_id IN "
        f"('{batches[0].run_id}', '{batches[1].run_id}')"
    )
    make(shop, 2)
    with shop.engine.connect() as connection:
        recognise(connection)
        (stream,) = latest_runs(connection, day=DAY, kinds=["live"])
        (all_of_it,) = latest_runs(connection, kinds=["live"])
        assert count_listings(connection) == 2
    assert stream.sales == sum(it.count for it in batches[:2])
    assert all_of_it.sales == sum(it.count for it in batches)
    assert (stream.run, stream.day) == (str(batches[0].key).split("/")[0], DAY)


# --- undoing -----------------------------------------------------------------------------------


@on_each_shape
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
    assert done.witness in done.runs
    assert_sound(shop)
    # Sales at the prices of before are sound, too.
    make(shop, 20, once=True)
    assert_sound(shop)


@on_both_databases
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
        monkeypatch.setattr(undoing, "RUNS", runs)
        monkeypatch.setattr(undoing, "SALES", sales)
        with Session(shop.engine) as session:
            assert len(undo(session, day=DAY).runs) == 8
            session.rollback()
    monkeypatch.setattr(undoing, "SALES", 25)
    take_back(shop, day=DAY)
    assert shop.snapshot() == before


@on_each_shape
def test_a_day_that_others_changed_is_not_undone(shop: ChinookDatabase) -> None:
    make(shop, 10, once=True)
    make(shop, 10)
    later = make(shop, 5, day=DAY + timedelta(days=1), updates=15)
    there = shop.snapshot()
    with pytest.raises(UndoRefused, match=f"undo run {str(later.run_id)[:8]} first"):
        take_back(shop, day=DAY)
    assert (shop.snapshot(), standing(shop)) == (there, 3)
    take_back(shop, day=DAY + timedelta(days=1))
    shop.execute("UPDATE [Invoice] SET [Total] = [Total] + 1 WHERE [InvoiceId] = 45")
    with pytest.raises(UndoRefused, match="sales were changed"):
        take_back(shop, day=DAY)
    assert standing(shop) == 2


@on_each_shape
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
    assert standing(shop) == 1
    again = take_back(shop, backfill=days_of_it)
    assert (again.existed, again.runs, again.sales) == (True, (), 25)
    take_back(shop, str(mine.run_id))
    assert shop.snapshot() == before
    # The keys are free.
    assert not any(day.existed for day in fill(shop))


@on_each_shape
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
    assert standing(shop) == 6
    take_back(shop, str(other.run_id))
    assert take_back(shop, backfill=(START, DAY), limit=1).left == 4


@ids_can_be_moved
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
    with pytest.raises(UndoRefused, match=f"1 of run {run}'s 5 sales were cancelled"):
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


@on_each_shape
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
    with pytest.raises(InvalidInput, match=f"{made.run_id}.*{other.run_id}.*--key"):
        take_back(shop, beginning)
    assert take_back(shop, key=beginning).run_id == other.run_id
    make(shop, 5, key="job")
    change(shop, updates=1, key="job")
    with pytest.raises(InvalidInput, match=r"2 runs have the key 'job'.*generate"):
        take_back(shop, key="job")
    assert standing(shop) == 3


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
        ({"backfill": (START, START)}, "was made by backfill or with --once"),
    ]
    for selected, said in wrong:
        with pytest.raises(InvalidInput, match=said):
            take_back(shop, **selected)
    assert standing(shop) == 1
    with Session(shop.engine) as session, session.begin():
        moved = align(session)
    # It moved the history, whichever day that is: it is named to be undone.
    with pytest.raises(InvalidInput, match="no run has the day"):
        take_back(shop, day=moved.target)
    assert take_back(shop, "align").run_id == moved.run_id


# --- where an invoice comes from ---------------------------------------------------------------


@on_each_shape
def test_an_invoice_knows_its_run_and_its_changes(shop: ChinookDatabase) -> None:
    made = make(shop, 5, once=True, seed=1)
    first = made.invoice_ids[0]
    found = history(shop, first)
    assert (found.state, found.origin, found.changes) == ("exists", "run", ())
    assert found.made_by is not None
    assert (found.made_by.run_id, found.made_by.kind) == (made.run_id, "generate")
    assert (found.made_by.key, found.made_by.day) == (f"once:{DAY}", DAY)
    assert (found.made_by.undone_at, found.cancelled_by) == (None, None)
    total = found.total
    assert total is not None
    assert found.date is not None
    assert found.date.date() == DAY
    # All that there are, twice; then cancelled.
    updates = [change(shop, updates=100, seed=seed) for seed in (2, 3)]
    undone = change(shop, cancellations=100, seed=4)
    take_back(shop, str(undone.run_id))
    found = history(shop, first)
    assert found.state == "exists"
    assert [it.run.run_id for it in found.changes] == [
        *(it.run_id for it in updates),
        undone.run_id,
    ]
    assert [it.kind for it in found.changes] == ["update", "update", "cancellation"]
    assert [it.run.undone_at is None for it in found.changes] == [True, True, False]
    totals = [(it.total_before, it.total_after) for it in found.changes]
    assert totals[0][0] == total
    assert totals[0][1] == totals[1][0]
    assert totals[1][1] == totals[2][0] == found.total
    assert totals[2][1] is None
    assert all(isinstance(it, Decimal) for pair in totals for it in pair if it is not None)
    cancelled = change(shop, cancellations=100, seed=5)
    found = history(shop, first)
    assert (found.state, found.total) == ("cancelled", None)
    assert found.cancelled_by is not None
    assert found.cancelled_by.run_id == cancelled.run_id
    for run in (cancelled, *reversed(updates), made):
        take_back(shop, str(run.run_id))
    found = history(shop, first)
    assert found.state == "undone"
    assert found.made_by is not None
    assert found.made_by.run_id == made.run_id
    assert found.made_by.undone_at is not None
    assert (found.cancelled_by, len(found.changes)) == (None, 4)


@on_each_shape
def test_an_invoice_that_no_run_made(shop: ChinookDatabase) -> None:
    assert history(shop, 3).origin == "before the ledger"
    with Session(shop.engine) as session, session.begin():
        moved = align(session)
    found = history(shop, 3)
    assert [(it.run.run_id, it.days) for it in found.alignments] == [(moved.run_id, moved.days)]
    assert (found.state, found.made_by, found.changes) == ("exists", None, ())
    with Session(shop.engine) as session, session.begin():
        mine = SaleFactory(session).create(datetime(2026, 1, 29)).invoice_id  # noqa: DTZ001
    found = history(shop, mine)
    assert (found.state, found.origin, found.made_by) == ("exists", "not recorded", None)
    sold = make(shop, 3).invoice_ids[1]
    for number in (sold, 3):
        for table in ("InvoiceLine", "Invoice"):
            shop.execute(f"DELETE FROM [{table}] WHERE [InvoiceId] = {number}")
        assert history(shop, number).state == "deleted"
    for unknown in (0, 99_999, 2**63 - 1):
        found = history(shop, unknown)
        assert (found.state, found.origin, found.made_by) == ("unknown", "unknown", None)
    for wrong in (-1, 2**63, "7", 1.0, True):
        with pytest.raises(InvalidInput, match="invoice id"):
            history(shop, wrong)  # type: ignore[arg-type]


# --- the command -------------------------------------------------------------------------------


def answer(done: Answer) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@on_both_databases
def test_status_selects_runs(shop: ChinookDatabase, command: Command) -> None:
    fill(shop)
    list(backfill(shop.engine, START - timedelta(days=20), START, 1))
    make(shop, 2)
    change(shop, updates=2)
    url = shop.text

    def status(*options: str) -> tuple[int, int]:
        found = answer(command("status", "--json", *options, DATABASE_URL=url))
        return found["matching_runs"], len(found["latest_runs"])

    assert status() == (27, 10)
    assert status("--limit", "0") == (27, 27)
    assert status("--limit", "27") == (27, 27)
    assert status("--day", str(DAY)) == (3, 3)
    assert status("--day", str(DAY), "--kind", "changes", "--kind", "align") == (1, 1)
    assert status("--kind", "generate", "--limit", "2") == (26, 2)
    assert status("--kind", "live") == (0, 0)
    shown = command("status", "--day", str(DAY), "--limit", "2", DATABASE_URL=url).stdout
    assert f"the latest 2 of 3 runs of {DAY}; --limit N lists more, --limit 0 all" in shown
    assert "no runs of kind live or align of 2020-01-01" in (
        command(
            *("status", "--kind", "live", "--kind", "align", "--day", "2020-01-01"),
            DATABASE_URL=url,
        ).stdout
    )
    for wrong in (
        ("--day", "yesterday"),
        ("--kind", "sales"),
        ("--limit", "-1"),
        ("--limit", "ten"),
        ("--invoice", "x"),
        ("--invoice", "-1"),
        ("--invoice", "5", "--limit", "3"),
        ("--invoice", "5", "--kind", "live"),
    ):
        done = command("status", *wrong, DATABASE_URL=url)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), wrong


@on_both_databases
def test_status_shows_an_invoice(shop: ChinookDatabase, command: Command) -> None:
    made = make(shop, 5, once=True)
    changed = change(shop, updates=100)
    first = made.invoice_ids[0]
    # What is set for other commands is not in the way.
    environment = {"DATABASE_URL": shop.text, "CHINOOK_SIM_DAY": str(DAY)}
    found = answer(command("status", "--invoice", str(first), "--json", **environment))
    assert (found["invoice"], found["state"], found["origin"]) == (first, "exists", "run")
    assert found["made_by"]["run"] == made.run_id
    assert found["made_by"]["undone"] is None
    (update,) = found["changes"]
    assert (update["kind"], update["run"], update["day"]) == (
        "update",
        changed.run_id,
        str(DAY),
    )
    assert update["total_after"] == found["total"] != update["total_before"]
    shown = command("status", "--invoice", str(first), **environment).stdout
    assert f"run {made.run_id}" in shown
    assert str(changed.run_id)[:8] in shown
    for number, said in ((2, "older than the ledger"), (777, "there is no such invoice")):
        done = command("status", "--invoice", str(number), **environment)
        assert done.returncode == 0
        assert said in done.stdout
    assert answer(command("status", "--invoice", "777", "--json", **environment))["state"] == (
        "unknown"
    )


@on_both_databases
def test_undo_takes_a_day_a_key_and_a_backfill(shop: ChinookDatabase, command: Command) -> None:
    before = shop.snapshot()
    fill(shop)
    make(shop, 3, key="job 1")
    url = shop.text
    # What is set for other commands selects nothing to be deleted.
    done = command("undo", DATABASE_URL=url, CHINOOK_SIM_DAY=str(DAY))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert answer(command("undo", "job 1", "--json", DATABASE_URL=url))["sales"] == 3
    assert answer(command("undo", "--key", "job 1", "--json", DATABASE_URL=url))["existed"]
    make(shop, 3)
    gone = answer(command("undo", "--day", str(DAY), "--json", DATABASE_URL=url))
    assert (gone["runs"], gone["sales"], gone["run"], gone["existed"]) == (2, 8, None, False)
    shown = command("undo", "--day", str(DAY), DATABASE_URL=url)
    assert (shown.returncode, "were undone before" in shown.stdout) == (0, True)
    period = ("--backfill", str(START), str(DAY))
    gone = answer(command("undo", *period, "--json", DATABASE_URL=url))
    assert (gone["runs"], gone["sales"], gone["existed"]) == (4, 20, False)
    assert shop.snapshot() == before
    shown = command("undo", *period, DATABASE_URL=url)
    assert (shown.returncode, "was undone before" in shown.stdout) == (0, True)
    for wrong in (
        (),
        ("abcd", "--day", str(DAY)),
        ("--day", str(DAY), *period),
        ("--key", "x", *period),
        ("--key", "x"),
        ("--day", "2020-01-01"),
        ("--day", "yesterday"),
        ("--backfill", str(DAY), str(START)),
        ("--backfill", str(DAY)),
        ("--backfill", "2020-01-01", "2020-12-31"),
    ):
        done = command("undo", *wrong, DATABASE_URL=url)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), wrong


@on_both_databases
def test_undoing_a_backfill_goes_on_where_it_ended(shop: ChinookDatabase, command: Command) -> None:
    before = shop.snapshot()
    first = DAY - timedelta(days=39)
    days = list(backfill(shop.engine, first, DAY, 2, seed=3))
    # Of the second transaction.
    of_it = f"WHERE [InvoiceId] = {days[3].invoice_ids[0]}"
    shop.execute(f"UPDATE [Invoice] SET [Total] = [Total] + 1 {of_it}")
    period = ("undo", "--backfill", str(first), str(DAY))
    done = command(*period, DATABASE_URL=shop.text)
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    assert "30 of 40 runs are undone; run the same command to continue" in done.stderr
    assert standing(shop) == 10
    shop.execute(f"UPDATE [Invoice] SET [Total] = [Total] - 1 {of_it}")
    gone = answer(command(*period, "--json", DATABASE_URL=shop.text))
    assert (gone["runs"], gone["sales"]) == (10, 20)
    assert shop.snapshot() == before


@on_both_databases
def test_an_interrupted_undoing_tells_how_far_it_came(
    shop: ChinookDatabase, command: Command
) -> None:
    before = shop.snapshot()
    first = DAY - timedelta(days=299)
    list(backfill(shop.engine, first, DAY, 30, seed=3))
    # Slow enough to be interrupted before the end on any machine.
    shop.execute(
        *(
            (
                "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
                "'BEGIN PERFORM pg_sleep(0.1); RETURN NULL; END'",
                "CREATE TRIGGER slow AFTER DELETE ON [Invoice] EXECUTE FUNCTION slow()",
            )
            if shop.server
            else (
                "CREATE TRIGGER slow AFTER DELETE ON [Invoice] BEGIN SELECT (WITH RECURSIVE n (i) "
                "AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) SELECT max(i) FROM n); "
                "END",
            )
        )
    )
    period = ("undo", "--backfill", str(first), str(DAY))
    process = Popen(
        [sys.executable, "-m", "chinook_sim", *period],
        env={**os.environ, "DATABASE_URL": shop.text},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 60
    while standing(shop) == 300:
        assert time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (130, "")
    assert f"{300 - standing(shop)} of 300 runs are undone; run the same command" in errors
    shop.execute("DROP TRIGGER slow" + (" ON [Invoice]" if shop.server else ""))
    gone = answer(command(*period, "--json", DATABASE_URL=shop.text))
    assert gone["runs"] < 300
    assert shop.snapshot() == before
