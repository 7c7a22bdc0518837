"""Columns of the user may have any name, and come back as they were."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy.orm import Session

from chinook_sim import SaleFactory, align, backfill, live
from support.cases import on_variants
from support.chinook_variants import TABLES
from support.runs import take_back
from support.user_names import CASES, DAY, call_functions, each, execute, failed, make, quote, sell

if TYPE_CHECKING:
    from support.databases import ChinookDatabase

CHANGED = ("Invoice", "InvoiceLine", "Customer", "Track")
NAMES = [
    # Every alias that there could be, and names that our statements give to what they compute.
    *"abcdefghijklmnopqrstuvwxyz",
    *("value", "key", "number", "id", "ids", "part", "batch", "position", "place", "which", "low"),
    *("high", "seen", "valid", "yes", "next", "found", "a0", "a1", "unnest", "anon_1", "column0"),
    *("run_id", "kind", "subject", "subject_id", "change_id", "last_line_id", "before", "after"),
    *("invoice_ids", "numbers", "runs", "highest0", "last0", "count_1", "sum_1", "max_1", "path"),
    # What PostgreSQL would call a function on a row.
    *("to_jsonb", "json_agg", "json_populate_record", "jsonb_populate_record", "count", "nextval"),
    # Chinook's in the other spelling.
    *("invoice_id", "InvoiceId", "customer_id", "TrackId", "unit_price", "Total", "Name"),
    *("rowid", "_rowid_", "oid", "ctid_", "xmin_", "blob", "real", "row", "text"),
    *("select", "user", "order", "default", "table", "from", "where", "group", "null", "limit"),
    *("with space", 'double"quote', '"', "single'quote", "per%cent", "%", "%%", "%s", "%(run)s"),
    *("a:b", ":run", "x :ids", "::text", "a::b", ":", "\\", "back\\slash", "\\:runs", "\\\\:runs"),
    *("{brace}", "{0}", "{", "?", "$1", "$$", "$function$", "--", "-- '", "/* */", ";", "tab\t"),
    *("new\nline", ".", "*", "r.*", "[", "ünï", "日本", "x" * 63, "%:" * 31),
    # To Python's lower(), but not to SQLite, the same as a name of Chinook's.
    "Trac\N{KELVIN SIGN}Id",
]  # fmt: skip
"""Names of users' columns, all different to SQLite, which ignores the case of ASCII letters."""
on_postgresql = on_variants([case for case in CASES if case.major])


def add_columns(shop: ChinookDatabase, names: list[str]) -> None:
    """Add columns to the tables whose rows we change, and give each row a value in each."""
    for table, columns in TABLES.items():
        if table not in CHANGED:
            continue
        key, *others = (word.split(":")[0] for word in columns.split())
        taken = {shop.shape.spell(name).strip('"').casefold() for name in (key, *others)}
        free = [name for name in names if not name.isascii() or name.casefold() not in taken]
        of = shop.shape.spell(table)
        assigned = ", ".join(
            f"{quote(name)} = '{place} ' || {shop.shape.spell(key)}"
            for place, name in enumerate(free)
        )
        if shop.server is None:
            # All at once: after each ALTER TABLE, SQLite would parse the whole schema again.
            columns = ", ".join(f"{quote(name)} text" for name in free).replace("'", "''")
            execute(
                shop,
                "PRAGMA writable_schema = ON",
                "UPDATE sqlite_master "
                f"SET sql = replace(sql, ', CONSTRAINT', ', {columns}, CONSTRAINT') "
                f"WHERE type = 'table' AND name = '{table}'",
            )
            # As an ALTER TABLE would: other connections read the schema again.
            version = shop.value("PRAGMA schema_version")
            execute(shop, f"PRAGMA schema_version = {version + 1}")
        else:
            columns = ", ".join(f"ADD COLUMN {quote(name)} text" for name in free)
            execute(shop, f"ALTER TABLE {of} {columns}")
        execute(shop, f"UPDATE {of} SET {assigned}")


def contents(shop: ChinookDatabase) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of the tables that we change, with all their columns."""
    return {
        table: execute(shop, f"SELECT * FROM {shop.shape.spell(table)} ORDER BY 1")
        for table in CHANGED
    }


@each
def test_undo_is_exact_whatever_users_columns_are_called(shop: ChinookDatabase) -> None:
    sell(shop)
    add_columns(shop, NAMES)
    before = contents(shop)
    run = make(shop)
    ours = f"FROM chinook_sim_change WHERE run_id = '{run}' AND kind = 'cancellation'"
    for kept, number in execute(shop, f"SELECT before, subject_id {ours}"):
        document = json.loads(kept)
        place = NAMES.index("r")
        assert document["Invoice"][0]["r"] == f"{place} {number}"
        assert all(len(row) > len(NAMES) for rows in document.values() for row in rows)
    assert failed(shop) == []
    take_back(shop, run)
    assert contents(shop) == before
    assert failed(shop, day=False) == []


@each
@pytest.mark.slow(reason="many orders")
def test_runs_that_change_the_same_are_undone_one_by_one_and_together(
    shop: ChinookDatabase,
) -> None:
    sell(shop)
    add_columns(shop, NAMES)
    before = contents(shop)
    for day in backfill(shop.engine, DAY, DAY + timedelta(days=1), 5):
        take_back(shop, day.run_id or "")
    runs = [make(shop, seed=seed) for seed in (8, 9)]
    for run in reversed(runs):
        take_back(shop, run)
    assert contents(shop) == before
    stream = live(shop.engine, 400, seed=7, mix=(1, 2, 1))
    for number, batch in enumerate(stream):
        if number >= 2 and batch.made.updates:
            break
    stream.close()
    assert contents(shop) != before
    take_back(shop, stream.name)
    assert contents(shop) == before


@each
@pytest.mark.slow(reason="another test of this file has undo of such columns")
def test_another_value_in_a_users_column_is_kept(shop: ChinookDatabase) -> None:
    sell(shop)
    add_columns(shop, NAMES)
    before = contents(shop)
    run = make(shop)
    invoice, key = shop.shape.spell("Invoice"), shop.shape.spell("InvoiceId")
    changed = shop.value("SELECT min(subject_id) FROM chinook_sim_change WHERE kind = 'update'")
    update = f'UPDATE {invoice} SET "r" = {{}} WHERE {key} = {changed}'
    execute(shop, update.format("\"r\" || ' '"))
    take_back(shop, run)
    assert contents(shop) != before
    execute(shop, update.format('trim("r")'))
    assert contents(shop) == before


@each
@pytest.mark.slow(reason="other tests have such columns")
def test_single_sales_and_an_alignment_leave_users_columns_alone(shop: ChinookDatabase) -> None:
    add_columns(shop, NAMES)
    before = contents(shop)
    with Session(shop.engine) as session, session.begin():
        moved = align(session)
        made = SaleFactory(session, seed=7).create_batch(9, DAY)
        SaleFactory(session, seed=8).create(DAY)
        session.rollback()
    with Session(shop.engine) as session, session.begin():
        moved, made = align(session), SaleFactory(session, seed=7).create_batch(9, DAY)
    assert moved.invoices == 30
    take_back(shop, made.run_id or "")
    take_back(shop, moved.run_id or "")
    assert contents(shop) == before


@each
def test_users_tables_that_refer_to_sales_may_have_columns_of_any_name(
    shop: ChinookDatabase,
) -> None:
    names = ["r", "a:b", "per%cent", 'double"quote', "Invoice", "invoice_id", "back\\slash :x"]
    invoice, key = shop.shape.spell("Invoice"), shop.shape.spell("InvoiceId")
    sell(shop)
    for place, name in enumerate(names):
        table = quote(f"{name} {place}" if place else "r")
        execute(
            shop,
            f"CREATE TABLE {table} ({quote(name)} integer REFERENCES {invoice} ({key}))",
            f"INSERT INTO {table} SELECT max({key}) - {place} FROM {invoice}",
        )
    ((latest,),) = execute(shop, f"SELECT max({key}) FROM {invoice}")
    kept = [(latest - place,) for place in reversed(range(len(names)))]
    make(shop, cancellations=15)
    found = execute(
        shop,
        f"SELECT {key} FROM {invoice} WHERE {key} > {latest - len(names)} AND {key} <= {latest} "
        f"ORDER BY {key}",
    )
    assert found == kept


def variables(shop: ChinookDatabase) -> set[str]:
    """Return the names of all parameters and variables of the functions that are installed."""
    rows = execute(
        shop,
        "SELECT prosrc, coalesce(proargnames, ARRAY[]::text[]) FROM pg_proc "
        "WHERE proname LIKE 'simulate%' "
        "OR proname LIKE 'chinook_sim%'",
    )
    found = set()
    for source, parameters_ in rows:
        declared = source.partition("DECLARE")[2].partition("\nBEGIN")[0]
        found |= {*parameters_, *re.findall(r"^    (\w+) \w", declared, re.MULTILINE)}
        found |= set(re.findall(r"FOR (\w+) IN", source))
    assert {"customers", "p_day", "chosen", "attempt", "amount", "sales"} <= found
    return found


@on_postgresql
def test_functions_work_whatever_users_columns_are_called(shop: ChinookDatabase) -> None:
    add_columns(shop, [name for name in NAMES if name not in variables(shop)])
    call_functions(shop)
    assert failed(shop) == []


@on_postgresql
def test_functions_do_not_mistake_users_columns_for_their_variables(shop: ChinookDatabase) -> None:
    before = contents(shop)
    add_columns(shop, sorted(variables(shop)))
    call_functions(shop)
    assert failed(shop) == []
    customers = {row[0] for row in before["Customer"]}
    sold = f"SELECT {shop.shape.spell('CustomerId')} FROM {shop.shape.spell('Invoice')}"
    assert {row[0] for row in execute(shop, sold)} <= customers
