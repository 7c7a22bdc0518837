"""PostgreSQL databases in other encodings than UTF8."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from postgres import MAJORS
from shapes import SHAPES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Command
    from postgres import Server

    Made = Callable[[str], str]


@pytest.fixture
def server(ground: object) -> Server:
    return ground.server(MAJORS[0])  # type: ignore[attr-defined,no-any-return]


@pytest.fixture
def database(server: Server) -> Iterator[Made]:
    """Make empty databases in an encoding; return their names."""
    made = []

    def make(encoding: str) -> str:
        made.append(name := f"in_{encoding.lower()}")
        with server.connect() as connection:
            connection.execute(
                f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' "
                "LC_COLLATE 'C' LC_CTYPE 'C'"
            )
        return name

    yield make
    for name in made:
        server.drop_database(name)


def test_a_database_without_an_encoding_takes_everything(
    server: Server, database: Made, command: Command
) -> None:
    url = server.url(database("SQL_ASCII")).render_as_string(hide_password=False)
    for arguments in (
        ("init",),
        (
            "generate",
            "30",
            "--key",
            "night",
            "--new-customers",
            "25",
            "--updates",
            "5",
            "--moves",
            "5",
        ),
        ("verify",),
        ("status",),
        ("undo", "--key", "night"),
    ):
        done = command(*arguments, DATABASE_URL=url)
        assert done.returncode == 0, (arguments, done.stderr)


@pytest.mark.parametrize("encoding", ["LATIN1", "WIN1252"])
def test_a_character_that_does_not_fit_is_refused_in_a_line(
    server: Server, database: Made, command: Command, encoding: str
) -> None:
    name = database(encoding)
    url = server.url(name).render_as_string(hide_password=False)

    done = command("init", DATABASE_URL=url)

    assert done.returncode == 3, done.stderr
    assert encoding in done.stderr
    assert "UTF8" in done.stderr
    assert "unexpected" not in done.stderr
    with server.connect(name) as connection:
        (count,) = connection.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        ).fetchone() or (None,)
    assert count == 0


def test_a_database_that_fits_takes_sales_and_refuses_a_person_who_does_not(
    server: Server, database: Made, command: Command
) -> None:
    name = database("LATIN1")
    url = server.url(name).render_as_string(hide_password=False)
    shape = next(shape for shape in SHAPES if shape.name == "postgres-snake-identity")
    with server.connect(name) as connection:
        for statement in (*shape.schema(), *shape.contents()):
            connection.execute(statement.replace("Łódź", "Poznan").encode())
    for arguments in (("init",), ("generate", "30", "--key", "night"), ("verify",)):
        done = command(*arguments, DATABASE_URL=url)
        assert done.returncode == 0, (arguments, done.stderr)

    done = command("generate", "5", "--new-customers", "60", "--seed", "1", DATABASE_URL=url)

    assert done.returncode == 3, done.stderr
    assert "LATIN1" in done.stderr
    assert "unexpected" not in done.stderr
    with server.connect(name) as connection:
        found = connection.execute("SELECT count(*) FROM invoice").fetchone()
    assert found == (60,)
