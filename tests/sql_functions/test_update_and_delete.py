"""`simulate_update_sale` and `simulate_delete_sale`: which sales, and what becomes of them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest

from support.cases import on_all_postgresql_migrated, on_each_postgresql_shape
from support.chinook_variants import TRACKS
from support.sql_functions import (
    CALLS,
    POOR_ROLE,
    assert_uniform,
    connect,
    failures,
    fall_behind,
    keep_tracks,
    refusal,
    rights,
    sales_of,
    sell,
    state,
)

if TYPE_CHECKING:
    from support.databases import ChinookDatabase

NOON = datetime.fromisoformat("2026-01-31 12:00:00")


@on_all_postgresql_migrated
def test_a_changed_sale_has_one_more_track_at_its_price(shop: ChinookDatabase) -> None:
    sell(shop, 100)
    for _ in range(2):
        before = shop.snapshot()
        chosen = shop.value(CALLS["simulate_update_sale"])
        after = shop.snapshot()
        (line,) = set(after["InvoiceLine"]) - set(before["InvoiceLine"])
        _, invoice, track, price, quantity = line
        assert (invoice, quantity) == (chosen, 1)
        assert [row[-1] for row in before["Track"] if row[0] == track] == [price]
        before["InvoiceLine"].append(line)
        before["Invoice"] = [
            (*row[:-1], row[-1] + price) if row[0] == chosen else row for row in before["Invoice"]
        ]
        assert after == before
    assert failures(shop) == []


@on_each_postgresql_shape
def test_sales_with_fewer_than_five_tracks_are_changed_first(shop: ChinookDatabase) -> None:
    # Thirty tracks can be added to ten sales of two before one has six.
    sales_of(shop, 2, 10, 1_000_000)
    sales_of(shop, 5, 10, 2_000_000)
    counts = "SELECT count(*) FROM [InvoiceLine] WHERE [InvoiceId] > 1000000 GROUP BY [InvoiceId]"
    for _ in range(30):
        assert shop.value("SELECT simulate_update_sale('2030-01-02')") < 2_000_000
    assert set(shop.rows(counts)) == {(5,)}
    assert shop.value("SELECT simulate_update_sale('2030-01-02')") > 1_000_000
    assert set(shop.rows(counts)) == {(5,), (6,)}


@on_each_postgresql_shape
def test_only_sales_of_the_ninety_days_before_are_chosen(shop: ChinookDatabase) -> None:
    edge = shop.rows("SELECT generated_invoice_id FROM simulate_new_sale('2026-01-31 12:00:00')")
    with connect(shop) as connection:
        for function in ("simulate_update_sale", "simulate_delete_sale"):
            for moved in (timedelta(seconds=-1), timedelta(days=90, seconds=1)):
                ask = f"SELECT {function}(%s)"
                assert connection.execute(ask, [NOON + moved]).fetchall() == [(None,)]
            for moved in (timedelta(), timedelta(days=90)):
                with connection.transaction(force_rollback=True):
                    assert connection.execute(ask, [NOON + moved]).fetchall() == edge


@on_each_postgresql_shape
def test_a_sale_of_all_tracks_is_not_changed(shop: ChinookDatabase) -> None:
    for count in (7, 3, 1):
        keep_tracks(shop, count)
        sales_of(shop, count, 3, 1_000_000)
        before = state(shop)
        assert shop.value("SELECT simulate_update_sale('2030-01-02')") is None
        assert state(shop) == before


@on_each_postgresql_shape
def test_a_sale_can_be_changed_until_it_has_all_tracks(shop: ChinookDatabase) -> None:
    keep_tracks(shop, 8)
    sell(shop, 1)
    chosen = [shop.value(CALLS["simulate_update_sale"]) for _ in range(9)]
    assert chosen[-1] is None
    assert shop.rows("SELECT [TrackId] FROM [InvoiceLine] ORDER BY 1") == [(t,) for t in TRACKS[:8]]
    assert failures(shop) == []


@on_all_postgresql_migrated
def test_a_cancelled_sale_leaves_no_lines_and_all_else_as_it_was(shop: ChinookDatabase) -> None:
    sell(shop, 3)
    expected = shop.snapshot()
    for _ in range(3):
        chosen = shop.value(CALLS["simulate_delete_sale"])
        assert chosen in {row[0] for row in expected["Invoice"][30:]}
        expected["Invoice"] = [row for row in expected["Invoice"] if row[0] != chosen]
        expected["InvoiceLine"] = [row for row in expected["InvoiceLine"] if row[1] != chosen]
        assert shop.snapshot() == expected
    assert len(expected["Invoice"]) == 30
    assert shop.value(CALLS["simulate_delete_sale"]) is None
    assert shop.snapshot() == expected


REFERENCES = {
    "cascade": "invoice integer REFERENCES [Invoice] ON DELETE CASCADE",
    "set null": "invoice integer REFERENCES [Invoice] ON DELETE SET NULL",
    "no action": "invoice integer REFERENCES [Invoice]",
    "line": "invoice integer, line integer REFERENCES [InvoiceLine] ON DELETE CASCADE",
    "composite": "invoice integer, customer integer, FOREIGN KEY (customer, invoice) "
    "REFERENCES [Invoice] ([CustomerId], [InvoiceId]) ON DELETE CASCADE",
}


@on_each_postgresql_shape
@pytest.mark.parametrize("gap", [1, 2_000_000])
def test_a_sale_that_another_table_refers_to_is_not_cancelled(
    shop: ChinookDatabase, gap: int
) -> None:
    # Over a wide gap, sales are not found by drawing ids.
    fall_behind(shop, gap)
    sold = [row[0] for row in sell(shop, 9)]
    shop.execute(
        "ALTER TABLE [Invoice] ADD UNIQUE ([CustomerId], [InvoiceId])", 'CREATE SCHEMA "my shop"'
    )
    for place, columns in enumerate(REFERENCES.values()):
        name = f'"my shop"."re%view {place}"'
        shop.execute(
            f'CREATE TABLE {name} ("i" integer, {columns})',
            f"INSERT INTO {name} SELECT 1, [InvoiceId]"
            + (", [CustomerId]" if "customer" in columns else "")
            + (", [InvoiceLineId]" if "line" in columns else "")
            + " FROM [Invoice] JOIN [InvoiceLine] USING ([InvoiceId]) "
            f"WHERE [InvoiceId] = {sold[place]} LIMIT 1",
        )
    reviews = "UNION ALL ".join(
        f'SELECT t::text FROM "my shop"."re%view {place}" t ' for place in range(len(REFERENCES))
    )
    before = shop.rows(reviews)
    deleted = [shop.value("SELECT simulate_delete_sale('2026-01-31')") for _ in sold[5:]]
    assert sorted(deleted) == sold[5:]
    assert shop.value("SELECT simulate_delete_sale('2026-01-31')") is None
    assert shop.rows(reviews) == before
    assert len(before) == len(REFERENCES)


@on_each_postgresql_shape
def test_an_invoice_in_a_partition_of_the_users_tables_is_referred_to(
    shop: ChinookDatabase,
) -> None:
    first, second = (row[0] for row in sell(shop, 2))
    shop.execute(
        "CREATE TABLE review (invoice integer REFERENCES [Invoice] ON DELETE CASCADE) "
        "PARTITION BY LIST (invoice)",
        f"CREATE TABLE review_1 PARTITION OF review FOR VALUES IN ({first})",
        "CREATE TABLE review_2 PARTITION OF review DEFAULT",
        f"INSERT INTO review VALUES ({first})",
    )
    assert shop.value("SELECT simulate_delete_sale('2026-01-31')") == second
    assert shop.value("SELECT simulate_delete_sale('2026-01-31')") is None
    assert shop.rows("SELECT invoice FROM review") == [(first,)]


@on_each_postgresql_shape
def test_a_table_that_refers_and_cannot_be_read_is_named_with_its_grant(
    shop: ChinookDatabase,
) -> None:
    sell(shop, 2)
    shop.execute("CREATE TABLE review (invoice integer REFERENCES [Invoice] ON DELETE CASCADE)")
    with connect(shop) as connection, connection.transaction(force_rollback=True):
        connection.execute(f"CREATE ROLE {POOR_ROLE}")
        for right in rights(shop, "simulate_delete_sale"):
            connection.execute(f"GRANT {right} TO {POOR_ROLE}")
        said = refusal(connection, CALLS["simulate_delete_sale"])
        assert said == f"GRANT SELECT ON public.review TO {POOR_ROLE}"
        connection.execute(said)
        connection.execute(f"SET LOCAL ROLE {POOR_ROLE}")
        assert connection.execute(CALLS["simulate_delete_sale"]).fetchall() != [(None,)]


@on_each_postgresql_shape
def test_delete_sale_is_refused_if_a_policy_hides_rows(shop: ChinookDatabase) -> None:
    (first, _), (second, _) = sell(shop, 2)
    shop.execute(
        "CREATE TABLE review (invoice integer REFERENCES [Invoice] ON DELETE CASCADE)",
        f"INSERT INTO review VALUES ({first}), ({second})",
        "ALTER TABLE review ENABLE ROW LEVEL SECURITY",
    )
    with connect(shop) as connection, connection.transaction(force_rollback=True):
        connection.execute(f"CREATE ROLE {POOR_ROLE}")
        for right in [*rights(shop, "simulate_delete_sale"), "SELECT ON review"]:
            connection.execute(f"GRANT {right} TO {POOR_ROLE}")
        connection.execute(f"SET LOCAL ROLE {POOR_ROLE}")
        with pytest.raises(psycopg.Error, match=r"row-level security on public\.review"):
            connection.execute(CALLS["simulate_delete_sale"])


@on_each_postgresql_shape
def test_in_an_empty_shop_nothing_is_changed_or_cancelled(shop: ChinookDatabase) -> None:
    keep_tracks(shop, 3)
    assert shop.value(CALLS["simulate_update_sale"]) is None
    assert shop.value(CALLS["simulate_delete_sale"]) is None
    assert shop.rows("SELECT 1 FROM [Invoice]") == []


@on_each_postgresql_shape
def test_any_recent_sale_may_be_cancelled_or_changed(shop: ChinookDatabase) -> None:
    sales_of(shop, 2, 5, 1_000_000)
    chances = {
        "simulate_update_sale('2030-01-02')": [1_000_000 + 500 * n for n in range(1, 6)],
        "simulate_delete_sale('2026-02-01')": [row[0] for row in sell(shop, 5)],
    }
    with connect(shop) as connection:
        for call, invoices in chances.items():
            seen = []
            for _ in range(100):
                with connection.transaction(force_rollback=True):
                    seen += connection.execute(f"SELECT {call}").fetchall()
            assert_uniform((row[0] for row in seen), invoices)
