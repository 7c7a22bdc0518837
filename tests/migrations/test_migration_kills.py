"""Upgrades at the same time, and upgrades that are killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from chinook_sim.provisioning.migration_runner import head, upgrade
from support import ROOT
from support.alembic_commands import alembic_process, downgrade, timeless
from support.cases import alternating_versions, on_each_sqlite_shape_unmigrated, on_variants
from support.chinook_variants import SHAPES, build_postgresql
from support.postgres_server import LOCK_WAITS
from support.processes import Popen

if TYPE_CHECKING:
    from support.chinook_variants import Shape
    from support.databases import ChinookDatabase
    from support.postgres_server import Server


@pytest.mark.parametrize(
    ("shape", "server"),
    [(None, 16), (SHAPES[0], 18)],
    ids=["empty", "chinook"],
    indirect=["server"],
)
def test_upgrades_at_the_same_time_are_one(shape: Shape | None, server: Server) -> None:
    database = server.create_database()
    if shape is not None:
        build_postgresql(shape, server, database)
    url = server.url(database).render_as_string(hide_password=False)
    with ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(alembic_process, "upgrade", "head", DATABASE_URL=url) for _ in range(3)]
        for run in runs:
            assert run.result().returncode == 0, run.result().stderr
    with server.connect(database) as connection:
        assert connection.execute("SELECT * FROM chinook_sim_version").fetchall() == [(head(),)]
    server.drop_database(database)


@pytest.mark.parametrize("table", ["InvoiceLine", "Invoice"])
@on_variants([case for case in alternating_versions() if case.major and not case.shape.ids])
def test_killed_upgrade_leaves_the_old_revision(shop: ChinookDatabase, table: str) -> None:
    assert shop.server is not None
    before = shop.dump()
    with shop.server.connect(shop.url.database or "") as other:
        other.autocommit = False
        # The upgrade has made tables when it comes to wait for this one.
        other.execute(shop.sql(f"LOCK TABLE [{table}] IN ACCESS EXCLUSIVE MODE"))
        with Popen(
            [sys.executable, "-m", "alembic", "upgrade", "head"],
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": shop.text},
            stderr=subprocess.DEVNULL,
        ) as process:
            until = time.monotonic() + 30
            while shop.value(LOCK_WAITS) == 0:
                assert time.monotonic() < until
                time.sleep(0.05)
            process.kill()
    until = time.monotonic() + 30
    writing = (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND backend_xid IS NOT NULL"
    )
    while shop.value(writing):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert shop.dump() == before
    with shop.engine.begin() as connection:
        upgrade(connection)


@on_each_sqlite_shape_unmigrated
@pytest.mark.slow(reason="many kills")
def test_an_upgrade_killed_at_any_moment_leaves_either_version(shop: ChinookDatabase) -> None:
    before = timeless(shop.dump())
    with shop.engine.begin() as connection:
        upgrade(connection)
    after = timeless(shop.dump())
    for moment in range(6):
        with shop.engine.begin() as connection:
            downgrade(connection)
        with Popen(
            [sys.executable, "-m", "alembic", "upgrade", "head"],
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": shop.text},
            stderr=subprocess.DEVNULL,
        ) as process:
            time.sleep(0.4 + moment * 0.12)
            process.kill()
        assert timeless(shop.dump()) in (before, after)
