"""PostgreSQL databases in other encodings than UTF8."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from chinook_sim import DatabaseUnavailable, generate_d1
from chinook_sim.provisioning.migration_runner import upgrade
from chinook_sim.verification import verify_all
from support.chinook_variants import SHAPES
from support.postgres_server import MAJORS, WORKER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.command import Command
    from support.databases import DatabaseTemplates
    from support.postgres_server import Server

    Made = Callable[[str], str]


@pytest.fixture
def server(templates: DatabaseTemplates) -> Server:
    return templates.server(MAJORS[0])


@pytest.fixture
def database(server: Server) -> Iterator[Made]:
    """Make empty databases in an encoding; return their names."""
    made = []

    def make(encoding: str) -> str:
        made.append(name := f"{WORKER}_in_{encoding.lower()}")
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


def fill(server: Server, database: str) -> None:
    """Make a Chinook without characters that Western encodings lack."""
    with server.connect(database) as connection:
        for statement in (*SHAPES[3].schema(), *SHAPES[3].contents()):
            connection.execute(statement.replace("Łódź", "Poznan").encode())


@pytest.mark.parametrize("driver", ["psycopg", "pg8000"])
@pytest.mark.parametrize("encoding", ["LATIN1", "WIN1252"])
def test_a_connection_in_the_encoding_of_its_database(
    server: Server, database: Made, encoding: str, driver: str
) -> None:
    name = database(encoding)
    fill(server, name)
    engine = create_engine(server.url(name, driver=driver), poolclass=NullPool)
    with engine.begin() as connection:
        upgrade(connection)
        assert connection.scalar(text("SHOW client_encoding")) == encoding
    wanted = r"nothing was written: .*UTF8"
    with pytest.raises(DatabaseUnavailable, match=wanted), Session(engine) as session:
        generate_d1(session, 5, seed=1, new_customers=60)
    with Session(engine) as session, session.begin():
        generate_d1(session, 5, seed=1, new_customers=1, updates=2, cancellations=2)
        assert not [it for it in verify_all(session.connection()) if not it.passed]
        for call in ("new_sale(now())", "sales('2026-02-01', 5)", "update_sale(now())"):
            assert session.scalar(text(f"SELECT simulate_{call}")) is not None
        assert session.scalar(text("SELECT simulate_delete_sale('2026-02-01')")) is not None


def test_a_database_that_fits_takes_sales_and_refuses_a_person_who_does_not(
    server: Server, database: Made, command: Command
) -> None:
    name = database("LATIN1")
    url = server.url(name).render_as_string(hide_password=False)
    fill(server, name)
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


@pytest.mark.slow(reason="a rare setting of the client")
def test_a_client_encoding_that_lacks_a_character_is_named(
    server: Server, database: Made, command: Command
) -> None:
    name = database("UTF8")
    url = server.url(name).render_as_string(hide_password=False)
    assert command("init", DATABASE_URL=url).returncode == 0

    done = command("generate", "5", DATABASE_URL=url, PGCLIENTENCODING="LATIN1")

    assert done.returncode == 3, done.stderr
    assert "unset PGCLIENTENCODING" in done.stderr
    assert "ENCODING 'UTF8'" not in done.stderr

    with server.connect(name) as connection:
        connection.execute(f"ALTER DATABASE {name} SET client_encoding = LATIN1")
    for driver in ("psycopg", "pg8000"):
        engine = create_engine(server.url(name, driver=driver), poolclass=NullPool)
        wanted = '"LATIN1"; .*a connection whose client_encoding is UTF8'
        with pytest.raises(DatabaseUnavailable, match=wanted) as caught, Session(engine) as session:
            generate_d1(session, 5)
        assert "cannot hold" not in str(caught.value)


def test_text_that_is_not_in_utf8_is_refused_in_a_line(
    server: Server, database: Made, command: Command
) -> None:
    name = database("SQL_ASCII")
    url = server.url(name).render_as_string(hide_password=False)
    fill(server, name)
    with server.connect(name) as connection:
        connection.execute(b"UPDATE customer SET city = 'Orl\xe9ans'")
    assert command("init", DATABASE_URL=url).returncode == 0

    done = command("generate", "5", DATABASE_URL=url)

    assert done.returncode == 4, done.stderr
    assert "convert that text to UTF8" in done.stderr
    with server.connect(name) as connection:
        connection.execute("UPDATE customer SET city = 'Orléans'".encode())
    done = command("generate", "5", DATABASE_URL=url)
    assert done.returncode == 0, done.stderr
