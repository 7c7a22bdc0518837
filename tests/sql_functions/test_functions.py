"""The SQL functions: their sales are the library's, whoever calls them, and wherever names lead."""

from __future__ import annotations

import hashlib
import json
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import product
from math import sqrt
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from chinook_sim.verification import verify_all, verify_day
from support.cases import on_all_postgresql_migrated, on_each_postgresql_shape
from support.chinook_variants import CUSTOMERS, TRACKS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from support.databases import ChinookDatabase

# Where the names in a function hardly matter.

DAY = date(2026, 1, 31)
NOON = datetime.fromisoformat("2026-01-31 12:00:00")
CALLS = {
    "simulate_new_sale": "SELECT simulate_new_sale('2026-01-31 12:00:00')",
    "simulate_update_sale": "SELECT simulate_update_sale('2026-01-31 12:00:00')",
    "simulate_delete_sale": "SELECT simulate_delete_sale('2026-01-31 12:00:00')",
    "simulate_sales": "SELECT simulate_sales('2026-01-31', 7)",
}


def connect(shop: ChinookDatabase) -> psycopg.Connection[Any]:
    assert shop.server is not None
    return shop.server.connect(shop.url.database or "")


def sell(shop: ChinookDatabase, count: int, step: str = "1 second") -> list[tuple[int, Decimal]]:
    """Call simulate_new_sale again and again, each for a step after the last."""
    return shop.rows(
        f"SELECT s.* FROM generate_series(1, {count}) n, LATERAL "
        f"simulate_new_sale(timestamp '2026-01-31' + n * interval '{step}') s"
    )


def state(shop: ChinookDatabase) -> dict[str, list[tuple[str]]]:
    """Return what sales can change, through one connection: a test may ask often."""
    spell = shop.shape.spell
    reads = {table: f"t::text FROM {spell(table)} t" for table in ("Invoice", "InvoiceLine")}
    reads["run"] = "t::text FROM chinook_sim_run t"
    reads |= {
        key: f"last_value::text FROM {sequence(shop, key)}"
        for key in ("invoice_id", "invoice_line_id")
    }
    with connect(shop) as connection:
        return {
            name: connection.execute(f"SELECT {read} ORDER BY 1").fetchall()
            for name, read in reads.items()
        }


def sequence(shop: ChinookDatabase, key: str) -> str:
    table = key.removesuffix("_id")
    return f"public.{table}_{key}_seq" if shop.shape.ids else f"public.{key}_seq"


def last_ids(shop: ChinookDatabase) -> tuple[int, ...]:
    """Return the highest ids of invoices and lines."""
    ((invoice, line),) = shop.rows(
        "SELECT (SELECT max([InvoiceId]) FROM [Invoice]), max([InvoiceLineId]) FROM [InvoiceLine]"
    )
    return invoice, line


def last_values(shop: ChinookDatabase) -> tuple[int, ...]:
    """Return where the sequences of invoices and lines stand."""
    names = [sequence(shop, key) for key in ("invoice_id", "invoice_line_id")]
    (found,) = shop.rows("SELECT " + ", ".join(f"pg_sequence_last_value('{n}')" for n in names))
    return found


def keep_tracks(shop: ChinookDatabase, count: int) -> None:
    shop.execute(
        *(f"DELETE FROM [{table}]" for table in ("PlaylistTrack", "InvoiceLine", "Invoice")),
        f"DELETE FROM [Track] WHERE [TrackId] > {[*TRACKS, 0][count - 1]}",
    )


def widen_the_gaps(shop: ChinookDatabase) -> tuple[list[int], list[int]]:
    """Add a customer and tracks far from all others; return the ids of all."""
    shop.execute(
        "INSERT INTO [Customer] ([CustomerId], [FirstName], [LastName], [Email]) "
        f"{overriding(shop)} VALUES (1000000, 'Far', 'Away', 'f@example.com')",
        "INSERT INTO [Track] ([TrackId], [Name], [MediaTypeId], [Milliseconds], [UnitPrice]) "
        f"{overriding(shop)} SELECT 1000000 + 7 * n, 'Far', 1, 1, 0.49 "
        "FROM generate_series(1, 3) n",
    )
    return [*CUSTOMERS, 1_000_000], [*TRACKS, *(1_000_000 + 7 * n for n in (1, 2, 3))]


def overriding(shop: ChinookDatabase) -> str:
    return "OVERRIDING SYSTEM VALUE" if "ALWAYS" in shop.shape.ids else ""


def fall_behind(shop: ChinookDatabase, by: int) -> None:
    """Insert an invoice with a line with ids of one's own, as an import would."""
    shop.execute(
        "INSERT INTO [Invoice] ([InvoiceId], [CustomerId], [InvoiceDate], [Total]) "
        f"{overriding(shop)} SELECT max([InvoiceId]) + {by}, 5, '2001-01-01', 0.99 FROM [Invoice]",
        "INSERT INTO [InvoiceLine] ([InvoiceLineId], [InvoiceId], [TrackId], [UnitPrice], "
        f"[Quantity]) {overriding(shop)} SELECT max([InvoiceLineId]) + {by}, "
        "(SELECT max([InvoiceId]) FROM [Invoice]), 3, 0.99, 1 FROM [InvoiceLine]",
    )


def sales_of(shop: ChinookDatabase, size: int, count: int, start: int) -> None:
    """Add sales of 2030 with the first `size` tracks each, far apart, and one after another."""
    shop.execute(
        "INSERT INTO [Invoice] ([InvoiceId], [CustomerId], [InvoiceDate], [Total]) "
        f"{overriding(shop)} SELECT {start} + n * 500, 5, '2030-01-01', 0 "
        f"FROM generate_series(1, {count}) n",
        "INSERT INTO [InvoiceLine] ([InvoiceLineId], [InvoiceId], [TrackId], [UnitPrice], "
        f"[Quantity]) {overriding(shop)} SELECT {start} + n * 50 + k, {start} + n * 500, 3 * k, "
        f"0.99, 1 FROM generate_series(1, {count}) n, generate_series(1, {size}) k",
    )


def failures(shop: ChinookDatabase, day: date | None = None, *, changed: bool = False) -> list[str]:
    """Return the checks that fail; that sales of runs were changed, if they were, is none."""
    with shop.engine.connect() as connection:
        checks = verify_day(connection, day) if day else verify_all(connection)
    return [
        f"{check.name}: {check.figure}"
        for check in checks
        if not check.passed and not (changed and check.runs)
    ]


def without_their_customers_address(shop: ChinookDatabase) -> int:
    return int(
        shop.value(
            "SELECT count(*) FROM [Invoice] i LEFT JOIN [Customer] c USING ([CustomerId]) WHERE "
            "(c.[CustomerId], i.[BillingAddress], i.[BillingCity], i.[BillingState], "
            "i.[BillingCountry], i.[BillingPostalCode]) IS DISTINCT FROM (i.[CustomerId], "
            "c.[Address], c.[City], c.[State], c.[Country], c.[PostalCode])"
        )
    )


def assert_uniform(seen: Iterable[Any], cells: Iterable[Any]) -> None:
    """Compare with a chi-square that a uniform sample exceeds once in a million times."""
    counts = dict.fromkeys(cells, 0)
    for cell in seen:
        counts[cell] += 1
    expected = sum(counts.values()) / len(counts)
    assert expected > 10, "too few to judge"
    found = sum((count - expected) ** 2 / expected for count in counts.values())
    # Wilson and Hilferty: the cube root of chi-square / freedom is nearly normal.
    freedom = len(counts) - 1
    spread = 2 / (9 * freedom)
    assert found < freedom * (1 - spread + 4.7534 * sqrt(spread)) ** 3, counts


def assert_drawn_uniformly(shop: ChinookDatabase, customers: list[int], tracks: list[int]) -> None:
    """Look at customers and sizes together, and at the tracks of each size of basket."""
    found = shop.rows(
        "SELECT i.[CustomerId], array_agg(l.[TrackId]) FROM [Invoice] i "
        "JOIN [InvoiceLine] l USING ([InvoiceId]) WHERE i.[InvoiceDate] >= '2026-01-31' "
        "GROUP BY i.[InvoiceId]"
    )
    assert_uniform((customer for customer, _ in found), customers)
    pairs = product(customers, range(1, 6))
    assert_uniform(((customer, len(basket)) for customer, basket in found), pairs)
    # Drawn without putting back, counts vary less than the limit allows for.
    for size in range(3, 6):
        baskets = [basket for _, basket in found if len(basket) == size]
        assert_uniform((track for basket in baskets for track in basket), tracks)
    assert_uniform((track for _, basket in found for track in basket), tracks)


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


# Moments and days


@on_all_postgresql_migrated
def test_a_moment_is_kept_to_the_whole_second(shop: ChinookDatabase) -> None:
    moment = NOON.replace(microsecond=999_999)
    with connect(shop) as connection:
        ask = "SELECT * FROM simulate_new_sale(%s)"
        invoice, total = connection.execute(ask, [moment]).fetchall()[0]
    found = shop.rows(f"SELECT [InvoiceDate], [Total] FROM [Invoice] WHERE [InvoiceId] = {invoice}")
    assert found == [(NOON, total)]


@on_all_postgresql_migrated
def test_moments_can_be_written_as_sql(shop: ChinookDatabase) -> None:
    read = "SELECT [InvoiceDate] = date_trunc('second', {}::timestamp) FROM [Invoice] "
    for moment in (
        "'2026-01-31 10:00:00.7'",
        "DATE '2026-01-31'",
        "(CURRENT_DATE - 1)",
        "localtimestamp",
    ):
        with connect(shop) as connection, connection.transaction():
            called = connection.execute(f"SELECT * FROM simulate_new_sale({moment})").fetchall()
            where = f"WHERE [InvoiceId] = {called[0][0]}"
            kept = connection.execute(shop.sql(read.format(moment) + where)).fetchall()
            updated = connection.execute(f"SELECT simulate_update_sale({moment})").fetchall()
            deleted = connection.execute(f"SELECT simulate_delete_sale({moment})").fetchall()
        assert kept == [(True,)], moment
        assert updated == deleted == [(called[0][0],)], moment


@on_all_postgresql_migrated
def test_days_can_be_parameters_or_sql(shop: ChinookDatabase) -> None:
    with connect(shop) as connection:
        ask = "SELECT day, sales FROM simulate_sales(%s, %s)"
        assert connection.execute(ask, [DAY, 3]).fetchall() == [(DAY, 3)]
        ask = "SELECT day = CURRENT_DATE - 1, sales FROM simulate_sales(CURRENT_DATE - 1, 4)"
        assert connection.execute(ask).fetchall() == [(True, 4)]
        for function in ("simulate_update_sale", "simulate_delete_sale"):
            ask = f"SELECT {function}(%s) IS NULL"
            tomorrow = NOON + timedelta(days=1)
            assert connection.execute(ask, [tomorrow]).fetchall() == [(False,)]


WHOLE_DAY = (
    "DATE '2026-01-31'",
    "'2026-01-31'",
    "TIMESTAMP '2026-01-31'",
    "TIMESTAMPTZ '2026-01-31'",
    "simulation_date => DATE '2026-01-31'",
    "simulation_date => '2026-01-31'",
    "simulation_date => TIMESTAMP '2026-01-31'",
    "ts => '2026-01-31'",
)


@on_all_postgresql_migrated
def test_midnight_means_the_whole_day_and_the_ninety_before(shop: ChinookDatabase) -> None:
    moments = ("2025-11-02", "2026-01-31", "2026-01-31 23:59:59")
    sold = {sell_at(shop, moment) for moment in moments}
    for moment in ("2025-11-01 23:59:59", "2026-02-01"):
        sell_at(shop, moment)
    with connect(shop) as connection:
        for function in ("simulate_update_sale", "simulate_delete_sale"):
            for day in WHOLE_DAY:
                with connection.transaction(force_rollback=True):
                    chosen: set[int] = set()
                    while len(chosen) < 3:
                        (found,) = connection.execute(f"SELECT {function}({day})").fetchall()[0]
                        assert found in sold, (function, day)
                        chosen.add(found)
        for bound in (DAY, datetime.fromisoformat("2026-01-31"), datetime(2026, 1, 31, tzinfo=UTC)):
            (found,) = connection.execute("SELECT simulate_update_sale(%s)", [bound]).fetchall()[0]
            assert found in sold, bound


@on_each_postgresql_shape
def test_now_can_be_passed(shop: ChinookDatabase) -> None:
    with connect(shop) as connection:
        connection.execute("SET TimeZone = 'Asia/Kathmandu'")
        for now in ("now()", "p_invoice_date => now()", "CURRENT_TIMESTAMP"):
            with connection.transaction():
                ask = f"SELECT generated_invoice_id FROM simulate_new_sale({now})"
                (sold,) = connection.execute(ask).fetchall()
                read = "SELECT [InvoiceDate] = date_trunc('second', localtimestamp) FROM [Invoice]"
                where = f" WHERE [InvoiceId] = {sold[0]}"
                assert connection.execute(shop.sql(read + where)).fetchall() == [(True,)]
                for call in ("{}(now())", "{}(simulation_date => now())"):
                    updated = connection.execute(f"SELECT {call.format('simulate_update_sale')}")
                    assert updated.fetchall() == [sold]
                deleted = connection.execute("SELECT simulate_delete_sale(now())").fetchall()
                assert deleted == [sold]


@on_each_postgresql_shape
def test_no_time_zone_shifts_a_day_or_a_moment(shop: ChinookDatabase) -> None:
    with connect(shop) as connection:
        # There was no midnight of 2018-11-04 in São Paulo, and no 02:30 of 2026-03-29 in Paris.
        for zone, moment in (
            ("America/Sao_Paulo", "2018-11-04 00:00:00"),
            ("Europe/Paris", "2026-03-29 02:30:00"),
        ):
            connection.execute(f"SET TimeZone = '{zone}'")
            for written in (
                f"'{moment}'",
                f"timestamp '{moment}'",
                f"p_invoice_date => '{moment}'",
            ):
                ask = f"SELECT generated_invoice_id FROM simulate_new_sale({written})"
                (sold,) = connection.execute(ask).fetchall()[0]
                kept = shop.value(
                    f"SELECT [InvoiceDate]::text FROM [Invoice] WHERE [InvoiceId] = {sold}"
                )
                assert kept == moment
        connection.execute("SET TimeZone = 'America/Sao_Paulo'")
        late = sell_at(shop, "2018-11-04 23:00:00")
        connection.execute(shop.sql(f"DELETE FROM [InvoiceLine] WHERE [InvoiceId] < {late}"))
        connection.execute(shop.sql(f"DELETE FROM [Invoice] WHERE [InvoiceId] < {late}"))
        for day in ("DATE '2018-11-04'", "'2018-11-04'", "TIMESTAMPTZ '2018-11-04'"):
            for call in (
                f"simulate_update_sale({day})",
                f"simulate_update_sale(simulation_date => {day})",
            ):
                assert connection.execute(f"SELECT {call}").fetchall() == [(late,)], call


def refused(shop: ChinookDatabase, calls: Iterable[str], message: str) -> None:
    before = state(shop)
    with connect(shop) as connection:
        for call in calls:
            with pytest.raises(psycopg.Error, match=message):
                connection.execute(f"SELECT {call}")
    assert state(shop) == before


@on_each_postgresql_shape
def test_no_moment_and_infinity_are_refused(shop: ChinookDatabase) -> None:
    for function in ("simulate_new_sale", "simulate_update_sale", "simulate_delete_sale"):
        calls = [f"{function}({moment})" for moment in ("NULL", "'infinity'", "'-infinity'")]
        refused(shop, calls, f"^{function}: .*must be a.* timestamp")


@on_each_postgresql_shape
def test_no_day_and_no_number_are_refused(shop: ChinookDatabase) -> None:
    days = ("NULL", "'infinity'", "'-infinity'")
    calls = [f"simulate_sales({day}, 1)" for day in days]
    refused(shop, calls, "^simulate_sales: the day must be a date")
    calls = [f"simulate_sales('2026-01-31', {count})" for count in ("NULL", "-1")]
    refused(shop, calls, "^simulate_sales: the number of sales must be 0 or more")


@on_each_postgresql_shape
def test_a_day_that_no_client_can_read_is_refused(shop: ChinookDatabase) -> None:
    years = "'0044-03-15 BC'", "'10000-01-01'", "'9999-12-31'"
    refused(shop, [f"simulate_sales({day}, 1)" for day in years], "years 1 to 9999")
    refused(shop, [f"simulate_new_sale({day})" for day in years], "years 1 to 9999")
    assert sell_at(shop, "9999-12-30 23:59:59")


def sell_at(shop: ChinookDatabase, moment: str) -> int:
    (sold,) = shop.rows(f"SELECT generated_invoice_id FROM simulate_new_sale('{moment}')")
    return int(sold[0])


@on_each_postgresql_shape
@pytest.mark.parametrize("price", ["0.995", "'NaN'", "-1", "NULL"])
def test_a_price_that_is_no_amount_is_refused(shop: ChinookDatabase, price: str) -> None:
    for table in ("Track", "InvoiceLine"):
        shop.execute(
            f"ALTER TABLE [{table}] ALTER COLUMN [UnitPrice] TYPE numeric(10, 3)",
            f"ALTER TABLE [{table}] ALTER COLUMN [UnitPrice] DROP NOT NULL",
        )
    shop.execute(
        "UPDATE [Invoice] SET [InvoiceDate] = '2026-01-31 10:00'",
        f"UPDATE [Track] SET [UnitPrice] = {price}",
    )
    names = ("simulate_new_sale('{}')", "simulate_sales('{}', 1)", "simulate_update_sale('{}')")
    refused(shop, [name.format(DAY) for name in names[:2]], "is not in whole cents; correct it")
    refused(shop, [names[2].format(NOON)], "is not in whole cents; correct it")


@on_each_postgresql_shape
def test_a_day_for_which_too_few_ids_are_left_takes_none(shop: ChinookDatabase) -> None:
    last = 2**31 - 1 - 50
    name = sequence(shop, "invoice_id")
    shop.execute(f"SELECT setval('{name}', {last})")
    refused(shop, [f"simulate_sales('{DAY}', 51)"], "has 50 ids left")
    shop.execute(f'ALTER DATABASE "{shop.url.database}" SET quote_all_identifiers = on')
    refused(shop, [f"simulate_sales('{DAY}', 51)"], "has 50 ids left")
    assert shop.value(f"SELECT last_value FROM {name}") == last
    shop.rows(f"SELECT simulate_sales('{DAY}', 50)")


@on_each_postgresql_shape
def test_a_trigger_finds_what_is_beside_its_table(shop: ChinookDatabase) -> None:
    shop.execute(
        "CREATE TABLE audit (what text)",
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN INSERT INTO audit VALUES (TG_OP); RETURN NULL; END'",
        "CREATE TRIGGER noting AFTER INSERT OR UPDATE OR DELETE ON [Invoice] "
        "FOR EACH ROW EXECUTE FUNCTION note()",
    )
    shop.rows(f"SELECT simulate_new_sale('{NOON}'), simulate_sales('{DAY}', 2)")
    shop.rows(f"SELECT simulate_update_sale('{NOON}')")
    shop.rows(f"SELECT simulate_delete_sale('{NOON}')")
    assert [row[0] for row in shop.rows("SELECT what FROM audit")] == (
        ["INSERT"] * 3 + ["UPDATE", "DELETE"]
    )


# What a sale is


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


# Chance


@on_each_postgresql_shape
def test_single_sales_are_drawn_uniformly(shop: ChinookDatabase) -> None:
    sell(shop, 2_000)
    assert_drawn_uniformly(shop, CUSTOMERS, TRACKS)


@on_each_postgresql_shape
def test_single_sales_are_drawn_uniformly_over_wide_gaps(shop: ChinookDatabase) -> None:
    customers, tracks = widen_the_gaps(shop)
    sell(shop, 1_000)
    assert_drawn_uniformly(shop, customers, tracks)


@on_each_postgresql_shape
def test_a_days_sales_are_drawn_uniformly(shop: ChinookDatabase) -> None:
    customers, tracks = widen_the_gaps(shop)
    shop.execute("SELECT simulate_sales('2026-01-31', 20000)")
    assert_drawn_uniformly(shop, customers, tracks)
    moments = shop.rows("SELECT [InvoiceDate] FROM [Invoice] WHERE [InvoiceDate] >= '2026-01-31'")
    assert_uniform((moment.hour for (moment,) in moments), range(24))
    assert_uniform((moment.second for (moment,) in moments), range(60))
    assert failures(shop, DAY) == []


# A day's sales


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


# Changed and cancelled sales


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
        connection.execute('CREATE ROLE "a poor role"')
        for right in rights(shop, "simulate_delete_sale"):
            connection.execute(f'GRANT {right} TO "a poor role"')
        said = refusal(connection, CALLS["simulate_delete_sale"])
        assert said == 'GRANT SELECT ON public.review TO "a poor role"'
        connection.execute(said)
        connection.execute('SET LOCAL ROLE "a poor role"')
        assert connection.execute(CALLS["simulate_delete_sale"]).fetchall() != [(None,)]


@on_each_postgresql_shape
def test_rows_that_a_policy_hides_are_not_taken_along(shop: ChinookDatabase) -> None:
    (first, _), (second, _) = sell(shop, 2)
    shop.execute(
        "CREATE TABLE review (invoice integer REFERENCES [Invoice] ON DELETE CASCADE)",
        f"INSERT INTO review VALUES ({first}), ({second})",
        "ALTER TABLE review ENABLE ROW LEVEL SECURITY",
    )
    with connect(shop) as connection, connection.transaction(force_rollback=True):
        connection.execute("CREATE ROLE limited")
        for right in [*rights(shop, "simulate_delete_sale"), "SELECT ON review"]:
            connection.execute(f"GRANT {right} TO limited")
        connection.execute("SET LOCAL ROLE limited")
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


# Names that lead elsewhere


FUNCTIONS = (
    "random() RETURNS float",
    "floor(float) RETURNS float",
    "nextval(regclass) RETURNS bigint",
    "setval(regclass, bigint) RETURNS bigint",
    "pg_sequence_last_value(regclass) RETURNS bigint",
    "date_trunc(text, timestamp) RETURNS timestamp",
    "isfinite(timestamp) RETURNS boolean",
    "isfinite(date) RETURNS boolean",
    "cardinality(integer[]) RETURNS integer",
    "array_remove(integer[], integer) RETURNS integer[]",
    "sha256(bytea) RETURNS bytea",
    "gen_random_uuid() RETURNS uuid",
    "generate_series(integer, integer) RETURNS SETOF integer",
    "chinook_sim_in_step(regclass, bigint) RETURNS void",
    "chinook_sim_any_tracks(integer, integer[]) RETURNS integer[]",
    "chinook_sim_any_sale(timestamp, timestamp, integer) RETURNS integer",
    "chinook_sim_any_free_sale(timestamp, timestamp) RETURNS integer",
    "chinook_sim_hold_sale(integer, timestamp, timestamp, text) RETURNS boolean",
    "chinook_sim_referred() RETURNS text",
    "date_trunc(text, timestamptz) RETURNS timestamptz",
    "simulate_new_sale(timestamp) RETURNS integer",
    "simulate_update_sale(timestamp) RETURNS integer",
    "simulate_delete_sale(timestamp) RETURNS integer",
)
OPERATORS = (
    ("=", "integer", "integer", "boolean"),
    ("=", "integer", "bigint", "boolean"),
    ("<", "bigint", "integer", "boolean"),
    ("+", "bigint", "bigint", "bigint"),
    ("+", "integer", "integer", "integer"),
    ("-", "timestamp", "interval", "timestamp"),
    (">=", "timestamp", "timestamp", "boolean"),
    ("<=", "timestamp", "timestamp", "boolean"),
    ("*", "numeric", "integer", "numeric"),
    ("||", "integer[]", "integer", "integer[]"),
)
FAKED = ("Customer", "Track", "Invoice", "InvoiceLine")


def faked(shop: ChinookDatabase, create: str, prefix: str) -> list[str]:
    """Return statements for tables of the same names, with customers and tracks of their own."""
    statements = []
    for table in FAKED:
        name = shop.sql(f"[{table}]")
        statements.append(f"{create} {prefix}{name} (LIKE public.{name} INCLUDING DEFAULTS)")
        if table in ("Customer", "Track"):
            statements.append(f"INSERT INTO {prefix}{name} SELECT * FROM public.{name}")
    fake = f"{prefix}[Track] SET [UnitPrice] = 66", f"{prefix}[Customer] SET [Address] = 'fake'"
    return statements + [shop.sql(f"UPDATE {name}") for name in fake]


def assert_not_hijacked(
    shop: ChinookDatabase, connection: psycopg.Connection[Any], fakes: str
) -> None:
    before = shop.snapshot()
    (sold,) = connection.execute("SELECT public.simulate_new_sale(%s)", [NOON]).fetchall()
    assert sold
    (updated,) = connection.execute("SELECT public.simulate_update_sale(%s)", [NOON]).fetchall()[0]
    assert updated == before["Invoice"][-1][0] + 1
    connection.execute("SELECT public.simulate_sales(%s, 20)", [DAY])
    connection.execute("SELECT public.simulate_delete_sale(%s)", [DAY + timedelta(days=1)])
    after = shop.snapshot()
    assert len(after["Invoice"]) == len(before["Invoice"]) + 20
    # It may be a sale of simulate_sales that was deleted, which the ledger does not know.
    assert failures(shop, changed=True) == []
    assert without_their_customers_address(shop) == 0
    for table in ("Invoice", "InvoiceLine"):
        read = shop.sql(f"SELECT 1 FROM {fakes}[{table}]")
        assert not fakes or connection.execute(read).fetchall() == []


@on_all_postgresql_migrated
def test_a_hostile_schema_is_not_looked_into(shop: ChinookDatabase) -> None:
    with connect(shop) as connection:
        connection.execute("CREATE SCHEMA hostile")
        for statement in faked(shop, "CREATE TABLE", "hostile."):
            connection.execute(statement)
        connection.execute("CREATE TABLE hostile.chinook_sim_run (LIKE public.chinook_sim_run)")
        body = "LANGUAGE plpgsql AS $$BEGIN RAISE 'hijacked'; END$$"
        for function in FUNCTIONS:
            connection.execute(f"CREATE FUNCTION hostile.{function} {body}")
        for number, (operator, left, right, result) in enumerate(OPERATORS):
            name = f"hostile.never{number}"
            connection.execute(f"CREATE FUNCTION {name}({left}, {right}) RETURNS {result} {body}")
            connection.execute(
                f"CREATE OPERATOR hostile.{operator} "
                f"(LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = {name})"
            )
        for type_name in ("bigint", "text", "record", "regclass"):
            connection.execute(f'CREATE DOMAIN hostile."{type_name}" AS boolean')
        connection.execute("SET search_path = hostile, pg_catalog, public")
        with pytest.raises(psycopg.Error, match="hijacked"):
            connection.execute("SELECT 1 + 1, random()")
        assert_not_hijacked(shop, connection, "hostile.")
        found = connection.execute("SELECT 1 FROM hostile.chinook_sim_run").fetchall()
        assert found == []


@on_all_postgresql_migrated
def test_temporary_tables_of_the_same_names_are_not_looked_into(shop: ChinookDatabase) -> None:
    with connect(shop) as connection:
        for statement in faked(shop, "CREATE TEMPORARY TABLE", "pg_temp."):
            connection.execute(statement)
        connection.execute("CREATE TEMPORARY TABLE chinook_sim_run (LIKE public.chinook_sim_run)")
        connection.execute("CREATE TEMPORARY TABLE pg_sequence (seqrelid oid, seqincrement bigint)")
        connection.execute("SET search_path = pg_temp, public")
        assert_not_hijacked(shop, connection, "pg_temp.")
        assert connection.execute("SELECT 1 FROM pg_temp.chinook_sim_run").fetchall() == []


@on_all_postgresql_migrated
def test_no_search_path_is_needed(shop: ChinookDatabase) -> None:
    with connect(shop) as connection:
        connection.execute("SET search_path = ''")
        assert_not_hijacked(shop, connection, "")


# Sequences


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


# Many at once


def at_once(shop: ChinookDatabase, statements: list[str]) -> list[Any]:
    """Run the statements in eight sessions, each for itself; return what all came to."""

    def session(_: int) -> list[Any]:
        with connect(shop) as connection:
            return [connection.execute(statement).fetchall()[0][0] for statement in statements]

    with ThreadPoolExecutor(8) as sessions:
        return [value for values in sessions.map(session, range(8)) for value in values]


@on_all_postgresql_migrated
def test_eight_sessions_at_once_do_not_disturb_each_other(shop: ChinookDatabase) -> None:
    sell(shop, 100)
    fall_behind(shop, 1_000)
    highest, before = last_ids(shop)[0], shop.value("SELECT count(*) FROM [Invoice]")
    names = ("simulate_new_sale", "simulate_update_sale", "simulate_delete_sale")
    results = at_once(shop, [CALLS[name] for name in names] * 50)
    sold, updated, deleted = results[::3], results[1::3], results[2::3]
    sold = [int(invoice) for invoice, _ in sold]
    assert len(set(sold)) == 8 * 50
    assert min(sold) > highest
    assert None not in updated
    assert None not in deleted
    assert len(set(deleted)) == 8 * 50
    assert shop.value("SELECT count(*) FROM [Invoice]") == before
    standing = {row[0] for row in shop.rows("SELECT [InvoiceId] FROM [Invoice]")}
    assert not standing & set(deleted)
    assert failures(shop, DAY) == []


@on_each_postgresql_shape
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


# Rights and transactions

BOTH = ("SELECT ON {line}", "INSERT ON {line}", "USAGE ON SEQUENCE {line_sequence}")
SALE = (
    *("SELECT ON {customer}", "SELECT ON {track}", "SELECT ON {invoice}", "INSERT ON {invoice}"),
    *("USAGE ON SEQUENCE {invoice_sequence}", *BOTH),
)
CHANGE = ("SELECT ON {invoice}", "UPDATE ON {invoice}")
RIGHTS = {
    "simulate_new_sale": SALE,
    "simulate_update_sale": (*CHANGE, "SELECT ON {track}", *BOTH),
    "simulate_delete_sale": (
        *CHANGE,
        "DELETE ON {invoice}",
        "SELECT ON {line}",
        "DELETE ON {line}",
    ),
    "simulate_sales": (*SALE, "SELECT ON {run}", "INSERT ON {run}", "INSERT ON {run_invoices}"),
}


def rights(shop: ChinookDatabase, name: str) -> list[str]:
    tables = {"customer": "Customer", "track": "Track", "invoice": "Invoice", "line": "InvoiceLine"}
    names = {key: f"public.{shop.shape.spell(table)}" for key, table in tables.items()}
    names["invoice_sequence"] = sequence(shop, "invoice_id")
    names["line_sequence"] = sequence(shop, "invoice_line_id")
    names["run"] = "public.chinook_sim_run"
    names["run_invoices"] = "public.chinook_sim_run_invoices"
    return [right.format(**names) for right in RIGHTS[name]]


def refusal(connection: psycopg.Connection[Any], call: str) -> str:
    """Call as the poor role, and return what the message says to do."""
    connection.execute('SET LOCAL ROLE "a poor role"')
    with pytest.raises(psycopg.errors.InsufficientPrivilege) as caught, connection.transaction():
        connection.execute(call)
    connection.execute("RESET ROLE")
    found = re.search(r"GRANT .*", str(caught.value))
    assert found, caught.value
    return found[0]


@on_all_postgresql_migrated
@pytest.mark.parametrize("name", RIGHTS)
def test_a_missing_right_is_named_with_its_grant(shop: ChinookDatabase, name: str) -> None:
    sell(shop, 30)
    wanted = rights(shop, name)
    with connect(shop) as connection, connection.transaction(force_rollback=True):
        connection.execute('CREATE ROLE "a poor role"')
        for right in wanted:
            connection.execute(f'GRANT {right} TO "a poor role"')
        for right in wanted:
            connection.execute(f'REVOKE {right} FROM "a poor role"')
            said = refusal(connection, CALLS[name])
            assert said == f'GRANT {right} TO "a poor role"'
            connection.execute(said)
        connection.execute('SET LOCAL ROLE "a poor role"')
        assert connection.execute(CALLS[name]).fetchall() != [(None,)]


@on_each_postgresql_shape
def test_a_sequence_far_behind_needs_a_right_that_is_named(shop: ChinookDatabase) -> None:
    fall_behind(shop, 2_000_000)
    with connect(shop) as connection, connection.transaction(force_rollback=True):
        connection.execute('CREATE ROLE "a poor role"')
        for right in rights(shop, "simulate_new_sale"):
            connection.execute(f'GRANT {right} TO "a poor role"')
        for key in ("invoice_id", "invoice_line_id"):
            said = refusal(connection, CALLS["simulate_new_sale"])
            assert said == f'GRANT UPDATE ON SEQUENCE {sequence(shop, key)} TO "a poor role"'
            connection.execute(said)
        connection.execute('SET LOCAL ROLE "a poor role"')
        connection.execute(CALLS["simulate_new_sale"])


@on_all_postgresql_migrated
def test_all_is_taken_back_with_the_callers_transaction(shop: ChinookDatabase) -> None:
    sell(shop, 30)
    before = state(shop)
    with connect(shop) as connection, connection.transaction(force_rollback=True):
        for call in CALLS.values():
            connection.execute(call)
    after = state(shop)
    for table in ("Invoice", "InvoiceLine", "run"):
        assert after[table] == before[table]
