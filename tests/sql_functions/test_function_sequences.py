"""The SQL functions, and sequences that are behind or ahead of their tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.cases import on_each_postgresql_shape
from support.sql_functions import CALLS, fall_behind, last_ids, sell, sequence

if TYPE_CHECKING:
    from support.databases import ChinookDatabase


def last_values(shop: ChinookDatabase) -> tuple[int, ...]:
    """Return where the sequences of invoices and lines stand."""
    names = [sequence(shop, key) for key in ("invoice_id", "invoice_line_id")]
    (found,) = shop.rows("SELECT " + ", ".join(f"pg_sequence_last_value('{n}')" for n in names))
    return found


@on_each_postgresql_shape
@pytest.mark.parametrize("behind", [1_000, 2_000_000])
def test_a_sequence_behind_its_table_is_brought_forward(shop: ChinookDatabase, behind: int) -> None:
    sell(shop, 1)
    for name in ("simulate_new_sale", "simulate_sales"):
        fall_behind(shop, behind)
        before = last_ids(shop)
        shop.execute(CALLS[name])
        sales = 1 if name == "simulate_new_sale" else 7
        assert last_ids(shop)[0] == before[0] + sales
        assert before[1] + sales <= last_ids(shop)[1] <= before[1] + 5 * sales
        assert last_values(shop) == last_ids(shop)
    fall_behind(shop, behind)
    before = last_ids(shop)
    shop.execute(CALLS["simulate_update_sale"])
    assert last_ids(shop) == (before[0], before[1] + 1)
    assert last_values(shop)[1] == before[1] + 1


@on_each_postgresql_shape
def test_a_sequence_that_was_restarted_is_brought_forward(shop: ChinookDatabase) -> None:
    for name in ("simulate_new_sale", "simulate_sales"):
        for key in ("invoice_id", "invoice_line_id"):
            shop.execute(f"ALTER SEQUENCE {sequence(shop, key)} RESTART WITH 1")
        before = last_ids(shop)
        shop.execute(CALLS[name])
        assert last_values(shop) == last_ids(shop) > before
    shop.execute(f"ALTER SEQUENCE {sequence(shop, 'invoice_line_id')} RESTART WITH 1")
    shop.execute(CALLS["simulate_update_sale"])
    assert last_values(shop) == last_ids(shop)


@on_each_postgresql_shape
def test_a_sequence_ahead_of_its_table_is_not_moved_back(shop: ChinookDatabase) -> None:
    for key in ("invoice_id", "invoice_line_id"):
        shop.execute(f"SELECT setval('{sequence(shop, key)}', 5000000)")
    assert [row[0] for row in sell(shop, 2)] == [5_000_001, 5_000_002]
    assert shop.rows(
        "SELECT first_invoice_id, last_invoice_id FROM simulate_sales('2026-01-31', 3)"
    ) == [(5_000_003, 5_000_005)]
    shop.execute(CALLS["simulate_update_sale"])
    lines = last_ids(shop)[1]
    assert last_values(shop) == (5_000_005, lines)
    shop.execute("DELETE FROM [InvoiceLine]", "DELETE FROM [Invoice]")
    assert sell(shop, 1)[0][0] == 5_000_006
    assert last_ids(shop)[1] > lines
