"""The SQL functions, called by many sessions at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from support.cases import on_each_postgresql_shape
from support.sql_functions import CALLS, connect, failures, fall_behind, last_ids, sales_of, sell

if TYPE_CHECKING:
    from support.databases import ChinookDatabase

DAY = date(2026, 1, 31)


def at_once(shop: ChinookDatabase, statements: list[str]) -> list[Any]:
    """Run the statements in eight sessions, each for itself; return what all came to."""

    def session(_: int) -> list[Any]:
        with connect(shop) as connection:
            return [connection.execute(statement).fetchall()[0][0] for statement in statements]

    with ThreadPoolExecutor(8) as sessions:
        return [value for values in sessions.map(session, range(8)) for value in values]


@on_each_postgresql_shape
def test_eight_sessions_at_once_do_not_disturb_each_other(shop: ChinookDatabase) -> None:
    sell(shop, 100)
    fall_behind(shop, 1_000)
    highest, before = last_ids(shop)[0], shop.value("SELECT count(*) FROM [Invoice]")
    names = ("simulate_new_sale", "simulate_update_sale", "simulate_delete_sale")
    results = at_once(shop, [CALLS[name] for name in names] * 25)
    sold, updated, deleted = results[::3], results[1::3], results[2::3]
    sold = [int(invoice) for invoice, _ in sold]
    assert len(set(sold)) == 8 * 25
    assert min(sold) > highest
    assert None not in updated
    assert None not in deleted
    assert len(set(deleted)) == 8 * 25
    assert shop.value("SELECT count(*) FROM [Invoice]") == before
    existing = {row[0] for row in shop.rows("SELECT [InvoiceId] FROM [Invoice]")}
    assert not existing & set(deleted)
    assert failures(shop, DAY) == []


@on_each_postgresql_shape
@pytest.mark.slow(reason="eight more sessions")
def test_eight_sessions_do_not_put_a_sixth_track_into_a_sale(shop: ChinookDatabase) -> None:
    sales_of(shop, 4, 400, 1_000_000)
    chosen = at_once(shop, ["SELECT simulate_update_sale('2030-01-02')"] * 25)
    assert len(set(chosen)) == 200
    sizes = "SELECT count(*) FROM [InvoiceLine] WHERE [InvoiceId] > 1000000 GROUP BY [InvoiceId]"
    assert max(shop.rows(sizes)) == (5,)


@on_each_postgresql_shape
def test_a_sale_that_another_session_is_changing_is_passed_over(shop: ChinookDatabase) -> None:
    sell(shop, 2)
    with connect(shop) as one, connect(shop) as other, one.transaction():
        other.execute("SET lock_timeout = '5s'")
        first = one.execute(CALLS["simulate_delete_sale"]).fetchall()
        for _ in range(2):
            second = other.execute(CALLS["simulate_delete_sale"]).fetchall()
            assert first != second
    assert second == [(None,)]
