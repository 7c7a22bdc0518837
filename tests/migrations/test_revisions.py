"""Revisions are history: nothing that is changed later changes what one of them does."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

import pytest
from alembic import command as alembic
from sqlalchemy import Connection, Engine, create_engine, inspect
from sqlalchemy.pool import NullPool

from chinook_sim.database.names import CHINOOK_TABLES
from chinook_sim.models import Base
from chinook_sim.provisioning.revision_context import prepare
from support import ROOT
from support.alembic_commands import config

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from chinook_sim.database.names import Spelling
    from support.databases import DatabaseTemplates

REVISIONS = sorted((ROOT / "migrations" / "versions").glob("*.py"))

MACHINERY = (
    "chinook_sim.errors.",
    "chinook_sim.provisioning.migration_runner.",
    "chinook_sim.provisioning.revision_context.",
    # The names of marks and of Alembic's table, by which the library finds what is there.
    "chinook_sim.database.schema.LEDGER_MARK",
    "chinook_sim.database.schema.VERSION_TABLE",
    # What the tables and columns of a database are called.
    "chinook_sim.database.names.NameMap",
)
"""What a revision may import of ours: how it runs, and nothing that says what it makes."""


@pytest.mark.parametrize("revision", REVISIONS, ids=lambda path: path.stem)
def test_no_revision_imports_what_the_library_may_change(revision: Path) -> None:
    imported = []
    for node in ast.walk(ast.parse(revision.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported += [f"{alias.name}." for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            imported += [f"{node.module}.{alias.name}" for alias in node.names]

    ours = [name for name in imported if name.startswith("chinook_sim.")]

    assert [name for name in ours if not name.startswith(MACHINERY)] == []


@pytest.fixture(params=["pg16", "pg18", "sqlite"])
def empty(
    templates: DatabaseTemplates, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[list[Engine]]:
    """Two empty databases."""
    if request.param == "sqlite":
        yield [create_engine(f"sqlite:///{tmp_path / name}") for name in ("1.db", "2.db")]
        return
    server = templates.server(int(request.param.removeprefix("pg")))
    databases = [server.create_database() for _ in range(2)]
    yield [create_engine(server.url(name), poolclass=NullPool) for name in databases]
    for name in databases:
        server.drop_database(name)


def declared(connection: Connection) -> dict[str, Any]:
    """Return the columns, keys and indexes of Chinook's tables."""
    found = inspect(connection)
    return {
        table: (
            [{**column, "type": str(column["type"])} for column in found.get_columns(table)],
            found.get_pk_constraint(table),
            sorted(found.get_foreign_keys(table), key=str),
            sorted(found.get_indexes(table), key=str),
        )
        for table in found.get_table_names()
        if not table.startswith("chinook_sim_")
    }


def unnamed(found: Any) -> Any:
    """Return what was found without the names of constraints and indexes."""
    columns, *others = found
    return columns, *(
        sorted(({**it, "name": None} for it in some), key=str) if isinstance(some, list) else some
        for some in others
    )


@pytest.mark.parametrize("spelling", ["camel", "snake"])
def test_the_first_revision_makes_the_tables_that_the_models_declare(
    empty: list[Engine], spelling: Spelling
) -> None:
    by_revision, by_models = empty
    with by_revision.begin() as connection:
        running = config(connection)
        running.attributes["spelling"] = spelling
        alembic.upgrade(running, "0001")
        made = declared(connection)
    with by_models.begin() as connection:
        prepare(connection, spelling)
        Base.metadata.create_all(connection, tables=CHINOOK_TABLES)
        there = declared(connection)

    if spelling == "snake":
        # The models have one name for a constraint, and the revision has one for each spelling.
        made, there = ({table: unnamed(it) for table, it in all_.items()} for all_ in (made, there))
    assert made == there
    assert len(made) == 11
