"""`simulate_sales`: the sales of a day, their run in the ledger and their digest."""

from __future__ import annotations

import hashlib
import json
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from support.cases import (
    on_all_postgresql_migrated,
    on_each_postgresql_shape,
    on_two_postgresql_shapes,
)
from support.sql_functions import (
    assert_drawn_uniformly,
    assert_uniform,
    connect,
    failures,
    overriding,
    refused,
    sell,
    widen_the_gaps,
    without_their_customers_address,
)

if TYPE_CHECKING:
    from support.databases import ChinookDatabase

DAY = date(2026, 1, 31)


def digest(shop: ChinookDatabase, day: date) -> str:
    """Work out the digest from the tables, by its definition."""
    columns: list[list[int]] = [[], [], [], [], []]
    for customer, second, tracks, cents in shop.rows(
        "SELECT i.[CustomerId], extract(epoch FROM i.[InvoiceDate]::time)::int, "
        "array_agg(l.[TrackId] ORDER BY l.[InvoiceLineId]), "
        "array_agg((l.[UnitPrice] * 100)::int ORDER BY l.[InvoiceLineId]) "
        "FROM [Invoice] i JOIN [InvoiceLine] l USING ([InvoiceId]) "
        f"WHERE i.[InvoiceDate]::date = '{day}' GROUP BY i.[InvoiceId] ORDER BY i.[InvoiceId]"
    ):
        for column, values in zip(
            columns, ([customer], [second], [len(tracks)], tracks, cents), strict=True
        ):
            column += values
    whole = hashlib.sha256(day.isoformat().encode())
    for column in columns:
        content = b"".join(value.to_bytes(8, "little", signed=True) for value in column)
        whole.update(hashlib.sha256(content).digest())
    return whole.hexdigest()


@on_two_postgresql_shapes
@pytest.mark.slow(reason="many draws")
def test_a_days_sales_are_drawn_uniformly(shop: ChinookDatabase) -> None:
    customers, tracks = widen_the_gaps(shop)
    shop.execute("SELECT simulate_sales('2026-01-31', 10000)")
    assert_drawn_uniformly(shop, customers, tracks)
    moments = shop.rows("SELECT [InvoiceDate] FROM [Invoice] WHERE [InvoiceDate] >= '2026-01-31'")
    assert_uniform((moment.hour for (moment,) in moments), range(24))
    assert_uniform((moment.second for (moment,) in moments), range(60))
    assert failures(shop, DAY) == []


@on_all_postgresql_migrated
def test_the_summary_and_the_ledger_agree_with_the_tables(shop: ChinookDatabase) -> None:
    sell(shop, 3)
    (said,) = shop.rows("SELECT * FROM simulate_sales('2026-02-28', 500)")
    run, *summary = said
    found = shop.rows(
        "SELECT '2026-02-28'::date, count(DISTINCT [InvoiceId])::int, count(*), "
        "sum([UnitPrice] * [Quantity]) FROM [InvoiceLine] JOIN [Invoice] USING ([InvoiceId]) "
        "WHERE [InvoiceDate]::date = '2026-02-28'"
    )[0]
    ids = [row[0] for row in shop.rows("SELECT [InvoiceId] FROM [Invoice] ORDER BY 1")][-500:]
    assert summary == [*found, digest(shop, date(2026, 2, 28)), ids[0], ids[-1]]
    assert shop.rows(
        "SELECT day, sales, lines, revenue, digest, first_invoice_id, last_invoice_id, kind, "
        f"requested, undone_at, key FROM chinook_sim_run WHERE run_id = '{run}'"
    ) == [(*summary, "simulate_sales", 500, None, None)]
    ranges = shop.rows(
        "SELECT first_id, last_id, step FROM chinook_sim_run_invoices "
        f"WHERE run_id = '{run}' ORDER BY first_id"
    )
    hours = json.loads(shop.value(f"SELECT hours FROM chinook_sim_run WHERE run_id = '{run}'"))
    assert [number for low, high, step in ranges for number in range(low, high + 1, step)] == ids
    assert [tuple(row) for row in enumerate(hours) if row[1]] == shop.rows(
        "SELECT extract(hour FROM [InvoiceDate])::int, count(*) FROM [Invoice] "
        "WHERE [InvoiceDate]::date = '2026-02-28' GROUP BY 1 ORDER BY 1"
    )
    assert len(hours) == 24
    assert failures(shop, date(2026, 2, 28)) == []
    assert without_their_customers_address(shop) == 0


@on_each_postgresql_shape
def test_every_run_has_a_row_of_its_own_in_the_ledger(shop: ChinookDatabase) -> None:
    runs = {shop.value("SELECT run_id FROM simulate_sales('2026-01-31', 2)") for _ in range(3)}
    assert {row[0] for row in shop.rows("SELECT run_id FROM chinook_sim_run")} > runs
    assert len(runs) == 3


@on_each_postgresql_shape
def test_the_digest_does_not_depend_on_settings(shop: ChinookDatabase) -> None:
    with connect(shop) as connection:
        connection.execute("SET DateStyle = 'German'; SET bytea_output = 'escape'")
        connection.execute("SET TimeZone = 'Asia/Kathmandu'; SET IntervalStyle = 'sql_standard'")
        said = connection.execute("SELECT digest FROM simulate_sales(%s, 20)", [DAY]).fetchall()
    assert said == [(digest(shop, DAY),)]


@on_each_postgresql_shape
def test_the_digest_holds_for_any_id(shop: ChinookDatabase) -> None:
    shop.execute(
        "DELETE FROM [InvoiceLine]",
        "DELETE FROM [Invoice]",
        "DELETE FROM [Customer]",
        "INSERT INTO [Customer] ([CustomerId], [FirstName], [LastName], [Email]) "
        f"{overriding(shop)} VALUES (-5, 'A', 'B', 'c'), (2147483647, 'D', 'E', 'f')",
    )
    said = shop.value("SELECT digest FROM simulate_sales('2026-01-31', 20)")
    assert said == digest(shop, DAY)


@on_each_postgresql_shape
def test_a_day_may_have_no_sales(shop: ChinookDatabase) -> None:
    before = shop.snapshot()
    (said,) = shop.rows("SELECT * FROM simulate_sales('2026-01-31', 0)")
    assert said[1:] == (DAY, 0, 0, Decimal(0), digest(shop, DAY), None, None)
    assert shop.snapshot() == before
    kept = "SELECT hours FROM chinook_sim_run WHERE kind = 'simulate_sales'"
    assert json.loads(shop.value(kept)) == [0] * 24
    assert shop.rows("SELECT run_id FROM chinook_sim_run_invoices") == []


@on_each_postgresql_shape
def test_a_price_below_a_cent_is_refused(shop: ChinookDatabase) -> None:
    shop.execute("ALTER TABLE [Track] ALTER [UnitPrice] TYPE numeric(10, 3)")
    shop.execute("UPDATE [Track] SET [UnitPrice] = 0.995 WHERE [TrackId] = 3")
    refused(shop, ["simulate_sales('2026-01-31', 1)"], "not in whole cents; correct it")
