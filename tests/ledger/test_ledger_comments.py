"""The comments on the ledger in PostgreSQL: the same in revision, models and reference."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from alembic import command as alembic
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from chinook_sim import generate_d1, recognise
from chinook_sim.models import Base
from chinook_sim.provisioning.migration_runner import revision_of, upgrade
from support import ROOT
from support.alembic_commands import config, downgrade
from support.cases import (
    on_both_databases,
    on_each_postgresql_shape,
    on_each_postgresql_shape_unmigrated,
)

if TYPE_CHECKING:
    from support.databases import ChinookDatabase
    from support.postgres_server import Server

REFERENCE = ROOT / "docs" / "reference" / "ledger-tables.md"

LEDGER = {
    str(table.name): table
    for table in Base.metadata.sorted_tables
    if table.name.startswith("chinook_sim_")
}


COMMENTS = """
    SELECT c.relname, coalesce(a.attname, ''), d.description
      FROM pg_description d
      JOIN pg_class c ON c.oid = d.objoid AND d.classoid = 'pg_class'::regclass
      LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.objsubid
     WHERE c.relname LIKE 'chinook_sim_%' AND c.relkind = 'r'
"""


def declared() -> set[tuple[str, str, str | None]]:
    """Return table, column and comment of all that the models declare."""
    tables = {(name, "", table.comment) for name, table in LEDGER.items()}
    return tables | {
        (name, column.name, column.comment)
        for name, table in LEDGER.items()
        for column in table.columns
    }


def plain(markdown: str) -> str:
    """Return a text without its marks and links, in one line."""
    return " ".join(re.sub(r"\[([^\]]*)\]\([^)]+\)", r"\1", markdown).replace("`", "").split())


def test_revision_and_models_have_the_same_comments() -> None:
    revision = revision_of("0009")

    assert {name: table.comment for name, table in LEDGER.items()} == revision.TABLES
    assert {
        name: {column.name: column.comment for column in table.columns}
        for name, table in LEDGER.items()
    } == revision.COLUMNS


@pytest.mark.parametrize("name", LEDGER)
def test_the_reference_says_what_the_comments_say(name: str) -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    (section,) = re.findall(rf"^## {name}\n\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| (.+) \|$", section, re.MULTILINE)

    assert plain(section.partition("\n\n")[0]) == LEDGER[name].comment
    assert {column: plain(meaning) for column, meaning in rows} == {
        column.name: column.comment for column in LEDGER[name].columns
    }


def test_a_database_of_any_encoding_holds_the_comments() -> None:
    assert [it for it in declared() if not (it[2] or "").isascii()] == []


@on_each_postgresql_shape
def test_a_migrated_ledger_has_a_comment_on_everything(shop: ChinookDatabase) -> None:
    assert set(shop.rows(COMMENTS)) == declared()


def test_a_ledger_that_sqlalchemy_makes_has_the_same_comments(server: Server) -> None:
    database = server.create_database()
    with create_engine(server.url(database), poolclass=NullPool).begin() as connection:
        Base.metadata.create_all(connection)
    with server.connect(database) as other:
        assert set(other.execute(COMMENTS).fetchall()) == declared()
    server.drop_database(database)


@on_each_postgresql_shape
def test_comments_of_the_owner_stay(shop: ChinookDatabase) -> None:
    with shop.engine.begin() as connection:
        downgrade(connection, "0008")
    assert shop.rows(COMMENTS) == []
    mine = [("chinook_sim_run", "", "it's: 50%"), ("chinook_sim_run", "key", "mine")]
    shop.execute(
        "COMMENT ON TABLE chinook_sim_run IS 'it''s: 50%'",
        "COMMENT ON COLUMN chinook_sim_run.key IS 'mine'",
    )

    with shop.engine.begin() as connection:
        upgrade(connection)
    assert set(shop.rows(COMMENTS)) == {it for it in declared() if it[:2] not in own(mine)} | {
        *mine
    }
    mine.append(("chinook_sim_change", "after", "another"))
    shop.execute("COMMENT ON COLUMN chinook_sim_change.after IS 'another'")
    with shop.engine.begin() as connection:
        downgrade(connection, "0008")

    assert sorted(shop.rows(COMMENTS)) == sorted(mine)


def own(comments: list[tuple[str, str, str]]) -> set[tuple[str, str]]:
    return {it[:2] for it in comments}


@on_each_postgresql_shape_unmigrated
def test_the_mark_of_a_ledger_in_a_schema_of_its_own_stays(shop: ChinookDatabase) -> None:
    schema = "the ledger's 50% :x"
    mark = {("chinook_sim_version", "", "made by chinook_sim for the schema public")}
    with shop.engine.begin() as connection:
        upgrade(connection, ledger_schema=schema)
    assert set(shop.rows(COMMENTS)) == declared() | mark

    with shop.engine.begin() as connection:
        downgrade(connection, "0008")

    assert set(shop.rows(COMMENTS)) == mark
    with shop.engine.connect() as connection:
        assert recognise(connection).ledger_schema == schema


@on_both_databases
def test_a_ledger_without_comments_is_used_like_any(shop: ChinookDatabase) -> None:
    with shop.engine.begin() as connection:
        alembic.downgrade(config(connection), "0008")

    with Session(shop.engine) as session, session.begin():
        made = generate_d1(session, 3, once=True)

    assert shop.rows("SELECT run_id FROM chinook_sim_run WHERE kind = 'generate'") == [
        (made.run_id,)
    ]
