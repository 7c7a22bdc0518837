"""The arguments of the SQL functions: moments, days, numbers and prices."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from support.cases import on_all_postgresql_migrated, on_each_postgresql_shape
from support.sql_functions import connect, refused, sequence

if TYPE_CHECKING:
    from support.databases import ChinookDatabase

DAY = date(2026, 1, 31)
NOON = datetime.fromisoformat("2026-01-31 12:00:00")


@on_all_postgresql_migrated
def test_a_timestamp_is_truncated_to_the_second(shop: ChinookDatabase) -> None:
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
def test_midnight_means_that_day_and_the_ninety_before(shop: ChinookDatabase) -> None:
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
