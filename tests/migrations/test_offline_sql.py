"""Alembic as a process: scripts of SQL in place of an upgrade, and its settings."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from chinook_sim.provisioning.migration_runner import head, upgrade
from support import ROOT
from support.alembic_commands import OURS, alembic_process, script, timeless
from support.cases import on_three_shapes_unmigrated

if TYPE_CHECKING:
    from pathlib import Path

    from support.databases import ChinookDatabase, DatabaseTemplates
    from support.postgres_server import Server


@on_three_shapes_unmigrated
def test_a_script_does_the_same_as_an_upgrade_and_drops_nothing(shop: ChinookDatabase) -> None:
    before = shop.dump()
    up = script(shop, "upgrade", "head")
    assert shop.dump() == before
    # Only what is ours by name is altered, and nothing is dropped but columns of the ledger.
    of_others = r"(?m)^(TRUNCATE|(DELETE FROM|ALTER TABLE|UPDATE) (?!(\w+\.)?chinook_sim_))"
    assert not re.search(of_others, up)
    dropped = ["DROP COLUMN invoice_ids;"]
    dropped += ["DROP COLUMN revenue_before;"] if shop.server is None else []
    assert re.findall(r"\bDROP .*", up) == dropped
    assert ("left out: functions" in up) == (shop.server is None)
    shop.run_script(up)
    by_script = shop.dump()
    assert "-- Running" not in script(shop, "upgrade", "head")
    down = script(shop, "downgrade", f"{head()}:base")
    # Only what is ours by name goes.
    gone = set(re.findall(r"DROP (\w+) (?:IF EXISTS )?(?:\w+\.)?(\w+)", down))
    assert {kind for kind, _ in gone} <= {"TABLE", "COLUMN", "INDEX", "SEQUENCE", "FUNCTION"}
    assert {name for kind, name in gone if kind == "TABLE"} == OURS
    shop.run_script(down)
    assert shop.dump() == before
    with shop.engine.begin() as connection:
        upgrade(connection)
    assert timeless(shop.dump()) == timeless(by_script)


@pytest.mark.slow(reason="many migrations")
def test_a_script_for_an_empty_database_makes_all(server: Server) -> None:
    dumps = []
    for by_script in (True, False):
        database = server.create_database()
        url = server.url(database)
        if by_script:
            text = url.render_as_string(hide_password=False)
            done = alembic_process("upgrade", "head", "--sql", DATABASE_URL=text)
            assert done.returncode == 0, done.stderr
            server.psql(database, done.stdout)
            refused = alembic_process("downgrade", "head:base", "--sql", DATABASE_URL=text)
            assert refused.returncode != 0
            assert "without --sql" in refused.stderr
        else:
            with create_engine(url, poolclass=NullPool).begin() as connection:
                upgrade(connection)
        with server.connect(database) as connection:
            connection.execute(
                'INSERT INTO "Customer" ("FirstName", "LastName", "Email") '
                "VALUES ('a', 'b', 'c')"
            )
            with pytest.raises(Exception, match="nothing to sell"):
                connection.execute("SELECT simulate_new_sale(localtimestamp)")
        dumps.append(timeless(server.dump(database)))
        server.drop_database(database)
    assert dumps[0] == dumps[1]


def test_a_script_for_a_file_that_is_not_there_makes_no_file(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "alembic", "-c", ROOT / "alembic.ini", "upgrade", "head", "--sql"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert 'CREATE TABLE "Invoice"' in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_alembic_uses_the_settings_and_keeps_the_password(templates: DatabaseTemplates) -> None:
    server = templates.server(18)
    database = server.create_database()
    url = server.url(database).render_as_string(hide_password=False)
    assert alembic_process("upgrade", "head", DATABASE_URL=url).returncode == 0
    current = alembic_process("current", DATABASE_URL=url)
    assert head() in current.stdout
    assert alembic_process("check", DATABASE_URL=url).returncode == 0
    wrong = server.url(database, password="hunter2").render_as_string(hide_password=False)
    for done in (
        alembic_process("upgrade", "head", DATABASE_URL=wrong),
        alembic_process("upgrade", "head", DATABASE_URL="postgresql://h:hunter2/d"),
        alembic_process("upgrade", "head", "--sql", DATABASE_URL=wrong),
    ):
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
        assert "hunter2" not in done.stderr + done.stdout
    server.drop_database(database)
