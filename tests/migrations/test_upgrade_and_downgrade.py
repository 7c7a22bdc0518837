"""Upgrades and downgrades: each revision makes what is missing, and takes away only that."""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from alembic import command as alembic
from sqlalchemy import Engine, create_engine, inspect, select
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from chinook_sim import generate_d1
from chinook_sim.database.locks import ID_LOCK
from chinook_sim.errors import MigrationRefused, NoLedger
from chinook_sim.models import Run
from chinook_sim.provisioning.ledger_location import installed
from chinook_sim.provisioning.migration_runner import head, upgrade
from chinook_sim.verification import verify_all
from support import ROOT
from support.alembic_commands import OURS, alembic_process, config, downgrade, timeless
from support.cases import (
    cases,
    on_both_databases_unmigrated,
    on_each_shape_unmigrated,
    on_each_sqlite_shape_unmigrated,
    on_three_shapes_unmigrated,
    on_two_postgresql_shapes_unmigrated,
    on_variants,
)
from support.chinook_variants import SHAPES, TABLES, build_postgresql
from support.postgres_server import LOCK_WAITS, MAJORS

if TYPE_CHECKING:
    from support.chinook_variants import Shape
    from support.command import Command
    from support.databases import ChinookDatabase
    from support.postgres_server import Server

DAY = date(2026, 1, 31)


def tables(shop: ChinookDatabase) -> set[str]:
    with shop.engine.connect() as connection:
        return set(inspect(connection).get_table_names())


def words(dump: str) -> list[str]:
    """Return the words of a dump in any order."""
    return sorted(re.split(r"[\s,()]+", timeless(dump)))


@on_each_shape_unmigrated
def test_up_and_down_leaves_every_byte_as_it_was(shop: ChinookDatabase) -> None:
    before = shop.dump()
    with shop.engine.begin() as connection:
        assert installed(connection) is None
        upgrade(connection)
        assert installed(connection) == head()
    after = shop.dump()
    with shop.engine.begin() as connection:
        downgrade(connection)
    assert shop.dump() == before
    with shop.engine.begin() as connection:
        upgrade(connection)
    assert timeless(shop.dump()) == timeless(after)


@on_three_shapes_unmigrated
def test_a_downgrade_of_what_was_never_upgraded_leaves_nothing(shop: ChinookDatabase) -> None:
    before = shop.dump()
    with shop.engine.begin() as connection:
        downgrade(connection)
    assert shop.dump() == before


@on_three_shapes_unmigrated
@pytest.mark.slow(reason="goes through ten revisions one by one, and back")
def test_each_revision_takes_away_what_it_added(shop: ChinookDatabase) -> None:
    dumps = [timeless(shop.dump())]
    with shop.engine.connect() as connection:
        while installed(connection) != head():
            alembic.upgrade(config(connection), "+1")
            connection.commit()
            dumps.append(timeless(shop.dump()))
    assert len(dumps) == 11
    for dump in reversed(dumps[1:-1]):
        with shop.engine.begin() as connection:
            downgrade(connection, "-1")
        # But for the order of columns: one that was dropped comes back as the last.
        assert words(shop.dump()) == words(dump)
    with shop.engine.begin() as connection:
        downgrade(connection, "-1")
    assert timeless(shop.dump()) == dumps[0]


@on_each_shape_unmigrated
def test_a_real_chinook_gets_no_table_but_ours(shop: ChinookDatabase) -> None:
    before, rows = tables(shop), shop.snapshot()
    with shop.engine.begin() as connection:
        upgrade(connection)
    assert tables(shop) - before == OURS
    assert shop.snapshot() == rows


@on_each_shape_unmigrated
def test_sequences_are_made_only_where_nothing_gives_ids(shop: ChinookDatabase) -> None:
    with shop.engine.begin() as connection:
        upgrade(connection)
    made = {row[0] for row in shop.rows("SELECT name FROM chinook_sim_created_table")}
    wanted = {"invoice_id_seq", "invoice_line_id_seq"} if not shop.shape.gives_ids else set()
    assert made == wanted
    with shop.engine.begin() as connection:
        from sqlalchemy.orm import Session

        batch = generate_d1(Session(connection), 3)
    assert list(batch.invoice_ids) == [31, 32, 33]


@on_variants([case for case in cases() if case.major and not case.shape.ids])
@pytest.mark.slow(reason="a rare case of the sequences that another test has")
def test_a_sequence_of_that_name_is_used_and_stays(shop: ChinookDatabase) -> None:
    shop.execute("CREATE SEQUENCE invoice_id_seq START 1000")
    before = shop.dump()
    with shop.engine.begin() as connection:
        upgrade(connection)
    assert shop.rows("SELECT name FROM chinook_sim_created_table") == [("invoice_line_id_seq",)]
    assert shop.value("SELECT generated_invoice_id FROM simulate_new_sale('2026-01-31')") > 1000
    shop.execute(
        "DELETE FROM [InvoiceLine] WHERE [InvoiceId] > 1000",
        "DELETE FROM [Invoice] WHERE [InvoiceId] > 1000",
        "ALTER SEQUENCE invoice_id_seq RESTART",
    )
    with shop.engine.begin() as connection:
        downgrade(connection)
    assert shop.dump() == before


@on_three_shapes_unmigrated
def test_what_is_missing_is_made_and_what_was_made_is_taken_away(shop: ChinookDatabase) -> None:
    shop.execute("DROP TABLE [PlaylistTrack]", "DROP TABLE [Playlist]")
    before, dump = tables(shop), shop.dump()
    with shop.engine.begin() as connection:
        upgrade(connection)
    assert shop.value("SELECT count(*) FROM [PlaylistTrack]") == 0
    assert len(tables(shop) - before) == 2 + len(OURS)
    shop.execute("INSERT INTO [Playlist] VALUES (1, 'mine')")
    with shop.engine.begin() as connection, pytest.raises(MigrationRefused, match=r"1 rows"):
        downgrade(connection)
    assert shop.value("SELECT count(*) FROM [Playlist]") == 1
    shop.execute("DELETE FROM [Playlist]")
    with shop.engine.begin() as connection:
        downgrade(connection)
    assert shop.dump() == dump


def test_an_empty_database_gets_all_and_gives_ids(server: Server) -> None:
    database = server.create_database()
    empty = server.dump(database)
    engine = create_engine(server.url(database), poolclass=NullPool)
    with engine.begin() as connection:
        upgrade(connection)
        assert set(TABLES) <= set(inspect(connection).get_table_names())
        connection.exec_driver_sql('INSERT INTO "Genre" ("Name") VALUES (\'Rock\')')
    with engine.begin() as connection, pytest.raises(MigrationRefused, match="Genre"):
        downgrade(connection)
    with engine.begin() as connection:
        connection.exec_driver_sql('DELETE FROM "Genre"')
        downgrade(connection)
    assert server.dump(database) == empty
    with engine.begin() as connection:
        upgrade(connection)
    server.drop_database(database)


def test_a_table_that_was_filled_while_a_downgrade_waited_is_not_dropped(server: Server) -> None:
    database = server.create_database()
    engine = create_engine(server.url(database), poolclass=NullPool)
    with engine.begin() as connection:
        upgrade(connection)
    with (
        server.connect(database) as other,
        server.connect(database) as watcher,
        ThreadPoolExecutor() as pool,
    ):
        # The snapshot of a transaction that is repeatable would be from before the lock.
        default = "SET default_transaction_isolation TO 'repeatable read'"
        other.execute(f'ALTER DATABASE "{database}" {default}')
        with other.transaction():
            other.execute('INSERT INTO "Genre" ("Name") VALUES (\'precious\')')
            going_down = pool.submit(run_downgrade, engine)
            while watcher.execute(LOCK_WAITS).fetchone() == (0,) and not going_down.done():
                time.sleep(0.01)
        with pytest.raises(MigrationRefused, match="Genre"):
            going_down.result(timeout=60)
        assert other.execute('SELECT count(*) FROM "Genre"').fetchone() == (1,)
    server.drop_database(database)


def run_downgrade(engine: Engine) -> None:
    with engine.begin() as connection:
        downgrade(connection)


def test_a_transaction_that_sees_only_its_beginning_is_refused(server: Server) -> None:
    database = server.create_database()
    engine = create_engine(server.url(database), poolclass=NullPool, isolation_level="SERIALIZABLE")
    with engine.begin() as connection:
        connection.exec_driver_sql("SELECT 1 FROM pg_class LIMIT 1")
        with pytest.raises(MigrationRefused, match="READ COMMITTED"):
            upgrade(connection)
    server.drop_database(database)


def test_rows_behind_a_policy_are_not_overlooked(server: Server) -> None:
    database = server.create_database()
    role = f"migrator_{database}"
    with server.connect(database) as admin:
        admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
        admin.execute(f"GRANT CREATE ON SCHEMA public TO {role}")
        url = server.url(database, user=role, password="x")
        engine = create_engine(url, poolclass=NullPool)
        with engine.begin() as connection:
            upgrade(connection)
        admin.execute('INSERT INTO "Genre" ("Name") VALUES (\'precious\')')
        for what in ("ENABLE", "FORCE"):
            admin.execute(f'ALTER TABLE "Genre" {what} ROW LEVEL SECURITY')
        with pytest.raises(Exception, match="row-level security"):
            run_downgrade(engine)
        assert admin.execute('SELECT count(*) FROM "Genre"').fetchone() == (1,)
    server.drop_database(database)
    with server.connect() as admin:
        admin.execute(f"DROP ROLE {role}")


@on_three_shapes_unmigrated
@pytest.mark.slow(reason="a rare case; other tests refuse downgrades")
def test_what_took_the_place_of_ours_is_not_dropped(shop: ChinookDatabase) -> None:
    shop.execute("DROP TABLE [PlaylistTrack]", "DROP TABLE [Playlist]")
    with shop.engine.begin() as connection:
        upgrade(connection)
    shop.execute("DROP TABLE [PlaylistTrack]", "DROP TABLE [Playlist]")
    shop.execute("CREATE TABLE [Playlist] ([PlaylistId] integer PRIMARY KEY, mine text)")
    own_sequence = shop.server is not None and not shop.shape.ids
    if own_sequence:
        shop.execute("DROP SEQUENCE invoice_id_seq", "CREATE SEQUENCE invoice_id_seq START 777")
    with shop.engine.begin() as connection:
        downgrade(connection)
    assert shop.rows("SELECT mine FROM [Playlist]") == []
    if own_sequence:
        assert shop.value("SELECT nextval('invoice_id_seq')") == 777


@on_two_postgresql_shapes_unmigrated
@pytest.mark.slow(reason="a rare case of the sequences that another test has")
def test_ids_below_one_leave_a_sequence_at_its_start(shop: ChinookDatabase) -> None:
    shop.execute(
        "DELETE FROM [InvoiceLine]",
        "UPDATE [Invoice] SET [InvoiceId] = -[InvoiceId]"
        if "ALWAYS" not in shop.shape.ids
        else "DELETE FROM [Invoice]",
    )
    with shop.engine.begin() as connection:
        upgrade(connection)
    assert shop.value("SELECT generated_invoice_id FROM simulate_new_sale('2026-01-31')") > 0


@on_three_shapes_unmigrated
def test_upgrade_does_not_commit_the_callers_transaction(shop: ChinookDatabase) -> None:
    before = shop.dump()
    with shop.engine.connect() as connection:
        upgrade(connection)
        connection.rollback()
    assert shop.dump() == before


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
    list(zip(SHAPES[:4], MAJORS * 2, strict=True)),
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


@on_each_shape_unmigrated
def test_alembic_finds_nothing_to_change(shop: ChinookDatabase) -> None:
    with shop.engine.begin() as connection:
        upgrade(connection)
        alembic.check(config(connection))


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
