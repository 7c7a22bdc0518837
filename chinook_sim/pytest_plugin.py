"""Fixtures for the tests of pipelines, which pytest finds by itself.

    def test_my_pipeline(chinook_session):
        generate_d1(chinook_session, 100, seed=7)
        …

Whatever a test does is rolled back after it, what it commits as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session


@pytest.fixture(scope="session")
def chinook_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Return an engine on a stand-in Chinook in SQLite, which is made once for all tests.

    Override it in your `conftest.py` to use a Chinook of your own.
    """
    from sqlalchemy import create_engine

    from chinook_sim.provisioning.initialise import initialise

    path = tmp_path_factory.mktemp("chinook") / "chinook.db"
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        initialise(connection)
    yield engine
    engine.dispose()


@pytest.fixture
def chinook_session(chinook_engine: Engine) -> Iterator[Session]:
    """Return a session on `chinook_engine`, all of whose work is rolled back after the test.

    Raises:
        InvalidInput: the engine commits every statement, so nothing could be rolled back.
    """
    from sqlalchemy.orm import Session

    from chinook_sim.database.backends import backend_for
    from chinook_sim.database.connections import refuse_autocommit
    from chinook_sim.database.introspection import recognise

    with chinook_engine.connect() as connection:
        transaction = connection.begin()
        # Python's sqlite3 begins no transaction before a SAVEPOINT. The session's first savepoint
        # would be the transaction then, and releasing it would commit.
        backend_for(connection).begin(connection)
        refuse_autocommit(connection)
        recognise(connection)
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            yield session
        transaction.rollback()
