"""The real Chinooks are loaded, and take sales."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from support.cases import needs_real_files
from support.chinook_variants import OTHER_NAMES, REAL, SHAPES

if TYPE_CHECKING:
    from pathlib import Path

    from support.command import Command
    from support.databases import DatabaseTemplates

SIMILAR = pytest.mark.slow(reason="a file that differs from others in where ids come from")
COUNTS = {"Artist": 275, "Album": 347, "Track": 3503, "Customer": 59, "Employee": 8, "Genre": 25,
          "MediaType": 5, "Playlist": 18, "PlaylistTrack": 8715, "Invoice": 412,
          "InvoiceLine": 2240}  # fmt: skip


@needs_real_files
@pytest.mark.parametrize(
    "shape",
    [
        pytest.param(it, marks=SIMILAR if it in SHAPES[1:3] else ())
        for it in (*SHAPES, *OTHER_NAMES)
        if it.file
    ],
    ids=lambda shape: shape.name,
)
def test_each_real_chinook_is_loaded_and_takes_sales(
    templates: DatabaseTemplates, command: Command, tmp_path: Path, shape: object
) -> None:
    from support.chinook_variants import Shape

    assert isinstance(shape, Shape)
    server, database = templates.server(18), ""
    environment = {}
    if shape.postgresql:
        database = server.create_database()
        environment["DATABASE_URL"] = server.url(database).render_as_string(hide_password=False)
    done = command("init", "--from", str(REAL / shape.file), **environment)
    assert done.returncode == 0, done.stderr

    def count(table: str) -> object:
        query = f"SELECT count(*) FROM {shape.spell(table)}"
        if database:
            with server.connect(database) as connection:
                return connection.execute(query).fetchall()[0][0]
        with closing(sqlite3.connect(tmp_path / "chinook.db")) as connection:
            return connection.execute(query).fetchone()[0]

    counts = COUNTS
    if shape.name == "sqlite-dataquest":
        counts = COUNTS | {"Invoice": 614, "InvoiceLine": 4757}
    assert {table: count(table) for table in COUNTS} == counts
    assert command("generate", "1000", **environment).returncode == 0
    assert command("verify", "--expect", "1000", **environment).returncode == 0
    verified = command("verify", "--all", "--expect", str(counts["Invoice"] + 1000), **environment)
    assert verified.returncode == 0, verified.stdout
    if database:
        server.drop_database(database)
