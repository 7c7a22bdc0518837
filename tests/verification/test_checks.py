"""Every check of `verify` finds what it looks for, and only that."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from chinook_sim import SaleFactory, align, generate_d1, simulate_changes, undo
from chinook_sim.provisioning.migration_runner import upgrade
from chinook_sim.verification import verify_all, verify_day
from support.cases import (
    cases,
    needs_real_files,
    on_both_databases,
    on_each_shape,
    on_each_shape_unmigrated,
    on_variants,
)
from support.chinook_variants import REAL
from support.databases import without_keys

if TYPE_CHECKING:
    from pathlib import Path

    from chinook_sim.verification import Check
    from support.databases import ChinookDatabase

DAY = date(2026, 1, 31)

OF_DAY = "SELECT min([InvoiceId]) FROM [Invoice] WHERE [InvoiceDate] > '2026-01-01 00:00:00'"

SPOILED = {
    "totals equal the sum of their lines": (
        f"UPDATE [Invoice] SET [Total] = [Total] + 0.01 WHERE [InvoiceId] = ({OF_DAY})",
    ),
    "1 to 5 tracks per invoice": (
        f"DELETE FROM [InvoiceLine] WHERE [InvoiceId] = ({OF_DAY})",
        f"UPDATE [Invoice] SET [Total] = 0 WHERE [InvoiceId] = ({OF_DAY})",
    ),
    "no repeated track in an invoice": (
        "UPDATE [InvoiceLine] SET [TrackId] = (SELECT min(l.[TrackId]) FROM [InvoiceLine] l WHERE "
        "l.[InvoiceId] = [InvoiceLine].[InvoiceId]) WHERE [InvoiceId] IN (SELECT [InvoiceId] "
        "FROM [InvoiceLine] WHERE [InvoiceId] > 30 GROUP BY [InvoiceId] HAVING count(*) > 3)",
    ),
    "unit prices valid at the time of the sale": (
        "UPDATE [Track] SET [UnitPrice] = [UnitPrice] + 1",
    ),
    "quantity of each line is 1": (
        f"UPDATE [InvoiceLine] SET [Quantity] = 2 WHERE [InvoiceId] = ({OF_DAY})",
    ),
    "timestamps in whole seconds": (
        f"UPDATE [Invoice] SET [InvoiceDate] = '2026-01-31 10:00:00.5' "
        f"WHERE [InvoiceId] = ({OF_DAY})",
    ),
    "distribution over the hours": (
        "UPDATE [Invoice] SET [InvoiceDate] = '2026-01-31 10:00:00' "
        "WHERE [InvoiceDate] > '2026-01-31 06:00:00'",
    ),
    "customers of invoices exist": (
        "UPDATE [Invoice] SET [CustomerId] = 999 WHERE [InvoiceId] > 30",
    ),
    "tracks of lines exist": (
        "UPDATE [InvoiceLine] SET [TrackId] = 99999 WHERE [InvoiceLineId] IN "
        "(SELECT max([InvoiceLineId]) FROM [InvoiceLine])",
    ),
    "invoices of lines exist": (
        "INSERT INTO [InvoiceLine] ([InvoiceLineId], [InvoiceId], [TrackId], [UnitPrice], "
        "[Quantity]) OVERRIDING SYSTEM VALUE VALUES (99999, 99999, 3, 0.99, 1)",
    ),
}  # fmt: skip

ALSO = {
    # A track that is sold twice, or has another price, may change what an invoice comes to.
    "no repeated track in an invoice": {"unit prices valid at the time of the sale"},
    "quantity of each line is 1": {"totals equal the sum of their lines"},
    "1 to 5 tracks per invoice": {"totals equal the sum of their lines"},
}

# Each spelling and each dialect of SQL.
chosen = on_variants(
    [
        case
        for case in cases()
        if case.shape.name in ("postgres-neon", "postgres-snake-identity", "sqlite-int")
        and case.major != 16
    ]
)


@chosen
@pytest.mark.parametrize("name", SPOILED)
def test_each_check_fails_where_it_should(shop: ChinookDatabase, name: str) -> None:
    with Session(shop.engine) as session, session.begin():
        generate_d1(session, 300, day=DAY, seed=7)
    without_keys(shop)
    statements = SPOILED[name]
    if shop.server is None:
        statements = tuple(part.replace("OVERRIDING SYSTEM VALUE ", "") for part in statements)
    with shop.engine.connect() as connection:
        assert all(check.passed for check in verify_day(connection, DAY, expect=300))
        assert all(check.passed for check in verify_all(connection, expect=330))
    shop.execute(*statements)
    with shop.engine.connect() as connection:
        failed = {check.name for check in verify_day(connection, DAY) if not check.passed}
        everywhere = {check.name for check in verify_all(connection) if not check.passed}
    assert name in failed
    assert failed - {name} <= ALSO.get(name, set())
    in_both = {"totals", "no track", "every"}
    if any(name.startswith(start) for start in in_both):
        assert name in everywhere


@chosen
def test_a_day_without_sales_fails_unless_none_are_expected(shop: ChinookDatabase) -> None:
    with shop.engine.connect() as connection:
        assert not verify_day(connection, DAY)[0].passed
        assert verify_day(connection, DAY, expect=0)[0].passed
        assert not verify_day(connection, DAY, expect=1)[0].passed


def everything(shop: ChinookDatabase) -> dict[str, Check]:
    """Return the checks on all sales by their names."""
    with shop.engine.connect() as connection:
        return {check.name: check for check in verify_all(connection)}


def failed(shop: ChinookDatabase, *days: date) -> dict[str, tuple[int, ...]]:
    """Return the ids that failed checks name, on all sales; it must be the same on these days."""
    found = {name: check.ids for name, check in everything(shop).items() if not check.passed}
    for day in days:
        with shop.engine.connect() as connection:
            checks = verify_day(connection, day)[1:]
        assert {check.name: check.ids for check in checks if not check.passed} == found
    return found


@on_each_shape
def test_a_history_that_breaks_the_rules_of_sales_is_a_remark(shop: ChinookDatabase) -> None:
    # Track 3 twice, and no track at all.
    shop.execute(
        "UPDATE [InvoiceLine] SET [TrackId] = 3 WHERE [InvoiceId] = 4",
        "DELETE FROM [InvoiceLine] WHERE [InvoiceId] = 5",
        "UPDATE [Invoice] SET [Total] = 0 WHERE [InvoiceId] = 5",
    )
    with Session(shop.engine) as session, session.begin():
        made = generate_d1(session, 20, day=DAY, seed=7)
    with shop.engine.connect() as connection:
        checks = verify_all(connection)
    told = [check for check in checks if check.name == "invoices older than the ledger"]
    assert [(check.passed, check.remark) for check in told] == [(True, True)] * 2
    assert {check.figure for check in told} == {
        "1 invoice with a repeated track: 4",
        "1 invoice without tracks: 5",
    }
    wrong = {check.name for check in checks if not check.passed}
    # Whose total was never the sum of its lines is another matter: it is a sum in every Chinook.
    assert wrong <= {"totals equal the sum of their lines"}
    # The same in a sale is none.
    number = made.invoice_ids[0]
    shop.execute(
        f"UPDATE [InvoiceLine] SET [InvoiceId] = {number}, [TrackId] = 3 WHERE [InvoiceId] = 4"
    )
    assert failed(shop)["no repeated track in an invoice"] == (number,)


@on_each_shape_unmigrated
def test_without_a_ledger_it_says_what_was_not_checked(shop: ChinookDatabase) -> None:
    shop.execute("UPDATE [InvoiceLine] SET [TrackId] = 3 WHERE [InvoiceId] = 4")
    with Session(shop.engine) as session, session.begin():
        generate_d1(session, 20, day=DAY, seed=7)
    with shop.engine.connect() as connection:
        for checks in (verify_all(connection), verify_day(connection, DAY)):
            told = {check.name: check for check in checks}["sales match the ledger"]
            assert told.passed
            assert told.remark
            assert told.figure == ("not checked: it has no ledger; `chinook-sim init` makes one")
            assert [check.name for check in checks if not check.passed] == []
    assert everything(shop)["invoices dated at midnight"].ids == (4,)


@on_each_shape
def test_with_the_ledger_of_an_earlier_release_it_says_so(shop: ChinookDatabase) -> None:
    with Session(shop.engine) as session, session.begin():
        generate_d1(session, 20, day=DAY, seed=7)
    shop.execute("DROP TABLE chinook_sim_run_invoices")
    with shop.engine.connect() as connection:
        for checks in (verify_all(connection), verify_day(connection, DAY)):
            told = {check.name: check for check in checks}["sales match the ledger"]
            assert (told.passed, told.remark) == (True, True)
            assert told.figure.startswith("not checked: its ledger is incomplete; ")
            assert [check.name for check in checks if not check.passed] == []


@needs_real_files
def test_the_chinook_of_a_course_passes_with_a_remark(tmp_path: Path) -> None:
    path = tmp_path / "course.sqlite"
    path.write_bytes((REAL / "sqlite-dataquest.sqlite").read_bytes())
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)
    for name in ("invoices dated at midnight", "invoices older than the ledger"):
        with engine.connect() as connection:
            checks = verify_all(connection)
        assert [check.name for check in checks if not check.passed] == []
        assert {check.name: check for check in checks}[name].count > 0
        with engine.begin() as connection:
            upgrade(connection)
        with Session(engine) as session, session.begin():
            generate_d1(session, 20, day=DAY, seed=7)


UPDATED = "updated invoices match the ledger"


def update_all(shop: ChinookDatabase, day: date) -> None:
    """Add a track to every sale of the 90 days before a day."""
    with Session(shop.engine) as session, session.begin():
        simulate_changes(session, day=day, updates=1000, seed=8)


@on_each_shape
def test_what_was_changed_between_two_updates_is_found(shop: ChinookDatabase) -> None:
    with Session(shop.engine) as session, session.begin():
        ids = generate_d1(session, 20, day=DAY, seed=7).invoice_ids
    later = [DAY + timedelta(days=days) for days in (1, 2, 3)]
    update_all(shop, later[0])
    shop.execute(
        f"UPDATE [Invoice] SET [BillingCity] = 'Somewhere' WHERE [InvoiceId] = {ids[3]}",
        f"UPDATE [Invoice] SET [InvoiceDate] = '{DAY} 12:34:56' WHERE [InvoiceId] = {ids[4]}",
        f"UPDATE [InvoiceLine] SET [TrackId] = 99 WHERE [InvoiceLineId] = "
        f"(SELECT min(l.[InvoiceLineId]) FROM [InvoiceLine] l WHERE l.[InvoiceId] = {ids[5]})",
    )
    update_all(shop, later[1])
    update_all(shop, later[2])
    assert failed(shop)[UPDATED] == (ids[3], ids[4], ids[5])
    for day in (DAY, later[0]):
        with shop.engine.connect() as connection:
            found = {check.name: check for check in verify_day(connection, day)}
        assert found[UPDATED].ids == (ids[3], ids[4], ids[5])
    for day in later[1:]:
        with shop.engine.connect() as connection:
            assert {check.name: check for check in verify_day(connection, day)}[UPDATED].passed


@on_both_databases
@pytest.mark.slow(reason="some fifteen runs")
def test_what_align_and_undo_do_between_two_updates_is_no_difference(shop: ChinookDatabase) -> None:
    def take_back(run: str | None) -> None:
        with Session(shop.engine) as session, session.begin():
            undo(session, run or "")

    # Of the history, before and after it is moved to the present.
    update_all(shop, date(2025, 4, 1))
    with Session(shop.engine) as session, session.begin():
        moved = align(session).run_id
    with Session(shop.engine) as session, session.begin():
        recent = simulate_changes(session, updates=5, seed=9)
    assert failed(shop, recent.day) == {}
    take_back(recent.run_id)
    assert failed(shop, recent.day) == {}
    with Session(shop.engine) as session, session.begin():
        generate_d1(session, 20, day=DAY, seed=7)
        simulate_changes(session, day=DAY, updates=1000, seed=1)
        second = simulate_changes(session, day=DAY, updates=1000, seed=2).run_id
    shop.execute("ALTER TABLE [Invoice] ADD COLUMN seen VARCHAR(10)")
    shop.execute("UPDATE [Invoice] SET seen = 'yes'")
    take_back(second)
    update_all(shop, DAY)
    with Session(shop.engine) as session, session.begin():
        cancelled = simulate_changes(session, day=DAY, cancellations=5, seed=3).run_id
    assert failed(shop, DAY) == {}
    # An alignment is not undone while some of its invoices are gone.
    take_back(cancelled)
    take_back(moved)
    assert failed(shop, DAY) == {}


@on_both_databases
@pytest.mark.slow(reason="verifies many times")
def test_sales_that_are_made_again_after_an_undo_are_not_taken_for_the_undone_ones(
    shop: ChinookDatabase,
) -> None:
    for _ in range(3):
        with Session(shop.engine) as session, session.begin():
            made = generate_d1(session, 20, day=DAY, seed=7)
        assert failed(shop, DAY) == {}
        with Session(shop.engine) as session, session.begin():
            undo(session, made.run_id or "")
    # The ids may be given again to something else.
    if shop.shape.gives_ids:
        for _ in range(3):
            shop.insert_by_default()
    assert failed(shop, DAY) == {}


@on_each_shape
def test_a_factory_knows_the_prices_that_changed(shop: ChinookDatabase) -> None:
    with Session(shop.engine) as session, session.begin():
        generate_d1(session, 20, day=DAY, seed=7, price_changes=40)
    with Session(shop.engine) as session, session.begin():
        factory = SaleFactory(session, seed=8)
        factory.create(DAY)
        factory.create_batch(30, DAY)
    with shop.engine.connect() as connection:
        checks = [*verify_day(connection, DAY), *verify_all(connection)]
    assert [check for check in checks if not check.passed] == []
