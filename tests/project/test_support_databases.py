"""The databases of `support`: what the other tests take for granted about servers and shops."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import psycopg
import pytest
from sqlalchemy import create_engine, inspect
from sqlalchemy.pool import NullPool

from support import ROOT, chinook_variants
from support.cases import DatabaseVariant, cases, needs_real_files, on_all_unmigrated, parameters
from support.chinook_variants import TABLES
from support.postgres_server import MAJORS, PASSWORD, Server
from support.processes import Popen
from support.shared_run import SharedRun

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.databases import ChinookDatabase, DatabaseTemplates

each_major = pytest.mark.parametrize("major", MAJORS)


@on_all_unmigrated
def test_every_shape_holds_the_same_shop(shop: ChinookDatabase) -> None:
    found = {
        table: [tuple(map(_plain, row[: len(TABLES[table].split())])) for row in rows]
        for table, rows in shop.snapshot().items()
    }
    assert found == {
        table: sorted(rows, key=lambda row: row[:2])
        for table, rows in chinook_variants.shop().items()
    }


def _plain(value: object) -> object:
    """Write a value as the shop is written down, whatever type the driver gave it."""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, Decimal | float):
        return f"{value:.2f}"
    return value


@needs_real_files
@pytest.mark.parametrize(
    "case", parameters([case for case in cases(real=True) if case.major != MAJORS[0]])
)
def test_each_shape_is_that_of_the_real_chinook(
    templates: DatabaseTemplates, case: DatabaseVariant, tmp_path: Path
) -> None:
    ours, real = _two(templates, DatabaseVariant(case.shape, case.major), case, tmp_path)
    with closing(ours), closing(real):
        assert _structure(ours) == _structure(real)


@pytest.mark.parametrize("case", parameters([cases()[0], cases()[-1]]))
def test_shops_of_one_template_have_nothing_in_common(
    templates: DatabaseTemplates, case: DatabaseVariant, tmp_path: Path
) -> None:
    one, other = _two(templates, case, case, tmp_path)
    with closing(one), closing(other):
        before = other.snapshot()
        one.execute("DELETE FROM [InvoiceLine]")
        assert one.snapshot()["InvoiceLine"] == []
        assert other.snapshot() == before


def _two(
    templates: DatabaseTemplates, one: DatabaseVariant, other: DatabaseVariant, directory: Path
) -> list[ChinookDatabase]:
    made = []
    for name, case in (("one", one), ("other", other)):
        (directory / name).mkdir()
        made.append(templates.copy(case, directory / name))
    return made


def _structure(shop: ChinookDatabase) -> dict[str, object]:
    """Return what the tables of Chinook are made of; the names of keys and indexes are free."""
    engine = create_engine(shop.url, poolclass=NullPool)
    look = inspect(engine)
    found: dict[str, object] = {}
    for table in TABLES:
        name = shop.shape.spell(table).strip('"')
        key = look.get_pk_constraint(name)["constrained_columns"]
        found[table] = (
            [
                (column["name"], str(column["type"]), column["nullable"], column["default"],
                 column.get("identity", {}).get("always"))
                for column in look.get_columns(name)
            ],
            key,
            sorted(
                (one["constrained_columns"], one["referred_table"], one["referred_columns"])
                for one in look.get_foreign_keys(name)
            ),
            sorted(
                index["column_names"]
                for index in look.get_indexes(name)
                # The key serves its first column; only some have a second index on it.
                if index["column_names"] != key[:1]
            ),
        )  # fmt: skip
        if shop.server is None:
            made = shop.value(f"SELECT sql FROM sqlite_master WHERE name = '{name}'")
            found[f"{table}: autoincrement"] = "AUTOINCREMENT" in made
    return found


@on_all_unmigrated
def test_where_the_database_gives_ids_they_go_on_from_the_highest(shop: ChinookDatabase) -> None:
    if shop.shape.gives_ids:
        assert shop.insert_by_default() == 31
        assert shop.value("SELECT count(*) FROM [Invoice]") == 31
    else:
        with pytest.raises(psycopg.errors.NotNullViolation):
            shop.insert_by_default()


def test_a_server_is_the_version_that_it_says(server: Server) -> None:
    with server.connect() as connection:
        assert connection.info.server_version // 10_000 == server.major


def test_a_server_listens_on_loopback_only(server: Server) -> None:
    sockets = _family(server)[0].net_connections("all")
    assert {tuple(end.laddr) for end in sockets if end.laddr} == {("127.0.0.1", server.port)}


def test_a_server_asks_for_its_password(server: Server) -> None:
    url = server.url(password=PASSWORD.upper()).set(drivername="postgresql")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url.render_as_string(hide_password=False))


@each_major
@pytest.mark.slow(reason="starts servers; test_faults.py has it")
def test_a_killed_server_comes_back_with_what_was_committed(major: int) -> None:
    with Server(major) as server:
        database = server.create_database()
        with server.connect(database) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
        family = _family(server)
        server.kill()
        assert not _alive(family)
        with pytest.raises(psycopg.OperationalError):
            server.connect(database)
        server.start()
        with server.connect(database) as connection:
            assert connection.execute("SELECT number FROM kept").fetchall() == [(7,)]


@each_major
def test_a_server_leaves_no_process_and_no_file(major: int) -> None:
    with Server(major) as server:
        home, family = server.data_directory.parent, _family(server)
        assert home.is_dir()
        # The first is the postmaster; those it started may end whenever their work is done.
        assert family[0].is_running()
    assert not _alive(family)
    assert not home.exists()


def test_what_a_run_shares_is_made_once_and_again_after_an_error(tmp_path: Path) -> None:
    run, numbers = SharedRun(tmp_path), count(1)

    def make() -> int:
        time.sleep(0.1)
        return next(numbers)

    with pytest.raises(ZeroDivisionError):
        run.once("number", lambda: 1 // 0)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: run.once("number", make), range(8)))
    assert found == ["1"] * 8


HOLD = """
import sys, time
sys.path.insert(0, sys.argv[1])
from support.shared_run import SharedRun
with SharedRun.opened() as run:
    print(run.server(18).data_directory.parent, flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("end", ["ended", "killed"])
def test_a_run_leaves_no_server_and_no_directory(end: str) -> None:
    with Popen(
        [sys.executable, "-c", HOLD, str(ROOT / "tests")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        home = Path(process.stdout.readline().strip())
        family = _family(Server.started_in(home, 18))
        if end == "killed":
            process.kill()
    assert not _alive(family, timeout=30)
    until = time.monotonic() + 30
    while home.parent.exists():
        assert time.monotonic() < until
        time.sleep(0.05)


def _family(server: Server) -> list[psutil.Process]:
    postmaster = psutil.Process(
        int((server.data_directory / "postmaster.pid").read_text().split()[0])
    )
    return [postmaster, *postmaster.children(recursive=True)]


def _alive(processes: list[psutil.Process], timeout: float = 0.5) -> list[psutil.Process]:
    """Return those that still run, a moment after they were killed."""
    _, left = psutil.wait_procs(processes, timeout)
    # Where nobody reaps orphans, as in a container, a dead process keeps its number.
    return [process for process in left if process.status() != psutil.STATUS_ZOMBIE]


SOMEBODYS = {"PGHOST", "NEON_PROJECT_ID", "DATABASE_URL", "CHINOOK_SIM_DATABASE_URL"}


@pytest.fixture(scope="module")
def somebodys_settings() -> Iterator[None]:
    """Settings of whoever runs the tests, which are there before a test begins."""
    with pytest.MonkeyPatch.context() as patch:
        for name in SOMEBODYS:
            patch.setenv(name, "elsewhere.example")
        yield


@pytest.mark.usefixtures("somebodys_settings")
def test_nothing_of_whoever_runs_the_tests_reaches_them(tmp_path: Path) -> None:
    assert not SOMEBODYS & os.environ.keys()
    assert Path.cwd() == tmp_path
