"""What a shop that was in use keeps of an upgrade."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from alembic import command as alembic
from sqlalchemy import create_engine, inspect, select
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from chinook_sim import generate_d1
from chinook_sim.database.locks import ID_LOCK
from chinook_sim.errors import NoLedger
from chinook_sim.models import Run
from chinook_sim.provisioning.ledger_location import installed
from chinook_sim.provisioning.migration_runner import head, upgrade
from chinook_sim.verification import verify_all
from support import ROOT
from support.alembic_commands import OURS, alembic_process, config, downgrade
from support.cases import (
    on_both_databases_unmigrated,
    on_each_sqlite_shape_unmigrated,
    on_two_postgresql_shapes_unmigrated,
)
from support.chinook_variants import SHAPES, build_postgresql
from support.postgres_server import MAJORS

if TYPE_CHECKING:
    from support.chinook_variants import Shape
    from support.command import Command
    from support.databases import ChinookDatabase
    from support.postgres_server import Server

DAY = date(2026, 1, 31)


@on_both_databases_unmigrated
@pytest.mark.slow(reason="many migrations")
def test_a_ledger_that_was_dropped_can_be_made_again(
    shop: ChinookDatabase, command: Command
) -> None:
    with shop.engine.begin() as connection:
        upgrade(connection)
    shop.execute("DROP TABLE chinook_sim_run")
    done = command("init", DATABASE_URL=shop.text)
    assert done.returncode == 3
    assert "alembic downgrade 0002" in done.stderr
    with shop.engine.begin() as connection:
        downgrade(connection, "0002")
        upgrade(connection)
    assert command("generate", "5", "--once", DATABASE_URL=shop.text).returncode == 0


@pytest.mark.parametrize(
    ("shape", "server"),
    list(zip((SHAPES[0], SHAPES[3]), MAJORS, strict=True)),
    indirect=["server"],
    ids=lambda it: getattr(it, "name", it),
)
@pytest.mark.slow(reason="a migration, its check and its way back, in another schema")
def test_a_schema_off_the_search_path_is_found(shape: Shape, server: Server) -> None:
    database = server.create_database()
    build_postgresql(shape, server, database, schema="Music Shop's")
    before = server.dump(database)
    engine = create_engine(server.url(database), poolclass=NullPool)
    with engine.begin() as connection:
        upgrade(connection)
        names = inspect(connection).get_table_names(schema="Music Shop's")
        assert set(names) >= OURS
        assert inspect(connection).get_table_names(schema="public") == []
        assert installed(connection) == head()
    url = server.url(database).render_as_string(hide_password=False)
    assert alembic_process("check", DATABASE_URL=url).returncode == 0
    with server.connect(database) as other:
        other.execute('SELECT "Music Shop\'s".simulate_new_sale(localtimestamp)')
        other.execute('SELECT "Music Shop\'s".simulate_sales(CURRENT_DATE - 1, 10)')
    with engine.begin() as connection:
        downgrade(connection)
    assert server.dump(database).count("CREATE") == before.count("CREATE")
    server.drop_database(database)


@on_two_postgresql_shapes_unmigrated
@pytest.mark.slow(reason="five upgrades of each shape")
def test_the_functions_follow_a_schema_that_is_renamed(shop: ChinookDatabase) -> None:
    for revision in ("0006", "head"):
        with shop.engine.begin() as connection:
            alembic.upgrade(config(connection), revision)
        name = f'"it\'s {revision}"'
        shop.execute(f"ALTER SCHEMA public RENAME TO {name}")
        with shop.engine.begin() as connection:
            upgrade(connection)
        for call in ("new_sale(now())", "update_sale(now())", "delete_sale(now())", "sales(%s, 5)"):
            called = call.replace("%s", f"'{DAY}'")
            assert shop.rows(f"SELECT {name}.simulate_{called}") != [(None,)]
        shop.execute(f"ALTER SCHEMA {name} RENAME TO public")
    with shop.engine.begin() as connection:
        upgrade(connection)
    before = shop.dump()
    with shop.engine.begin() as connection:
        upgrade(connection)
    assert shop.dump() == before


def test_the_functions_and_the_library_hold_the_same_lock() -> None:
    source = (ROOT / "migrations" / "versions" / "0004_functions.py").read_text()
    assert f"LOCK = 0x{ID_LOCK:X}" in source


@on_both_databases_unmigrated
@pytest.mark.slow(reason="many migrations")
def test_the_ids_and_prices_of_runs_survive_an_upgrade(shop: ChinookDatabase) -> None:
    with shop.engine.begin() as connection:
        upgrade(connection)
    with Session(shop.engine) as session, session.begin():
        first = generate_d1(session, 2_500, day=DAY, seed=7)
        second = generate_d1(session, 20, day=DAY, seed=8, price_changes=5)
    ends = "SELECT run_id, min(first_id), max(last_id) FROM chinook_sim_run_invoices GROUP BY 1"
    ids = shop.rows(ends)
    known = shop.rows("SELECT run_id, prices_known FROM chinook_sim_run WHERE kind = 'generate'")
    with shop.engine.begin() as connection:
        downgrade(connection, "0005")
    kept = dict(shop.rows("SELECT run_id, invoice_ids FROM chinook_sim_run"))
    parts = [part for run in (first, second) for part in json.loads(kept[run.run_id])]
    assert [id_ for low, high, step in parts for id_ in range(low, high + 1, step)] == [
        *first.invoice_ids,
        *second.invoice_ids,
    ]
    noted = "SELECT run_id, subject_id FROM chinook_sim_change WHERE kind = 'prices known'"
    assert set(shop.rows(noted)) == {row for row in known if row[1] is not None}
    # What the ledger does not know could not be verified or undone: nothing is added to it.
    with Session(shop.engine) as session, pytest.raises(NoLedger, match="alembic upgrade head"):
        generate_d1(session, 1)
    with shop.engine.begin() as connection:
        upgrade(connection)
    assert sorted(known) == sorted(
        shop.rows("SELECT run_id, prices_known FROM chinook_sim_run WHERE kind = 'generate'")
    )
    assert sorted(ids) == sorted(shop.rows(ends))
    with shop.engine.connect() as connection:
        assert [check for check in verify_all(connection) if not check.passed] == []
    sale = f"[InvoiceId] = {first.invoice_ids[3]}"
    shop.execute(
        "UPDATE [Invoice] SET [CustomerId] = (SELECT max(c.[CustomerId]) FROM [Customer] c "
        f"WHERE c.[CustomerId] <> [Invoice].[CustomerId]) WHERE {sale}"
    )
    # The fingerprints are gone, but the digest still tells.
    with shop.engine.connect() as connection:
        wrong = [check for check in verify_all(connection) if not check.passed]
    assert [run.run_id for check in wrong for run in check.runs] == [first.run_id]


@on_each_sqlite_shape_unmigrated
def test_the_revenue_of_runs_survives_an_upgrade(shop: ChinookDatabase) -> None:
    amounts = "SELECT run_id, revenue, typeof(revenue) FROM chinook_sim_run ORDER BY 1"
    with shop.engine.begin() as connection:
        alembic.upgrade(config(connection), "0006")
    rows = [("1", 1), ("2", 1.98), ("3", 123456789012.34)]
    shop.execute(
        *(
            "INSERT INTO chinook_sim_run (run_id, kind, revenue, version) "
            f"VALUES ('{run}', 'generate', {revenue}, '')"
            for run, revenue in rows
        )
    )
    mixed = shop.rows(amounts)
    assert {kind for *_, kind in mixed} == {"integer", "real"}
    with shop.engine.begin() as connection:
        upgrade(connection)
    assert shop.rows(amounts) == [(run, float(revenue), "real") for run, revenue, _ in mixed]
    with Session(shop.engine) as session:
        found = {run.run_id: run.revenue for run in session.scalars(select(Run))}
    assert found["1"] == Decimal("1.00")
    assert found["3"] == Decimal("123456789012.34")
    with shop.engine.begin() as connection:
        downgrade(connection, "0006")
    assert shop.rows(amounts) == mixed
