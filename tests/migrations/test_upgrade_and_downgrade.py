"""Upgrades and downgrades: each takes away what it made, and nothing else."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from alembic import command as alembic
from sqlalchemy import Engine, create_engine, inspect
from sqlalchemy.pool import NullPool

from chinook_sim import generate_d1
from chinook_sim.errors import MigrationRefused
from chinook_sim.provisioning.ledger_location import installed
from chinook_sim.provisioning.migration_runner import head, upgrade
from support.alembic_commands import OURS, config, downgrade, timeless
from support.cases import (
    cases,
    on_both_databases_unmigrated,
    on_each_shape_unmigrated,
    on_three_shapes_unmigrated,
    on_two_postgresql_shapes_unmigrated,
    on_variants,
)
from support.chinook_variants import TABLES
from support.postgres_server import LOCK_WAITS

if TYPE_CHECKING:
    from support.databases import ChinookDatabase
    from support.postgres_server import Server


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


@on_both_databases_unmigrated
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


@on_each_shape_unmigrated
def test_alembic_finds_nothing_to_change(shop: ChinookDatabase) -> None:
    with shop.engine.begin() as connection:
        upgrade(connection)
        alembic.check(config(connection))
