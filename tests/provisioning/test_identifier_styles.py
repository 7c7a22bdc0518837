"""A new Chinook has the spelling that `init` is asked for, and everything works on it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from alembic import command as alembic
from alembic.config import Config
from sqlalchemy import URL, create_engine, inspect
from sqlalchemy.pool import NullPool

from chinook_sim.errors import InvalidInput, MigrationRefused
from chinook_sim.provisioning.initialise import initialise
from support import ROOT
from support.cases import cases, on_variants
from support.chinook_variants import SHAPES, TABLES, Shape, build_postgresql, build_sqlite
from support.databases import ChinookDatabase

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.command import Command
    from support.databases import DatabaseTemplates

DAY = "2001-01-31"
"""A day before the history of the stand-in."""

# One major version will do here: test_generate_everywhere.py has both for every shape.
MAJOR = 18

each_shape = on_variants([case for case in cases() if case.major in (None, MAJOR)])


@pytest.fixture(params=["postgresql", "sqlite"])
def empty(
    templates: DatabaseTemplates, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[ChinookDatabase]:
    """A database with nothing in it, which is to be a snake_case Chinook."""
    shape = Shape(f"{request.param.replace('ql', '')}-new", "", snake=True, ids="serial")
    if request.param == "sqlite":
        yield ChinookDatabase(shape, URL.create("sqlite", database=str(tmp_path / "new.db")))
        return
    server = templates.server(MAJOR)
    shop = ChinookDatabase(shape, server.url(server.create_database()), server)
    yield shop
    shop.close()


def tables(shop: ChinookDatabase) -> set[str]:
    engine = create_engine(shop.url, poolclass=NullPool)
    with engine.connect() as connection:
        return set(inspect(connection).get_table_names())


def in_snake(name: str) -> str:
    return SHAPES[1].spell(name)


def test_a_snake_case_stand_in_works_like_any_chinook(
    empty: ChinookDatabase, command: Command
) -> None:
    def run(*arguments: str, **environment: str) -> dict[str, Any]:
        done = command(*arguments, "--json", DATABASE_URL=empty.text, **environment)
        assert done.returncode == 0, done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    told = run("init", "--spelling", "snake_case")
    assert (told["made"], told["spelling"], told["tracks"]) == ("stand-in", "snake_case", 3503)
    assert {in_snake(table) for table in TABLES} < tables(empty)
    assert not set(TABLES) & tables(empty)
    # The same spelling is no reason to refuse; upper and lower case are the same.
    assert run("init", CHINOOK_SIM_SPELLING="Snake_Case")["made"] == "nothing"
    assert run("status")["spelling"] == "snake_case"

    before = empty.snapshot()
    changes = ("--updates=9", "--cancellations=4", "--new-customers=2", "--moves=2")
    made = run("generate", "50", *changes, "--price-changes=3")
    assert (made["updates"], made["new_customers"], made["price_changes"]) == (9, 2, 3)
    run("verify", "--expect", "50")
    run("verify", "--all")
    run("undo", made["run"])
    assert empty.snapshot() == before
    assert run("backfill", DAY, DAY, "--per-day", "20")["made"] == 1
    run("verify", "--day", DAY, "--expect", "20")
    run("live", "--rate", "50", "--for", "1s")
    run("verify", "--all")
    empty.insert_by_default()
    if empty.server is None:
        return
    sold = empty.value("SELECT count(*) FROM invoice")
    empty.execute(
        f"SELECT simulate_new_sale('{DAY} 14:30')",
        f"SELECT simulate_sales('{DAY}', 10)",
        f"SELECT simulate_update_sale('{DAY}')",
        f"SELECT simulate_delete_sale('{DAY}')",
    )
    assert empty.value("SELECT count(*) FROM invoice") == sold + 10


@pytest.mark.slow(reason="makes a stand-in to delete it")
def test_a_downgrade_takes_it_away_while_it_is_empty(
    empty: ChinookDatabase, command: Command
) -> None:
    if empty.server is not None:
        dump = empty.dump()
    done = command("init", "--spelling", "snake_case", DATABASE_URL=empty.text)
    assert done.returncode == 0, done.stderr
    engine = create_engine(empty.url, poolclass=NullPool)
    config = Config()
    config.set_main_option("script_location", str(ROOT / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        with pytest.raises(MigrationRefused, match=r"invoice_line \(2240 rows\)"):
            alembic.downgrade(config, "base")
        connection.rollback()
    empty.execute("UPDATE employee SET reports_to = NULL")
    empty.execute(*(f"DELETE FROM [{table}]" for table in reversed(TABLES)))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        alembic.downgrade(config, "base")
    assert tables(empty) == set()
    if empty.server is not None:
        assert empty.dump() == dump


@pytest.mark.slow(reason="all other tests of init have it")
def test_without_a_spelling_names_are_camel_case(empty: ChinookDatabase, command: Command) -> None:
    for arguments in ((), ("--spelling", "camelcase"), ("--spelling", "CamelCase")):
        done = command("init", "--json", *arguments, DATABASE_URL=empty.text)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["spelling"] == "CamelCase"
    assert set(TABLES) < tables(empty)


@each_shape
@pytest.mark.slow(reason="as a copy of another spelling")
def test_a_chinook_of_another_spelling_is_refused(shop: ChinookDatabase, command: Command) -> None:
    there, other = spellings(shop.shape)
    before = shop.dump()
    done = command("init", "--spelling", other, DATABASE_URL=shop.text)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"Error: this Chinook has {there} names, not {other} names")
    assert done.stderr.count("\n") == 1
    assert shop.dump() == before
    done = command("init", "--spelling", there, "--json", DATABASE_URL=shop.text)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["made"] == "nothing"


@pytest.mark.parametrize("shape", [SHAPES[2], SHAPES[4]], ids=lambda shape: shape.name)
def test_a_copy_of_another_spelling_is_refused(
    templates: DatabaseTemplates, command: Command, tmp_path: Path, shape: Shape
) -> None:
    source, url = tmp_path / "source", URL.create("sqlite", database=str(tmp_path / "new.db"))
    if shape.postgresql:
        server = templates.server(MAJOR)
        build_postgresql(shape, server, database := server.create_database())
        source.write_text(server.dump(database), encoding="utf-8")
        server.drop_database(database)
        shop = ChinookDatabase(shape, server.url(server.create_database()), server)
    else:
        build_sqlite(shape, source)
        shop = ChinookDatabase(shape, url)
    there, other = spellings(shape)
    done = command("init", "--from", "source", "--spelling", other, DATABASE_URL=shop.text)
    assert done.returncode == 2, done.stderr
    assert f"Error: this Chinook has {there} names, not {other} names" in done.stderr
    if shape.postgresql:
        assert tables(shop) == set()
    else:
        assert [path.name for path in tmp_path.iterdir()] == ["source"]
    done = command(
        "init", "--from", "source", "--spelling", there, "--json", DATABASE_URL=shop.text
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["made"], told["spelling"]) == ("copy", there)
    shop.close()


def spellings(shape: Shape) -> tuple[str, str]:
    """Return the spelling of a shape, and the other one."""
    return ("snake_case", "CamelCase") if shape.snake else ("CamelCase", "snake_case")


def test_what_is_no_spelling_is_refused(command: Command, tmp_path: Path) -> None:
    done = command("init", "--spelling", "kebab-case")
    assert done.returncode == 2
    assert done.stderr == (
        "Error: the spelling must be CamelCase or snake_case, got 'kebab-case'\n"
    )
    assert list(tmp_path.iterdir()) == []
    with create_engine("sqlite://").begin() as connection:
        with pytest.raises(InvalidInput, match="'camel' or 'snake', got 'snake_case'"):
            initialise(connection, spelling="snake_case")  # type: ignore[arg-type]
        assert inspect(connection).get_table_names() == []
