"""`simulate_new_sale`: what a sale is, and how it is drawn."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pytest

from support.cases import (
    on_all_postgresql_migrated,
    on_each_postgresql_shape,
    on_two_postgresql_shapes,
)
from support.chinook_variants import CUSTOMERS, TRACKS
from support.sql_functions import (
    CALLS,
    assert_drawn_uniformly,
    failures,
    keep_tracks,
    refused,
    sell,
    widen_the_gaps,
    without_their_customers_address,
)

if TYPE_CHECKING:
    from support.databases import ChinookDatabase

DAY = date(2026, 1, 31)


@on_all_postgresql_migrated
def test_a_sale_is_of_a_customer_and_one_to_five_tracks(shop: ChinookDatabase) -> None:
    before = shop.snapshot()
    sold = sell(shop, 200, "7 minutes")
    assert failures(shop, DAY) == []
    assert without_their_customers_address(shop) == 0
    assert shop.rows(
        "SELECT [InvoiceId], [Total] FROM [Invoice] WHERE [InvoiceId] > 30 ORDER BY [InvoiceDate]"
    ) == [tuple(row) for row in sold]
    after = shop.snapshot()
    assert after["Invoice"][:30] == before["Invoice"]
    assert after["InvoiceLine"][: len(before["InvoiceLine"])] == before["InvoiceLine"]
    for table in before.keys() - {"Invoice", "InvoiceLine"}:
        assert after[table] == before[table]


@on_each_postgresql_shape
def test_few_tracks_make_small_baskets(shop: ChinookDatabase) -> None:
    for count in (5, 3, 1):
        keep_tracks(shop, count)
        sell(shop, 80)
        shop.execute("SELECT simulate_sales('2026-02-01', 80)")
        for day in (DAY, date(2026, 2, 1)):
            # Lines of tracks that are gone went with them.
            assert failures(shop, day, changed=True) == []
            assert shop.rows(
                "SELECT DISTINCT count(*) FROM [InvoiceLine] JOIN [Invoice] USING ([InvoiceId]) "
                f"WHERE [InvoiceDate]::date = '{day}' GROUP BY [InvoiceId] ORDER BY 1"
            ) == [(size,) for size in range(1, count + 1)]


@on_each_postgresql_shape
def test_without_tracks_there_is_nothing_to_sell(shop: ChinookDatabase) -> None:
    keep_tracks(shop, 0)
    for name in ("simulate_new_sale", "simulate_sales"):
        call = CALLS[name].removeprefix("SELECT ")
        message = rf"^{name}: .*{shop.sql('[Track]')} is empty, so there is nothing to sell"
        refused(shop, [call], message)


@on_each_postgresql_shape
def test_without_customers_there_is_nobody_to_sell_to(shop: ChinookDatabase) -> None:
    shop.execute(*(f"DELETE FROM [{table}]" for table in ("InvoiceLine", "Invoice", "Customer")))
    for name in ("simulate_new_sale", "simulate_sales"):
        call = CALLS[name].removeprefix("SELECT ")
        message = rf"^{name}: .*{shop.sql('[Customer]')} is empty, so there is nobody to sell to"
        refused(shop, [call], message)


@on_each_postgresql_shape
def test_single_sales_are_drawn_uniformly(shop: ChinookDatabase) -> None:
    sell(shop, 2_000)
    assert_drawn_uniformly(shop, CUSTOMERS, TRACKS)


@on_two_postgresql_shapes
@pytest.mark.slow(reason="many draws")
def test_single_sales_are_drawn_uniformly_over_wide_gaps(shop: ChinookDatabase) -> None:
    customers, tracks = widen_the_gaps(shop)
    sell(shop, 1_000)
    assert_drawn_uniformly(shop, customers, tracks)
