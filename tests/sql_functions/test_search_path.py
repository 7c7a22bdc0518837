"""The SQL functions use Chinook and PostgreSQL, wherever `search_path` leads."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from support.cases import on_all_postgresql_migrated
from support.sql_functions import connect, failures, without_their_customers_address

if TYPE_CHECKING:
    from support.databases import ChinookDatabase

DAY = date(2026, 1, 31)
NOON = datetime.fromisoformat("2026-01-31 12:00:00")

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
