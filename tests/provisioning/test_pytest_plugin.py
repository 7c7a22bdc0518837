"""The fixtures that tests of pipelines get from the plugin."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from support.cases import (
    on_both_databases,
    on_one_postgresql,
    on_variants,
    one_of_each,
)
from support.processes import run

if TYPE_CHECKING:
    from pathlib import Path

    from support.databases import ChinookDatabase


THEIR_TEST = """
import pytest
from chinook_sim import generate_d1, undo, Invoice
from sqlalchemy import create_engine, func, select

{override}

@pytest.mark.parametrize("turn", range(3))
def test_pipeline(chinook_session, turn):
    before = chinook_session.scalar(select(func.count()).select_from(Invoice))
    assert before == {before}
    made = generate_d1(chinook_session, 5, seed=7)
    chinook_session.commit()
    generate_d1(chinook_session, 5, seed=8)
    chinook_session.rollback()
    assert chinook_session.scalar(select(func.count()).select_from(Invoice)) == before + 5
    undo(chinook_session, made.run_id)
    chinook_session.commit()
    assert chinook_session.scalar(select(func.count()).select_from(Invoice)) == before
    generate_d1(chinook_session, 5, seed=7)
    chinook_session.commit()
"""

OVERRIDE = """
@pytest.fixture(scope="session")
def chinook_engine():
    return create_engine({url!r})
"""


def run_their_test(directory: Path, says: str = "3 passed", **parts: Any) -> None:
    """Run a test file with the plugin, as a user's project does."""
    (directory / "test_theirs.py").write_text(THEIR_TEST.format(**parts))
    done = run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_theirs.py"],
        cwd=directory,
        capture_output=True,
        text=True,
    )
    assert says in done.stdout, done.stdout + done.stderr


def test_a_fixture_rolls_back_what_a_test_commits(tmp_path: Path) -> None:
    run_their_test(tmp_path, override="", before=412)


@on_both_databases
@pytest.mark.slow(reason="makes several shops")
def test_a_fixture_rolls_back_in_an_existing_chinook(shop: ChinookDatabase, tmp_path: Path) -> None:
    before = shop.snapshot()
    run_their_test(tmp_path, override=OVERRIDE.format(url=shop.text), before=30)
    assert shop.snapshot() == before


RECIPE = """
from sqlalchemy import event

@pytest.fixture(scope="session")
def chinook_engine():
    engine = create_engine({url!r})

    @event.listens_for(engine, "connect")
    def connected(connection, record):
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begun(connection):
        connection.exec_driver_sql("BEGIN")

    return engine
"""


@on_variants(one_of_each()[1:])
@pytest.mark.slow(reason="starts a pytest")
def test_it_takes_an_engine_that_begins_transactions_itself(
    shop: ChinookDatabase, tmp_path: Path
) -> None:
    before = shop.snapshot()
    run_their_test(tmp_path, override=RECIPE.format(url=shop.text), before=30)
    assert shop.snapshot() == before


AUTOCOMMIT = """
@pytest.fixture(scope="session")
def chinook_engine():
    return create_engine({url!r}, isolation_level="AUTOCOMMIT")
"""


@on_one_postgresql
@pytest.mark.slow(reason="starts a pytest")
def test_it_refuses_an_engine_that_commits_every_statement(
    shop: ChinookDatabase, tmp_path: Path
) -> None:
    before = shop.snapshot()
    says = "InvalidInput: the connection is in AUTOCOMMIT mode"
    run_their_test(tmp_path, override=AUTOCOMMIT.format(url=shop.text), before=30, says=says)
    assert shop.snapshot() == before
