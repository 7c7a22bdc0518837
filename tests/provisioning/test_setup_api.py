"""`initialise` and `upgrade`, as users of the library call them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sqlalchemy import create_engine, func, inspect, select
from sqlalchemy.orm import Session

import chinook_sim
from chinook_sim import (
    Invoice,
    Track,
    generate_d1,
    initialise,
    invoice_history,
    migrate,
    recognise,
    undo,
    upgrade,
    verify,
)
from chinook_sim.errors import BatchFailed, InvalidInput, NotAChinook
from chinook_sim.provisioning.migration_runner import head
from support.cases import (
    alternating_versions,
    on_each_shape_unmigrated,
    on_variants,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine

    from support.databases import ChinookDatabase, DatabaseTemplates

DAY = date(2026, 1, 30)


@contextmanager
def empty_database(
    kind: str, templates: DatabaseTemplates, directory: Path, driver: str = "postgresql+psycopg"
) -> Iterator[Engine]:
    """Make an empty database, with an engine as any user would make it."""
    if kind == "sqlite":
        engine = create_engine(f"sqlite:///{directory}/empty.db")
        yield engine
        engine.dispose()
        return
    server = templates.server(int(kind))
    name = server.create_database()
    engine = create_engine(server.url(name).set(drivername=driver))
    yield engine
    engine.dispose()
    server.drop_database(name)


@pytest.fixture(params=["sqlite", "16"])
def empty(
    templates: DatabaseTemplates, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Engine]:
    with empty_database(request.param, templates, tmp_path) as engine:
        yield engine


def tables(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return inspect(connection).get_table_names()


def test_an_empty_database_gets_the_stand_in_once(empty: Engine) -> None:
    with empty.begin() as connection:
        done = initialise(connection)
    assert (done.made, done.revision) == ("stand-in", head())
    with empty.begin() as connection:
        assert initialise(connection).made == "nothing"
    with Session(empty) as session, session.begin():
        recognise(session)
        assert session.scalar(select(func.count()).select_from(Track)) == 3503
        generate_d1(session, 5, once=True)
        assert verify(session.connection(), expect=5).ok


@pytest.mark.slow(reason="makes stand-ins; the next test has an upgrade")
def test_the_caller_commits_or_rolls_back(empty: Engine) -> None:
    with empty.connect() as connection:
        initialise(connection)
        connection.rollback()
    assert tables(empty) == []


def test_nothing_is_kept_of_a_set_up_that_failed(empty: Engine) -> None:
    def stop(_: int) -> None:
        raise RuntimeError("enough")

    with empty.begin() as connection:
        with pytest.raises(RuntimeError, match="enough"):
            initialise(connection, progress=stop)
        # The transaction is still good, and what is in it stays.
        connection.exec_driver_sql("CREATE TABLE theirs (id INTEGER)")
    assert tables(empty) == ["theirs"]
    with empty.begin() as connection, pytest.raises(NotAChinook, match="theirs"):
        initialise(connection)


@pytest.mark.slow(reason="makes several shops")
def test_the_day_and_the_seed_of_the_stand_in_can_be_given(empty: Engine) -> None:
    seen = []
    for seed in (5, 5, 6):
        with empty.connect() as connection:
            initialise(connection, spelling="snake", today=date(2026, 3, 1), seed=seed)
            last = connection.scalar(select(func.max(Invoice.invoice_date)))
            assert str(last).startswith("2026-02-27 ")
            seen.append(connection.execute(select(Track.name).order_by(Track.track_id)).all())
            assert inspect(connection).has_table("invoice_line")
            connection.rollback()
    assert seen[0] == seen[1] != seen[2]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"scale": 0}, "scale must be an integer between 1 and 1000, got 0"),
    ({"scale": 1001}, "scale must be"),
    ({"scale": True}, "scale must be"),
    ({"scale": "2"}, "scale must be"),
    ({"seed": -1}, "seed must be an integer between 0 and"),
    ({"seed": 2**63}, "seed must be"),
    ({"spelling": "CamelCase"}, "spelling must be 'camel' or 'snake'"),
    ({"today": "2026-01-31"}, "a day must be"),
    ({"today": date(1, 1, 2)}, "today must be 0100-01-01 or later"),
    ({"ledger_schema": ""}, "ledger_schema must be the name of a schema"),
    ({"ledger_schema": 3}, "ledger_schema must be the name of a schema, got 3"),
    ({"ledger_schema": "ledger"}, "a ledger schema works with PostgreSQL"),
    ({"progress": 5}, "progress must be a function of a number of rows, got 5"),
    ({"source": "shop.sql", "scale": 2}, "source and scale exclude each other"),
    ({"source": 3}, "source must be the path of a dump, got 3"),
]


@pytest.mark.parametrize(("given", "said"), WRONG, ids=lambda it: str(it)[:30])
def test_wrong_arguments_of_initialise_are_refused(given: dict[str, Any], said: str) -> None:
    with create_engine("sqlite://").begin() as connection:
        with pytest.raises(InvalidInput, match=said):
            initialise(connection, **given)
        assert inspect(connection).get_table_names() == []


def test_integers_of_numpy_are_accepted(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/shop.db")
    one: Any = np.int64(1)
    with Session(engine) as session, session.begin():
        connection = session.connection()
        assert initialise(connection, scale=one, seed=one).made == "stand-in"
        made = generate_d1(session, one, day=DAY)
        assert verify(connection, day=DAY, expect=one).ok
        assert invoice_history(connection, one).origin == "before the ledger"
        assert undo(session, day=DAY, limit=one).runs == (made.run_id,)
    engine.dispose()


@pytest.mark.parametrize(
    "given", [{"spelling": "snake_case"}, {"spelling": None}, {"ledger_schema": ""}], ids=str
)
def test_wrong_arguments_of_upgrade_are_refused(given: dict[str, Any]) -> None:
    with create_engine("sqlite://").begin() as connection:
        with pytest.raises(InvalidInput, match=next(iter(given))):
            upgrade(connection, **given)
        assert inspect(connection).get_table_names() == []


def test_what_the_database_refuses_of_an_upgrade_leaves_nothing(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/shop.db")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE VIEW chinook_sim_change AS SELECT 1 AS id")
        with pytest.raises(BatchFailed):
            upgrade(connection)
    assert inspect(engine).get_table_names() == []
    engine.dispose()


def test_threads_set_up_databases_of_their_own(tmp_path: Path) -> None:
    def set_up(number: int) -> str:
        engine = create_engine(f"sqlite:///{tmp_path}/{number}.db")
        with engine.begin() as connection:
            revision = upgrade(connection)
        engine.dispose()
        return revision

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(set_up, range(4))) == [head()] * 4


@on_variants([it for it in alternating_versions() if it.shape.snake and it.shape.postgresql])
def test_a_dump_is_loaded_or_nothing_of_it(
    shop: ChinookDatabase, templates: DatabaseTemplates, tmp_path: Path
) -> None:
    assert shop.server is not None
    dump = tmp_path / "chinook.sql"
    dump.write_text(shop.dump())
    not_one = tmp_path / "chinook.db"
    not_one.write_bytes(b"SQLite format 3\0")
    with empty_database("18", templates, tmp_path) as engine:
        with engine.begin() as connection:
            with pytest.raises(InvalidInput, match="SQLite file"):
                initialise(connection, source=not_one)
            # Found out after it was loaded.
            with pytest.raises(InvalidInput, match="has snake_case names, not CamelCase names"):
                initialise(connection, source=dump, spelling="camel")
        assert tables(engine) == []
        with engine.begin() as connection:
            assert initialise(connection, source=str(dump)).made == "copy"
            with pytest.raises(InvalidInput, match="Chinook already"):
                initialise(connection, source=dump)
        with Session(engine) as session, session.begin():
            assert generate_d1(session, 3, day=DAY).run_id


def test_a_driver_that_cannot_fill_a_database_is_refused(
    templates: DatabaseTemplates, tmp_path: Path
) -> None:
    with (
        empty_database("16", templates, tmp_path, "postgresql+pg8000") as engine,
        engine.begin() as connection,
    ):
        with pytest.raises(InvalidInput, match="needs psycopg, not pg8000"):
            initialise(connection)
        assert inspect(connection).get_table_names() == []


@on_each_shape_unmigrated
def test_a_chinook_that_is_there_is_migrated(shop: ChinookDatabase) -> None:
    before = shop.snapshot()
    driver = "postgresql+pg8000" if shop.server else "sqlite"
    with shop.engine_for(driver).begin() as connection:
        done = initialise(connection)
    assert (done.made, done.revision) == ("nothing", head())
    assert shop.snapshot() == before


@pytest.mark.slow(reason="makes two stand-ins")
def test_what_the_database_refuses_comes_as_an_error_of_ours(empty: Engine) -> None:
    with empty.begin() as connection:
        initialise(connection)
    if empty.dialect.name == "sqlite":
        with empty.connect() as other, empty.connect() as connection:
            connection.exec_driver_sql("PRAGMA busy_timeout = 1")
            other.exec_driver_sql("BEGIN IMMEDIATE")
            with pytest.raises(BatchFailed, match="locked"):
                initialise(connection)
        return
    with empty.connect() as other, empty.connect() as connection:
        initialise(other)
        connection.exec_driver_sql("SET LOCAL lock_timeout = '10ms'")
        with pytest.raises(BatchFailed, match="lock timeout") as caught:
            initialise(connection)
        assert caught.value.sqlstate == "55P03"


def test_upgrade_is_one_function_under_both_names() -> None:
    assert chinook_sim.upgrade is migrate.upgrade


@on_each_shape_unmigrated
def test_an_upgrade_is_the_callers_to_commit(shop: ChinookDatabase) -> None:
    before = shop.dump()
    with shop.engine.connect() as connection:
        assert upgrade(connection) == head()
        connection.rollback()
    assert shop.dump() == before
