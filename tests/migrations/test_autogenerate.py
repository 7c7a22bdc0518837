"""Alembic's autogenerate, run by somebody whose database is also ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, Integer, MetaData, Table, create_engine, inspect

from chinook_sim.database.schema import VERSION_TABLE
from chinook_sim.models import Base, Run
from chinook_sim.provisioning.migration_runner import include_object
from support.cases import on_each_shape

if TYPE_CHECKING:
    from support.databases import ChinookDatabase

THEIRS = MetaData()
Table("stock", THEIRS, Column("id", Integer, primary_key=True))


def proposed(
    shop: ChinookDatabase, metadata: MetaData | list[MetaData], **options: Any
) -> list[Any]:
    """Return what autogenerate would do."""
    with shop.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        found: Any = compare_metadata(context, metadata)  # type: ignore[arg-type]
        return list(found)


@on_each_shape
@pytest.mark.parametrize("target", ["ours", "theirs", "both"])
def test_autogenerate_leaves_the_shop_and_the_ledger_alone(
    shop: ChinookDatabase, target: str
) -> None:
    shop.execute("CREATE TABLE stock (id INTEGER NOT NULL PRIMARY KEY)")
    targets = {"ours": [Base.metadata], "theirs": [THEIRS], "both": [THEIRS, Base.metadata]}

    found = proposed(shop, targets[target], include_object=include_object)

    # Autogenerate knows of no table of theirs where only our metadata is given.
    dropped = [("remove_table", "stock")] if target == "ours" else []
    assert [(change[0], change[1].name) for change in found] == dropped


@on_each_shape
def test_autogenerate_still_compares_a_table_of_chinook_that_they_declare(
    shop: ChinookDatabase,
) -> None:
    metadata = MetaData()
    name = shop.sql("[Genre]").strip('"')
    Table(
        name,
        metadata,
        Column(shop.sql("[GenreId]").strip('"'), Integer, primary_key=True),
        Column("stars", Integer),
    )

    found = proposed(shop, metadata, include_object=include_object)

    assert ("add_column", None, name, "stars") in [
        (*change[:3], change[3].name) for change in found if change[0] == "add_column"
    ]


@on_each_shape
def test_the_models_declare_all_that_the_migrations_make_in_the_ledger(
    shop: ChinookDatabase,
) -> None:
    def of_ours(_: object, name: str | None, kind: str, *__: object) -> bool:
        return kind != "table" or (
            (name or "").startswith("chinook_sim_") and name != VERSION_TABLE
        )

    assert proposed(shop, Base.metadata, include_object=of_ours) == []


def test_the_index_of_keys_is_made_and_copied_with_its_condition() -> None:
    engine = create_engine("sqlite://")
    for run in (Run.__table__, Run.__table__.to_metadata(MetaData())):
        with engine.begin() as connection:
            run.create(connection)
            (index,) = inspect(connection).get_indexes("chinook_sim_run")
            condition = index["dialect_options"]["sqlite_where"]
            assert (index["unique"], str(condition)) == (1, "undone_at IS NULL")
            run.drop(connection)
