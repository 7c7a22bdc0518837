"""A COPY that is interrupted where it begins leaves no connection that cannot be rolled back."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Engine, create_engine

from chinook_sim import initialise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import FrameType

    from support.postgres_server import Server

DUMP = """
CREATE TABLE artist (artist_id integer PRIMARY KEY, name varchar(120));
COPY artist (artist_id, name) FROM stdin;
1\tSomebody
\\.
"""


@pytest.fixture
def engine(server: Server) -> Iterator[Engine]:
    """A pool of connections to an empty database."""
    name = server.create_database()
    engine = create_engine(server.url(name))
    yield engine
    engine.dispose()
    server.drop_database(name)


def interrupt(frame: FrameType, event: str, _: object) -> None:
    """Raise KeyboardInterrupt where psycopg has begun a COPY."""
    code = frame.f_code
    if event == "call" and code.co_name == "__enter__" and code.co_filename.endswith("copy.py"):
        sys.setprofile(None)
        raise KeyboardInterrupt


def interrupted(work: Callable[[], object]) -> None:
    sys.setprofile(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            work()
    finally:
        sys.setprofile(None)


def tables(engine: Engine) -> int:
    with engine.connect() as connection:
        found = connection.exec_driver_sql(
            "SELECT count(*) FROM pg_catalog.pg_class WHERE relnamespace = 'public'::regnamespace"
        )
        return int(found.scalar_one())


@pytest.mark.parametrize("dump", [False, True], ids=["stand-in", "dump"])
def test_an_empty_database_is_empty_after_an_interruption(
    engine: Engine, dump: bool, tmp_path: Path
) -> None:
    source = tmp_path / "dump.sql"
    source.write_text(DUMP)
    with engine.connect() as connection:
        interrupted(lambda: initialise(connection, source=source if dump else None))
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    assert tables(engine) == 0
