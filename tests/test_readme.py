"""The README is true: its commands run, its code runs, its SQL finds what it says."""

from __future__ import annotations

import re
import shlex
import sqlite3
import tomllib
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from shapes import SHAPES, build_postgresql
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from chinook_sim import __version__, generate_d1
from chinook_sim.provisioning.migration_runner import upgrade

if TYPE_CHECKING:
    from conftest import Command
    from postgres import Server

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def questions(language: str) -> list[str]:
    (block,) = blocks(language)
    return [question for question in block.split(";") if question.strip()]


@pytest.fixture
def made(command: Command, tmp_path: Path) -> Path:
    """What the README's own commands make."""
    commands = [line for block in blocks("sh") for line in block.splitlines()]
    assert "pip install uv && uv run pytest" in commands
    ours = [line.rpartition("&& ")[2] for line in commands if "chinook-sim" in line]
    assert len(ours) == 3
    for line in ours:
        # Without --no-dev, uv installs the development tools, too.
        program, arguments = line[:28], line[28:]
        assert program == "uv run --no-dev chinook-sim "
        done = command(*shlex.split(arguments))
        assert done.returncode == 0, done.stderr
    return tmp_path / "chinook.db"


def test_its_commands_make_ten_sales_and_its_sql_agrees(made: Path) -> None:
    with closing(sqlite3.connect(made)) as connection:
        found = [connection.execute(question).fetchall() for question in questions("sql sqlite")]
        (who,) = questions("sql ledger")
        (run,) = connection.execute(who).fetchall()
    assert found == [[(10,)], [], [], []]
    assert run[1] == "generate"


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_its_code_runs(made: Path) -> None:
    program = "\n".join(blocks("python"))
    assert len(blocks("python")) == 8
    scope: dict[str, object] = {}
    exec(program, scope)
    scope["engine"].dispose()  # type: ignore[attr-defined]
    with closing(sqlite3.connect(made)) as connection:
        sold, cancelled = (
            connection.execute(question).fetchone()[0]
            for question in (
                "SELECT coalesce(sum(sales), 0) FROM chinook_sim_run WHERE kind = 'live'",
                "SELECT count(*) FROM chinook_sim_change WHERE kind = 'cancellation'",
            )
        )
        assert connection.execute('SELECT count(*) FROM "Invoice"').fetchone() == (
            412 + 10 + 399 + 200 + sold - cancelled,
        )


def test_its_postgresql_finds_what_it_says(server: Server) -> None:
    database = server.create_database()
    build_postgresql(SHAPES[2], server, database)
    engine = create_engine(server.url(database), poolclass=NullPool)
    with engine.begin() as connection:
        upgrade(connection)
    with Session(engine) as session, session.begin():
        batch = generate_d1(session, 50)
    with server.connect(database) as connection:
        found = [
            connection.execute(question).fetchall()
            for question in questions("sql postgresql snake_case")
        ]
        (who,) = questions("sql ledger")
        runs = connection.execute(who.replace("415", str(batch.invoice_ids[7]))).fetchall()
        assert [run[0] for run in runs] == [batch.run_id]
    assert found == [[(50,)], [], [], []]
    server.drop_database(database)


def test_its_functions_work_when_pasted_line_by_line(server: Server) -> None:
    for shape in SHAPES[:4]:
        database = server.create_database()
        build_postgresql(shape, server, database)
        with create_engine(server.url(database), poolclass=NullPool).begin() as connection:
            upgrade(connection)
        (block,) = blocks("sql functions")
        for _ in range(2):
            server.psql(database, block)
        with server.connect(database) as connection:
            days = "SELECT day - CURRENT_DATE, count(*) FROM chinook_sim_run WHERE day IS NOT NULL "
            found = connection.execute(days + "GROUP BY 1 ORDER BY 1").fetchall()
        assert found == [(-2, 1), (-1, 2)]
        server.drop_database(database)


def test_the_version_is_in_the_changelog() -> None:
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_uv_run_compiles_nothing_at_each_start() -> None:
    # With it, uv compiles all installed files at every `uv run`, and says so.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "compile-bytecode" not in project["tool"].get("uv", {})
