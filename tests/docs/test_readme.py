"""README and docs are true: their commands run, their code runs, their SQL finds what they say."""

from __future__ import annotations

import shlex
import sqlite3
import sys
import tomllib
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from chinook_sim import __version__, generate_d1
from chinook_sim.cli import cli
from chinook_sim.provisioning.migration_runner import upgrade
from support import ROOT
from support.chinook_variants import SHAPES, build_postgresql
from support.documents import DOCUMENTS, README, Block, all_blocks, blocks
from support.postgres_server import MAJORS
from support.processes import run

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from support.command import Answer, Command
    from support.postgres_server import Server

CHECKS = ROOT / "docs" / "how-to" / "check-with-sql.md"
RUNS = ROOT / "docs" / "how-to" / "inspect-and-undo-runs.md"
FUNCTIONS = ROOT / "docs" / "how-to" / "sql-functions.md"

CODE = (
    README,
    *(
        ROOT / "docs" / "how-to" / f"{name}.md"
        for name in ("use-the-library", "inspect-and-undo-runs", "backfill", "run-live")
    ),
)
"""What has code that runs on the database that the README's commands make."""


def only(document: Path, language: str, *words: str) -> str:
    (block,) = blocks(document, language, *words)
    return block.code


def queries(document: Path, *words: str) -> list[str]:
    return [query for query in only(document, "sql", *words).split(";") if query.strip()]


def shell_lines(document: Path) -> Iterator[tuple[str, Block]]:
    """Yield the commands of a document, and the block of each."""
    for block in blocks(document, "sh"):
        for line in block.code.splitlines():
            yield line, block


PREFIX = "uv run --no-dev "
"""Without --no-dev, uv installs the development tools, too."""


def run_line(command: Command, line: str) -> Answer | subprocess.CompletedProcess[str]:
    """Run a command of a document as a reader would, without uv."""
    line = line.rpartition("&& ")[2]
    assert line.startswith(PREFIX), line
    program, *arguments = shlex.split(line.removeprefix(PREFIX))
    if program == "python":
        done: subprocess.CompletedProcess[str] = run(
            [sys.executable, *arguments], capture_output=True, text=True
        )
        return done
    assert program == "chinook-sim"
    return command(*arguments)


@pytest.fixture
def made(command: Command, tmp_path: Path) -> Path:
    """What the README's own commands make."""
    lines = [line for line, _ in shell_lines(README)]
    assert lines[-1] == "pip install uv && uv run pytest"
    assert lines[0] == f"pip install uv && {PREFIX}chinook-sim generate 10"
    assert len(lines) == 4
    for line in lines[:-1]:
        done = run_line(command, line)
        assert done.returncode == 0, done.stderr
    return tmp_path / "chinook.db"


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


def test_every_command_is_in_the_readme() -> None:
    text = README.read_text(encoding="utf-8")
    for name in cli.commands:
        assert f"| `chinook-sim {name} " in text or f"| `chinook-sim {name}`" in text, name


def test_its_commands_make_ten_sales_and_its_sql_agrees(made: Path) -> None:
    with closing(sqlite3.connect(made)) as connection:
        checks = queries(CHECKS, "sqlite", "checks")
        found = [connection.execute(query).fetchall() for query in checks]
        (run,) = connection.execute(only(RUNS, "sql", "ledger")).fetchall()
        latest = connection.execute(only(README, "sql", "latest")).fetchall()
    assert found == [[(10,)], [], [], []]
    assert run[1] == "generate"
    assert [row[0] for row in latest] == list(range(422, 412, -1))


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_its_code_runs(made: Path) -> None:
    # Blocks with other words after `python` have tests of their own.
    everywhere = {it for it in DOCUMENTS for block in blocks(it, "python") if not block.words}
    assert everywhere == {*CODE}
    for document in CODE:
        # Each page can be read without the others.
        scope: dict[str, object] = {}
        exec("\n".join(block.code for block in blocks(document, "python")), scope)
        scope["engine"].dispose()  # type: ignore[attr-defined]
    with closing(sqlite3.connect(made)) as connection:
        sold, cancelled = (
            connection.execute(query).fetchone()[0]
            for query in (
                "SELECT coalesce(sum(sales), 0) FROM chinook_sim_run WHERE kind = 'live'",
                "SELECT count(*) FROM chinook_sim_change WHERE kind = 'cancellation'",
            )
        )
        assert connection.execute('SELECT count(*) FROM "Invoice"').fetchone() == (
            412 + 10 + 399 + 200 + sold - cancelled,
        )


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_its_asyncio_code_runs(made: Path) -> None:
    exec(only(ROOT / "docs" / "how-to" / "use-with-asyncio.md", "python", "asyncio"), {})
    with closing(sqlite3.connect(made)) as connection:
        (made_now,) = connection.execute("SELECT sum(sales) FROM chinook_sim_run").fetchone()
    assert made_now == 10 + 100


def test_its_pytest_code_runs(tmp_path: Path) -> None:
    document = ROOT / "docs" / "how-to" / "test-with-pytest.md"
    (tmp_path / "test_sales.py").write_text(only(document, "python", "pytest"), encoding="utf-8")
    compile(only(document, "python", "conftest.py"), "conftest.py", "exec")
    done = run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "test_sales.py"],
        capture_output=True,
        text=True,
    )
    assert "3 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    "tutorial", sorted((ROOT / "docs" / "tutorials").glob("*.md")), ids=lambda path: path.stem
)
def test_a_tutorial_works(tutorial: Path, command: Command, tmp_path: Path) -> None:
    # In the order in which it is read: files are saved, commands are run.
    ran = 0
    for block in all_blocks(tutorial):
        if block.language == "python":
            (name,) = block.words
            (tmp_path / name).write_text(block.code, encoding="utf-8")
        elif block.language == "sql":
            with closing(sqlite3.connect(tmp_path / "chinook.db")) as connection:
                assert connection.execute(block.code).fetchall()
        elif block.language == "sh":
            for line in block.code.splitlines():
                done = run_line(command, line)
                assert done.returncode == (1 if "fails" in block.words else 0), done.stderr
                ran += 1
    assert ran >= 5


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
            connection.execute(query).fetchall()
            for query in queries(CHECKS, "postgresql", "snake_case", "checks")
        ]
        who = only(RUNS, "sql", "ledger")
        runs = connection.execute(who.replace("415", str(batch.invoice_ids[7]))).fetchall()
        assert [run[0] for run in runs] == [batch.run_id]
    assert found == [[(50,)], [], [], []]
    server.drop_database(database)


@pytest.mark.slow(reason="a shell line by line")
def test_its_functions_work_when_pasted_line_by_line(server: Server) -> None:
    # Each server with two of the four shapes.
    for shape in SHAPES[MAJORS.index(server.major) : 4 : 2]:
        database = server.create_database()
        build_postgresql(shape, server, database)
        with create_engine(server.url(database), poolclass=NullPool).begin() as connection:
            upgrade(connection)
        for _ in range(2):
            server.psql(database, only(FUNCTIONS, "sql", "functions"))
        with server.connect(database) as connection:
            days = "SELECT day - CURRENT_DATE, count(*) FROM chinook_sim_run WHERE day IS NOT NULL "
            found = connection.execute(days + "GROUP BY 1 ORDER BY 1").fetchall()
        assert found == [(-2, 1), (-1, 2)]
        server.psql(database, only(README, "sql", "functions"))
        server.drop_database(database)


def test_the_version_is_in_the_changelog() -> None:
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_uv_run_compiles_nothing_at_each_start() -> None:
    # With it, uv compiles all installed files at every `uv run`, and says so.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "compile-bytecode" not in project["tool"].get("uv", {})
