"""The first revision: it makes what is missing, and takes away only that."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from alembic import command as alembic
from alembic.config import Config
from alembic.util import CommandError
from conftest import cases, parameters
from shapes import SHAPES, TABLES, Shape, build_postgresql
from sqlalchemy import create_engine, inspect
from sqlalchemy.pool import NullPool

from chinook_sim.migrate import head, installed, upgrade

if TYPE_CHECKING:
    from conftest import Ground, Shop
    from postgres import Server
    from sqlalchemy import Connection

ROOT = Path(__file__).parents[1]

unmigrated = pytest.mark.parametrize("shop", parameters(cases()), indirect=True)


def downgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    alembic.downgrade(config, "base")


def tables(shop: Shop) -> set[str]:
    with shop.engine.connect() as connection:
        return set(inspect(connection).get_table_names())


@unmigrated
def test_a_real_chinook_gets_no_table_but_ours(shop: Shop) -> None:
    before, rows = tables(shop), shop.snapshot()
    with shop.engine.begin() as connection:
        assert installed(connection) is None
        upgrade(connection)
        assert installed(connection) == head()
    assert tables(shop) - before == {"chinook_sim_version", "chinook_sim_created_table"}
    assert shop.value("SELECT count(*) FROM chinook_sim_created_table") == 0
    with shop.engine.begin() as connection:
        downgrade(connection)
    assert tables(shop) - before == {"chinook_sim_version"}
    assert shop.snapshot() == rows


@unmigrated
def test_what_is_missing_is_made_and_what_was_made_is_taken_away(shop: Shop) -> None:
    shop.execute("DROP TABLE [PlaylistTrack]", "DROP TABLE [Playlist]")
    before = tables(shop)
    with shop.engine.begin() as connection:
        upgrade(connection)
    assert shop.value("SELECT count(*) FROM [PlaylistTrack]") == 0
    assert len(tables(shop) - before) == 4
    shop.execute("INSERT INTO [Playlist] VALUES (1, 'mine')")
    with shop.engine.begin() as connection, pytest.raises(CommandError, match=r"1 rows"):
        downgrade(connection)
    assert shop.value("SELECT count(*) FROM [Playlist]") == 1
    shop.execute("DELETE FROM [Playlist]")
    with shop.engine.begin() as connection:
        downgrade(connection)
    assert tables(shop) == before | {"chinook_sim_version"}


def test_an_empty_database_gets_all_and_gives_ids(server: Server) -> None:
    database = server.create_database()
    engine = create_engine(server.url(database), poolclass=NullPool)
    with engine.begin() as connection:
        upgrade(connection)
        assert set(TABLES) <= set(inspect(connection).get_table_names())
        connection.exec_driver_sql('INSERT INTO "Genre" ("Name") VALUES (\'Rock\')')
    with engine.begin() as connection, pytest.raises(CommandError, match="Genre"):
        downgrade(connection)
    with engine.begin() as connection:
        connection.exec_driver_sql('DELETE FROM "Genre"')
        downgrade(connection)
    with engine.begin() as connection:
        assert inspect(connection).get_table_names() == ["chinook_sim_version"]
        upgrade(connection)
    server.drop_database(database)


def test_a_schema_off_the_search_path_is_found(server: Server) -> None:
    database = server.create_database()
    shape: Shape = next(shape for shape in SHAPES if shape.name == "postgres-snake-serial")
    build_postgresql(shape, server, database, schema="Music Shop")
    engine = create_engine(server.url(database), poolclass=NullPool)
    with engine.begin() as connection:
        upgrade(connection)
        names = inspect(connection).get_table_names(schema="Music Shop")
        assert {"chinook_sim_version", "chinook_sim_created_table"} <= set(names)
        assert inspect(connection).get_table_names(schema="public") == []
        assert installed(connection) == head()
    server.drop_database(database)


def alembic_process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "alembic", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_two_upgrades_at_the_same_time_are_one(server: Server) -> None:
    database = server.create_database()
    url = server.url(database).render_as_string(hide_password=False)
    with ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(alembic_process, "upgrade", "head", DATABASE_URL=url) for _ in range(3)]
        for run in runs:
            assert run.result().returncode == 0, run.result().stderr
    with server.connect(database) as connection:
        assert connection.execute("SELECT * FROM chinook_sim_version").fetchall() == [(head(),)]
    server.drop_database(database)


def test_alembic_uses_the_settings_and_keeps_the_password(ground: Ground) -> None:
    server = ground.server(18)
    database = server.create_database()
    url = server.url(database).render_as_string(hide_password=False)
    assert alembic_process("upgrade", "head", DATABASE_URL=url).returncode == 0
    current = alembic_process("current", DATABASE_URL=url)
    assert head() in current.stdout
    wrong = server.url(database, password="hunter2").render_as_string(hide_password=False)
    for run in (
        alembic_process("upgrade", "head", DATABASE_URL=wrong),
        alembic_process("upgrade", "head", DATABASE_URL="postgresql://h:hunter2/d"),
        alembic_process("upgrade", "head", "--sql", DATABASE_URL=url),
    ):
        assert run.returncode != 0
        assert "Traceback" not in run.stderr
        assert "hunter2" not in run.stderr + run.stdout
    server.drop_database(database)
