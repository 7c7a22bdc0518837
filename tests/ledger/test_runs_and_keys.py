"""The ledger: what it keeps of a run, and which requests are one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import inspect
from sqlalchemy.orm import Session

from chinook_sim import (
    InvalidInput,
    KeyTaken,
    NoLedger,
    SaleFactory,
    align,
    backfill,
    generate_d1,
    live,
    simulate_changes,
)
from support import ROOT
from support.cases import (
    on_each_shape,
    on_each_shape_unmigrated,
    on_each_sqlite_shape,
    on_three_shapes,
)
from support.runs import make, runs, take_back

if TYPE_CHECKING:
    from pathlib import Path

    from support.databases import ChinookDatabase

DAY = date(2026, 1, 31)


@on_each_shape
def test_a_batch_stands_in_the_ledger(shop: ChinookDatabase) -> None:
    made = make(shop, seed=7, key="a job's run")
    (row,) = shop.rows(
        "SELECT run_id, key, day, timezone, requested, seed, profile, sales, lines, revenue, "
        "digest, first_invoice_id, last_invoice_id, hours, version "
        "FROM chinook_sim_run WHERE kind = 'generate'"
    )
    assert row[:2] == (made.run_id, "a job's run")
    assert str(row[2]) == str(DAY)
    assert row[3:9] == (None, 20, 7, "uniform", 20, made.lines)
    assert round(float(row[9]) * 100) == made.revenue * 100
    assert row[10:13] == (made.digest, made.invoice_ids[0], made.invoice_ids[-1])
    assert tuple(json.loads(row[13])) == made.hours
    assert row[14] == "0.1.0"
    ranges = shop.rows(
        "SELECT run_id, first_id, last_id, step, length(fingerprints) FROM chinook_sim_run_invoices"
    )
    assert ranges == [(made.run_id, row[11], row[12], 1, 16 * made.count)]


@on_each_shape_unmigrated
def test_without_a_ledger_sales_are_made_but_not_once(shop: ChinookDatabase) -> None:
    assert make(shop).run_id is None
    requests: list[dict[str, Any]] = [{"once": True}, {"key": "k"}]
    for wanted in requests:
        with pytest.raises(NoLedger, match="init"):
            make(shop, **wanted)
    assert shop.value("SELECT count(*) FROM [Invoice]") == 50


@on_three_shapes
def test_what_is_rolled_back_is_in_no_ledger(shop: ChinookDatabase) -> None:
    with Session(shop.engine) as session:
        generate_d1(session, 5, day=DAY, once=True)
        session.rollback()
    assert runs(shop) == []
    assert not make(shop, once=True).existed


@on_each_shape
def test_a_day_asked_for_again_is_there_already(shop: ChinookDatabase) -> None:
    first = make(shop, once=True)
    requests: list[dict[str, Any]] = [{}, {"seed": first.seed}]
    for wanted in requests:
        again = make(shop, once=True, **wanted)
        assert again == replace(first, existed=True)
    assert shop.value("SELECT count(*) FROM [Invoice]") == 50
    assert len(runs(shop)) == 1
    # Another day, and the same day without a key, are other requests.
    assert not make(shop, once=True, day=DAY + timedelta(days=1)).existed
    assert not make(shop).existed


@on_three_shapes
def test_a_key_stands_for_one_request(shop: ChinookDatabase) -> None:
    make(shop, key="job", seed=7)
    assert make(shop, key="job").existed
    others: list[tuple[dict[str, Any], str, str]] = [
        ({"n": 21}, "number of sales", "number of sales 20, not 21"),
        ({"seed": 8}, "seed", "seed 7, not 8"),
        ({"day": date(2026, 2, 1)}, "day", "day 2026-01-31, not 2026-02-01"),
    ]
    for wanted, name, told in others:
        with pytest.raises(KeyTaken, match=told) as caught:
            make(shop, **{"key": "job", **wanted})
        assert list(caught.value.differences) == [name]
        assert caught.value.key == "job"
    assert len(runs(shop)) == 1


@pytest.mark.parametrize("key", ["", " ", "x" * 201, "two\nlines", "once:2026-01-31", 7])
def test_a_key_is_short_and_printable(key: Any) -> None:
    with pytest.raises(InvalidInput, match="key"):
        generate_d1(None, 1, key=key)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="once"):
        generate_d1(None, 1, key="a", once=True)  # type: ignore[arg-type]


@on_three_shapes
def test_a_factory_s_batches_stand_in_the_ledger(shop: ChinookDatabase) -> None:
    with Session(shop.engine) as session, session.begin():
        factory = SaleFactory(session, seed=3)
        factory.create_batch(5, DAY)
        second = factory.create_batch(5, DAY)
    assert [row[3] for row in runs(shop)] == [5, 5]
    found = shop.rows(f"SELECT parameters FROM chinook_sim_run WHERE run_id = '{second.run_id}'")
    assert found == [('{"start": 5}',)]


def test_tables_made_by_sqlalchemy_have_the_key_too(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom sqlalchemy import create_engine, inspect\n"
        "from chinook_sim import Base\nengine = create_engine(sys.argv[1])\n"
        "Base.metadata.create_all(engine)\n"
        "print(inspect(engine).get_indexes('chinook_sim_run')[0]['name'])"
    )
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    done = subprocess.run(
        [sys.executable, "-c", code, url], capture_output=True, text=True, check=True
    )
    assert done.stdout == "chinook_sim_run_key\n"


@on_each_sqlite_shape
def test_each_column_of_the_ledger_has_one_storage_class(shop: ChinookDatabase) -> None:
    # Prices of whole dollars beside others, and rows of every kind of run.
    shop.execute("UPDATE [Track] SET [UnitPrice] = 1 WHERE [TrackId] % 2 = 0")
    with Session(shop.engine) as session, session.begin():
        align(session)
    for number in range(12):
        made = make(shop, 1, seed=number, key=str(number), timezone="Europe/Paris")
    take_back(shop, made.run_id)
    make(shop, 0)
    make(shop, 20, late=0.5, profile="realistic", new_customers=2, moves=2, price_changes=5)
    make(shop, 20, updates=3, cancellations=3)
    with Session(shop.engine) as session, session.begin():
        simulate_changes(session, updates=2, cancellations=2)
        SaleFactory(session).create_batch(3, day=DAY)
    list(backfill(shop.engine, DAY - timedelta(days=3), DAY - timedelta(days=1), 5, seed=1))
    list(live(shop.engine, 200, seed=7, mix=(6, 3, 1), duration=0.2))
    assert any(revenue % 1 == 0 for (revenue,) in shop.rows("SELECT revenue FROM chinook_sim_run"))
    with shop.engine.connect() as connection:
        found = inspect(connection)
        columns = [
            (table, column["name"])
            for table in found.get_table_names()
            # Nothing was made in a shop that was there, so nothing is noted as made.
            if table.startswith("chinook_sim_") and table != "chinook_sim_created_table"
            for column in found.get_columns(table)
        ]
    kinds = {
        f"{table}.{column}": {
            kind
            for (kind,) in shop.rows(
                f"SELECT DISTINCT typeof({column}) FROM {table} WHERE {column} IS NOT NULL"
            )
        }
        for table, column in columns
    }
    assert [column for column, classes in kinds.items() if len(classes) > 1] == []
    assert [column for column, classes in kinds.items() if not classes] == []
    assert kinds["chinook_sim_run.revenue"] == {"real"}
    assert kinds["chinook_sim_run.day"] == {"text"}
    assert kinds["chinook_sim_run_invoices.fingerprints"] == {"blob"}
    # The shop's own columns have what they are declared as; the documented queries have one class.
    guide = (ROOT / "docs" / "how-to" / "read-sqlite.md").read_text(encoding="utf-8")
    cast, cents = re.findall(r"```sql\n(.*?);\n```", guide, re.DOTALL)
    assert {type(row[2]) for row in shop.rows(cast)} == {float}
    assert {type(row[1]) for row in shop.rows(cents)} == {int}
    assert len(shop.rows("SELECT DISTINCT typeof([Total]) FROM [Invoice]")) == 2
