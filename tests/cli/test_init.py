"""`chinook-sim init`, and databases that commands refuse."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from chinook_sim.database.engine import open_connection
from support.cases import cases, on_all_unmigrated_but_16, on_variants
from support.postgres_server import Server, free_port
from support.runs import count_invoices

if TYPE_CHECKING:
    from pathlib import Path

    from support.command import Command
    from support.databases import ChinookDatabase


def test_a_directory_that_does_not_exist_is_named(command: Command) -> None:
    done = command("init", "--database-url", "sqlite:///nowhere/shop.db")
    assert done.returncode == 3
    assert "nowhere/shop.db cannot be made: No such file or directory" in done.stderr


def test_a_source_may_be_given_with_a_scale_in_the_environment(
    command: Command, stocked: Path
) -> None:
    copy = ("--database-url", "sqlite:///copy.db")
    done = command("init", "--from", stocked.name, *copy, CHINOOK_SIM_SCALE="2")
    assert done.returncode == 0, done.stderr
    assert "is a copy of the given Chinook" in done.stdout


def test_a_mistyped_path_makes_no_file(command: Command, tmp_path: Path) -> None:
    done = command("generate", "5", "--database-url", "sqlite:///shpo.db")
    assert done.returncode == 3
    assert "there is no file shpo.db" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_database_is_refused_and_left_alone(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "chinook.db"
    path.write_text("my precious notes\n" * 100)
    for arguments in (["generate", "5"], ["init"], ["verify"], ["status"]):
        done = command(*arguments)
        assert done.returncode == 3, done.stderr
        assert "chinook.db" in done.stderr
        assert "not a database" in done.stderr
    assert path.read_text() == "my precious notes\n" * 100


def test_what_is_no_chinook_is_refused_by_name(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "chinook.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE recipes (name)")
    before = path.read_bytes()
    for name in ("generate", "init"):
        done = command(name, *(["5"] if name == "generate" else []))
        assert done.returncode == 3, done.stderr
    assert "it has recipes" in done.stderr
    assert path.read_bytes() == before


def test_an_empty_file_becomes_a_shop(command: Command, tmp_path: Path) -> None:
    (tmp_path / "chinook.db").touch()
    assert command("init").returncode == 0
    assert count_invoices(tmp_path / "chinook.db") == 412


@on_all_unmigrated_but_16
def test_init_leaves_a_chinook_as_it_is(command: Command, shop: ChinookDatabase) -> None:
    before = shop.snapshot()
    done = command("init", "--json", CHINOOK_SIM_DATABASE_URL=shop.text)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["made"] == "nothing"
    assert shop.snapshot() == before
    if shop.shape.gives_ids:
        shop.insert_by_default()


def test_init_fills_an_empty_postgresql(command: Command, server: Server) -> None:
    url = server.url(server.create_database()).render_as_string(hide_password=False)
    done = command("init", "--json", DATABASE_URL=url)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["made"], told["customers"], told["tracks"]) == ("stand-in", 59, 3503)
    assert command("generate", "20", DATABASE_URL=url).returncode == 0
    assert command("verify", "--expect", "20", DATABASE_URL=url).returncode == 0
    assert command("verify", "--all", "--expect", "432", DATABASE_URL=url).returncode == 0


def test_init_refuses_a_postgresql_that_is_somebody_elses(command: Command, server: Server) -> None:
    database = server.create_database()
    with server.connect(database) as connection:
        connection.execute("CREATE TABLE payroll (name text)")
    url = server.url(database).render_as_string(hide_password=False)
    done = command("init", DATABASE_URL=url)
    assert done.returncode == 3
    assert "it has payroll" in done.stderr
    with server.connect(database) as connection:
        names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        assert names.fetchall() == [("payroll",)]


def test_a_locked_file_is_refused(command: Command, stocked: Path) -> None:
    with closing(sqlite3.connect(stocked, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        done = command("generate", "5", "--lock-timeout", "1")
        other.execute("ROLLBACK")
    assert done.returncode == 4, done.stderr
    assert "another program is writing" in done.stderr
    assert count_invoices(stocked) == 412


@pytest.mark.skipif(os.name != "posix" or os.getuid() == 0, reason="root may write to any file")
def test_a_read_only_file_is_refused(command: Command, stocked: Path) -> None:
    stocked.chmod(0o444)
    stocked.parent.chmod(0o555)
    done = command("generate", "5")
    assert done.returncode == 4, done.stderr
    assert "writable" in done.stderr


@on_variants([case for case in cases() if case.major == 18])
def test_a_role_that_may_only_read_is_refused(command: Command, shop: ChinookDatabase) -> None:
    assert shop.server is not None
    role = f"reader_{shop.url.database}"
    shop.execute(
        f"CREATE ROLE {role} LOGIN PASSWORD 'x'",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}",
    )
    url = shop.server.url(shop.url.database or "", user=role, password="x")
    before = shop.snapshot()
    done = command("generate", "5", DATABASE_URL=url.render_as_string(hide_password=False))
    shop.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")
    assert done.returncode == 4, done.stderr
    assert "permission denied" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert shop.snapshot() == before


def test_an_unreachable_server_is_refused(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Long enough for a second attempt.
    defaults = open_connection.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "timeout", 1)
    url = f"postgresql://shop:hunter2@127.0.0.1:{free_port()}/chinook"
    done = command("generate", "5", DATABASE_URL=url)
    assert done.returncode == 3
    assert "waiting for" in done.stderr
    assert "refused" in done.stderr.splitlines()[-1]
    assert "check DATABASE_URL, and that the server is running" in done.stderr
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"password": "hunter2"}, "password authentication failed"),
     ({"database": "nowhere"}, "does not exist")],
)  # fmt: skip
def test_a_refusal_is_not_waited_for(
    command: Command, server: Server, wrong: dict[str, str], said: str
) -> None:
    url = server.url(**{"database": "postgres", **wrong})
    done = command("generate", "5", DATABASE_URL=url.render_as_string(hide_password=False))
    assert done.returncode == 3
    assert said in done.stderr
    assert "check DATABASE_URL" in done.stderr
    # It answered.
    assert "server is running" not in done.stderr
    assert "waiting" not in done.stderr
    assert "hunter2" not in done.stderr
