"""What `verify` finds where customers or prices were changed again."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from chinook_sim.verification import verify_all, verify_day
from support.cases import (
    on_both_databases,
    on_three_shapes,
)
from support.changes import DAY, addresses, failed, make, prices
from support.runs import take_back

if TYPE_CHECKING:
    from support.databases import ChinookDatabase


@on_three_shapes
def test_verify_knows_the_price_that_was_valid(shop: ChinookDatabase) -> None:
    first = make(shop, 60)
    before = prices(shop)
    make(shop, 0, seed=8, price_changes=len(before))
    after = prices(shop)
    line, track = shop.rows(
        "SELECT [InvoiceLineId], [TrackId] FROM [InvoiceLine] "
        f"WHERE [InvoiceId] = {first.invoice_ids[0]}"
    )[0]
    assert failed(shop) == []
    # The price of today on a line of yesterday.
    shop.execute(
        f"UPDATE [InvoiceLine] SET [UnitPrice] = {after[track] / 100} "
        f"WHERE [InvoiceLineId] = {line}"
    )
    assert "unit prices valid at the time of the sale" in failed(shop)
    shop.execute(
        f"UPDATE [InvoiceLine] SET [UnitPrice] = {before[track] / 100} "
        f"WHERE [InvoiceLineId] = {line}"
    )
    assert failed(shop) == []
    # And the price of yesterday on a line of today.
    second = make(shop, 20, seed=9)
    shop.execute(
        f"UPDATE [InvoiceLine] SET [UnitPrice] = 5.55 WHERE [InvoiceId] = {second.invoice_ids[3]}"
    )
    assert "unit prices valid at the time of the sale" in failed(shop)


CUSTOMERS = "changed customers match the ledger"
PRICES = "changed prices match the ledger"


def subjects(shop: ChinookDatabase, kind: str) -> list[int]:
    """Ids of what was changed in some way."""
    found = shop.rows(f"SELECT subject_id FROM chinook_sim_change WHERE kind = '{kind}' ORDER BY 1")
    return [row[0] for row in found]


@on_both_databases
@pytest.mark.parametrize("kind", ["move", "sign-up"])
def test_verify_finds_an_edited_address(shop: ChinookDatabase, kind: str) -> None:
    make(shop, moves=3, new_customers=2)
    assert failed(shop) == failed(shop, None) == []
    customer = subjects(shop, kind)[0]
    for edited in ("[City] = 'Elsewhere'", "[Address] = NULL", "[State] = 'XY'"):
        with shop.engine.connect() as connection:
            statement = f"UPDATE [Customer] SET {edited} WHERE [CustomerId] = {customer}"
            connection.execute(text(shop.sql(statement)))
            for checks in (verify_day(connection, DAY), verify_all(connection)):
                assert [check.name for check in checks if not check.passed] == [CUSTOMERS]
            connection.rollback()


@on_three_shapes
def test_verify_sees_that_a_price_is_another(shop: ChinookDatabase) -> None:
    make(shop, price_changes=10)
    track = subjects(shop, "price")[0]
    before = prices(shop)[track] / 100
    shop.execute(f"UPDATE [Track] SET [UnitPrice] = 2.49 WHERE [TrackId] = {track}")
    assert PRICES in failed(shop)
    assert failed(shop, None) == [PRICES]
    # Tracks and customers that the day's runs did not change are no matter of that day.
    make(shop, day=DAY + timedelta(days=1))
    assert PRICES not in failed(shop, DAY + timedelta(days=1))
    shop.execute(f"UPDATE [Track] SET [UnitPrice] = {before} WHERE [TrackId] = {track}")
    assert failed(shop) == failed(shop, None) == []


@on_both_databases
@pytest.mark.slow(reason="verifies everything six times")
def test_who_changes_again_is_as_the_last_run_left_it(shop: ChinookDatabase) -> None:
    first = make(shop, moves=12, price_changes=40, new_customers=2)
    then = DAY + timedelta(days=1)
    second = make(shop, seed=8, day=then, moves=14, price_changes=40)
    assert failed(shop) == failed(shop, then) == failed(shop, None) == []
    third = make(shop, seed=9, day=then, price_changes=40)
    assert failed(shop) == failed(shop, then) == failed(shop, None) == []
    take_back(shop, third.run_id)
    assert failed(shop) == failed(shop, then) == failed(shop, None) == []
    take_back(shop, second.run_id)
    assert failed(shop) == failed(shop, None) == []
    take_back(shop, first.run_id)
    assert failed(shop, None) == []
    shop.execute("UPDATE [Track] SET [UnitPrice] = 2.49")
    assert PRICES in failed(shop, None)


@on_both_databases
@pytest.mark.slow(reason="a rare order; test_model.py has any")
def test_the_first_of_two_equal_changes_may_be_undone(shop: ChinookDatabase) -> None:
    make(shop)
    first = make(shop, 0, moves=3)
    make(shop, 0, moves=3)
    assert len(set(subjects(shop, "move"))) == 3
    priced = make(shop, 0, price_changes=40)
    make(shop, 0, seed=8, price_changes=40)
    make(shop, 0, seed=9, price_changes=40)  # Of two prices, so the first again.
    lived, cost = addresses(shop), prices(shop)
    take_back(shop, priced.run_id)
    take_back(shop, first.run_id)
    assert addresses(shop) != lived
    assert prices(shop) != cost
    assert failed(shop) == failed(shop, None) == []
    customer = subjects(shop, "move")[0]
    shop.execute(f"UPDATE [Customer] SET [City] = 'Elsewhere' WHERE [CustomerId] = {customer}")
    assert failed(shop) == failed(shop, None) == [CUSTOMERS]
