"""`align` moves the history, and back."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from chinook_sim import (
    InvalidInput,
    NoLedger,
    SaleFactory,
    UndoRefused,
    align,
    simulate_changes,
    undo,
)
from chinook_sim.database.clock import d1
from chinook_sim.provisioning.migration_runner import upgrade
from support.cases import (
    on_each_shape,
    on_each_sqlite_shape_unmigrated,
    on_three_shapes,
    on_three_shapes_unmigrated,
)
from support.runs import make, take_back

if TYPE_CHECKING:
    from support.command import Command
    from support.databases import ChinookDatabase

DAY = date(2026, 1, 31)


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


@on_each_sqlite_shape_unmigrated
@pytest.mark.parametrize(
    "form",
    [
        *(
            pytest.param(form, marks=pytest.mark.slow(reason="mixed forms are harder"))
            for form in ("%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%f")
        ),
        "%Y-%m-%d",
        "mixed",
    ],
)
def test_midnights_are_moved_however_they_are_written(
    form: str, shop: ChinookDatabase, command: Command
) -> None:
    if form == "mixed":
        shop.execute(
            "UPDATE [Invoice] SET [InvoiceDate] = date([InvoiceDate]) WHERE [InvoiceId] % 2 = 0"
        )
    else:
        shop.execute(f"UPDATE [Invoice] SET [InvoiceDate] = strftime('{form}', [InvoiceDate])")
    assert command("init", DATABASE_URL=shop.text).returncode == 0
    before = shop.snapshot()
    done = command("align", "--json", DATABASE_URL=shop.text)
    moved = json.loads(done.stdout)
    assert moved["invoices"] == 30
    assert shop.value("SELECT max(date([InvoiceDate])) FROM [Invoice]") == moved["target"]
    generated = command("generate", "10", "--updates", "3", "--json", DATABASE_URL=shop.text)
    done = command("verify", "--all", DATABASE_URL=shop.text)
    assert done.returncode == 0, done.stdout
    for run in (json.loads(generated.stdout)["run"], moved["run"]):
        done = command("undo", run, DATABASE_URL=shop.text)
        assert done.returncode == 0, done.stderr
    assert shop.snapshot() == before


@on_three_shapes
def test_the_reason_why_nothing_is_moved_is_named(shop: ChinookDatabase, command: Command) -> None:
    shop.execute("DELETE FROM [InvoiceLine]", "DELETE FROM [Invoice]")
    done = command("align", DATABASE_URL=shop.text)
    assert done.returncode == 0
    assert "no invoice from before the ledger is dated at midnight" in done.stdout


@on_three_shapes_unmigrated
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


@on_three_shapes
def test_sales_on_a_day_of_the_history_are_not_moved(shop: ChinookDatabase) -> None:
    # As if there had been more invoices once: only the ledger's ids tell then.
    shop.execute("UPDATE chinook_sim_run SET last_invoice_id = 1000 WHERE kind = 'baseline'")
    day = date.fromisoformat(min(dates(shop).values())[:10])
    make(shop, 50, day=day)
    sold = dates(shop, "[InvoiceId] > 30")
    with Session(shop.engine) as session, session.begin():
        assert align(session).invoices == 30
    assert dates(shop, "[InvoiceId] > 30") == sold


@on_three_shapes
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


@on_three_shapes
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


@on_three_shapes_unmigrated
@pytest.mark.slow(reason="another test has what is no history")
def test_in_a_shop_that_was_empty_at_first_nothing_is_history(shop: ChinookDatabase) -> None:
    shop.execute("DELETE FROM [InvoiceLine]", "DELETE FROM [Invoice]")
    with shop.engine.begin() as connection:
        upgrade(connection)
    with Session(shop.engine) as session, session.begin():
        SaleFactory(session).create(datetime(2026, 1, 29))  # noqa: DTZ001
    with Session(shop.engine) as session, session.begin():
        assert align(session).invoices == 0


@on_three_shapes
def test_a_shop_without_history_has_nothing_to_move(shop: ChinookDatabase) -> None:
    shop.execute("DELETE FROM [InvoiceLine]", "DELETE FROM [Invoice]")
    with Session(shop.engine) as session, session.begin():
        moved = align(session)
    assert (moved.days, moved.invoices, moved.run_id) == (0, 0, None)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"timezone": "Mars"}, "'Mars' is not a time zone"),
        ({"dry_run": "x"}, "dry_run must be True or False, got 'x'"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused(given: dict[str, Any], said: str) -> None:
    with Session(create_engine("sqlite://")) as session, pytest.raises(InvalidInput, match=said):
        align(session, **given)


@on_three_shapes_unmigrated
def test_without_a_ledger_nothing_is_moved_or_undone(shop: ChinookDatabase) -> None:
    with Session(shop.engine) as session:
        with pytest.raises(NoLedger):
            align(session)
        with pytest.raises(NoLedger):
            undo(session, "12345678")
