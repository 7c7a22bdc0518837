"""A Chinook that `init --from` reads: SQLite files, SQL scripts and dumps."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from chinook_sim.errors import BatchFailed, InvalidInput
from chinook_sim.provisioning.source_file import kind, load_sqlite, publish
from chinook_sim.provisioning.sql_dump import load_postgresql, statements
from support.chinook_variants import SHAPES, build_sqlite

if TYPE_CHECKING:
    from pathlib import Path

    from support.command import Command
    from support.databases import DatabaseTemplates
    from support.postgres_server import Server

SCRIPT = """\
/* A banner; with 'quotes' /* nested */ and a semicolon; */
DROP DATABASE IF EXISTS chinook;
CREATE DATABASE chinook;
\\c chinook;
CREATE TABLE artist -- a comment; with a semicolon
(
    artist_id INT NOT NULL GENERATED ALWAYS AS IDENTITY,
    name VARCHAR(120) DEFAULT 'x;y',
    CONSTRAINT artist_pkey PRIMARY KEY (artist_id)
);
CREATE INDEX artist_name_idx ON artist (name);
INSERT INTO artist (name) VALUES
    (N'AC/DC; DROP TABLE artist'),
    (E'it\\'s'), ('it''s -- no comment'),
    (NULL);
"""
DUMP = """\
SET statement_timeout = 0;
SELECT pg_catalog.set_config('search_path', '', false);
CREATE TABLE public."Artist" (
    "ArtistId" integer NOT NULL,
    "Name" character varying(120)
);
ALTER TABLE public."Artist" OWNER TO nobody_here;
CREATE SEQUENCE public.artist_seq AS integer START WITH 1 INCREMENT BY 1 NO MINVALUE;
ALTER TABLE ONLY public."Artist" ALTER COLUMN "ArtistId"
    SET DEFAULT nextval('public.artist_seq'::regclass);
COPY public."Artist" ("ArtistId", "Name") FROM stdin;
1\tAC/DC; DROP TABLE "Artist";
2\tback\\\\slash
3\t\\N
\\.


SELECT setval('public.artist_seq'::regclass, 2);
SELECT pg_catalog.setval('public.artist_seq', 3, true);
ALTER TABLE ONLY public."Artist" ADD CONSTRAINT "PK_Artist" PRIMARY KEY ("ArtistId");
"""


def load(server: Server, path: Path, query: str) -> list[tuple[object, ...]]:
    database = server.create_database()
    engine = create_engine(server.url(database), poolclass=NullPool)
    try:
        with engine.begin() as connection:
            load_postgresql(path, connection)
        with server.connect(database) as connection:
            return connection.execute(query).fetchall()
    finally:
        server.drop_database(database)


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_script_with_inserts_is_loaded(server: Server, tmp_path: Path, ending: str) -> None:
    path = tmp_path / "script.sql"
    path.write_bytes(b"\xef\xbb\xbf" + SCRIPT.replace("\n", ending).encode())
    assert kind(path) == "script"
    found = load(server, path, "SELECT * FROM artist ORDER BY 1")
    assert found == [
        (1, "AC/DC; DROP TABLE artist"), (2, "it's"), (3, "it's -- no comment"), (4, None),
    ]  # fmt: skip


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_dump_with_copy_is_loaded(server: Server, tmp_path: Path, ending: str) -> None:
    path = tmp_path / "dump.sql"
    path.write_bytes(DUMP.replace("\n", ending).encode())
    found = load(server, path, "SELECT *, nextval('artist_seq') FROM \"Artist\" ORDER BY 1")
    assert found == [
        (1, 'AC/DC; DROP TABLE "Artist";', 4), (2, "back\\slash", 5), (3, None, 6),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE artist",
        "drop /* x */ table artist",
        "DELETE FROM artist",
        "UPDATE artist SET name = 'x'",
        "TRUNCATE artist",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE EXTENSION dblink",
        "CREATE TABLE stolen AS SELECT * FROM pg_shadow",
        "CREATE TABLE t (a int DEFAULT pg_backend_pid())",
        "CREATE TABLE t (a text GENERATED ALWAYS AS (upper('x')) STORED)",
        "CREATE TABLE t (a int CHECK (a > pg_backend_pid()))",
        "DO $$ BEGIN PERFORM 1; END $$",
        "SELECT pg_read_file('/etc/passwd')",
        "COPY artist FROM PROGRAM 'id'",
        "COPY artist (name) FROM '/etc/passwd'",
        "COPY artist (name) TO '/tmp/x'",
        "INSERT INTO artist (name) SELECT rolname FROM pg_authid",
        "INSERT INTO artist (name) VALUES (pg_read_file('/etc/passwd'))",
        "INSERT INTO artist (name) VALUES ((SELECT 'x'))",
        "INSERT INTO artist (name) VALUES (current_user)",
        "ALTER TABLE artist DROP COLUMN name",
        "ALTER TABLE artist ADD CONSTRAINT c CHECK (pg_backend_pid() > 0)",
        "CREATE INDEX i ON artist (lower(name))",
        "ALTER SYSTEM SET fsync = off",
        "CREATE TABLE t (x$b$ int); DROP TABLE artist; --$b$ )",
        "CREATE TABLE t (a int); DROP TABLE artist",
        "INSERT INTO artist (nameE'\\') VALUES (1); DROP TABLE artist; --')",
    ],
)
def test_what_no_chinook_needs_is_never_run(
    templates: DatabaseTemplates, tmp_path: Path, statement: str
) -> None:
    path = tmp_path / "script.sql"
    path.write_text(f"CREATE TABLE artist (name text);\n{statement};\n")
    server = templates.server(18)
    database = server.create_database()
    engine = create_engine(server.url(database), poolclass=NullPool)
    with engine.connect() as connection:
        connection.begin()
        with pytest.raises((InvalidInput, BatchFailed), match="line"):
            load_postgresql(path, connection)
        connection.rollback()
        left = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        assert connection.exec_driver_sql(left).scalar() == 0
    server.drop_database(database)


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO a (b) VALUES ('unfinished",
        "CREATE TABLE a (b int",
        "/* open",
        'CREATE TABLE "a (b int);',
        "COPY a (b) FROM stdin;\n1\n2\n",
        "\\! rm -rf x\n",
        "\\copy a from b\n",
    ],
)
def test_a_dump_that_breaks_off_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "script.sql"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=r"script\.sql"):
        for statement in statements(path):
            list(statement.rows)


pieces = st.sampled_from(
    ["a", "\n", "'x;y'", "'it''s'", "E'\\';'", '"q;""q"', "$$;'$$", "$t$;$$;$t$", "1.5", "(",
     "/* ; /* ' */ */", "-- ; '\n", "name_e'\\'", "name$x$", ","]
)  # fmt: skip


@given(st.lists(st.lists(pieces, min_size=1).map(" ".join), min_size=1, max_size=6))
def test_statements_end_at_their_semicolons_only(
    tmp_path_factory: pytest.TempPathFactory, written: list[str]
) -> None:
    path = tmp_path_factory.mktemp("split") / "script.sql"
    path.write_text("".join(f"first {body} last;\n" for body in written), newline="")
    found = list(statements(path))
    assert len(found) == len(written)
    for statement in found:
        assert statement.sql.strip().startswith("first")
        assert statement.sql.strip().endswith("last")


def test_a_copy_of_a_sqlite_file_is_complete(tmp_path: Path) -> None:
    source, target = tmp_path / "it's a %20 file?.db", tmp_path / "copy.db"
    build_sqlite(SHAPES[4], source)
    before = source.read_bytes()
    load_sqlite(source, target)
    for path in (source, target):
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute('SELECT count(*) FROM "Invoice"').fetchone() == (30,)
    assert source.read_bytes() == before


def test_a_script_makes_a_sqlite_file(tmp_path: Path, command: Command) -> None:
    (tmp_path / "script.sql").write_text(
        "-- for SQLite\nPRAGMA foreign_keys=OFF; DROP TABLE IF EXISTS [x];\n"
        + "".join(f"{it};\n" for it in (*SHAPES[5].schema(), *SHAPES[5].contents()))
        + "INSERT INTO [Genre]\n VALUES (4, 'a; -- b\n/*'); INSERT INTO [Genre] VALUES (5, '');\n"
        "/* the end */\n",
        encoding="utf-8-sig",
    )
    done = command("init", "--from", "script.sql", "--json")
    assert done.returncode == 0, done.stderr
    with closing(sqlite3.connect(tmp_path / "chinook.db")) as connection:
        genres = connection.execute('SELECT "Name" FROM "Genre" WHERE "GenreId" > 3').fetchall()
        assert genres == [("a; -- b\n/*",), ("",)]
        assert connection.execute('SELECT count(*) FROM "Invoice"').fetchone() == (30,)
    assert command("generate", "50").returncode == 0
    assert command("verify", "--all").returncode == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("CREATE TABLE x (a);\nATTACH 'other.db' AS o;\n", "line 2: not authorized"),
        ("CREATE TABLE x (a);\n\nVACUUM INTO 'other.db';\n", "line 3: authorization denied"),
        ("CREATE TABLE x (a);\nSET statement_timeout = 0;\n", 'line 2: near "SET"'),
        ("CREATE TABLE x (a);\nINSERT INTO x\nVALUES ('a", "line 2: unrecognized"),
        ("BEGIN;\nCREATE TABLE x (a);\nINSERT INTO x VALUES (1);\n", "middle of a transaction"),
        ("CREATE TABLE x (a);\n-- no more\n", "has x"),
    ],
)
def test_a_script_that_makes_no_chinook_is_refused(
    text: str, said: str, tmp_path: Path, command: Command
) -> None:
    (tmp_path / "script.sql").write_text(text)
    done = command("init", "--from", "script.sql")
    assert done.returncode in (2, 3)
    assert said in done.stderr
    assert done.stderr.count("\n") <= 2
    assert [it.name for it in tmp_path.iterdir()] == ["script.sql"]


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("ISO-8859-1", "INSERT INTO x VALUES ('São Paulo');\n"),
        ("WINDOWS-1252", "INSERT INTO x VALUES ('São Paulo – €');\n"),
        ("UTF-16", "INSERT INTO x VALUES ('São Paulo');\n"),
    ],
)
def test_another_encoding_is_refused_with_the_way_to_convert_it(
    encoding: str, text: str, server: Server, tmp_path: Path, command: Command
) -> None:
    (tmp_path / "it.sql").write_bytes(f"CREATE TABLE x (a text);\n{text}".encode(encoding))
    database = server.create_database()
    url = server.url(database).render_as_string(hide_password=False)
    for environment in ({}, {"DATABASE_URL": url}):
        done = command("init", "--from", "it.sql", **environment)
        assert done.returncode == 2
        assert f"iconv -f {encoding} -t UTF-8 it.sql" in done.stderr
    server.drop_database(database)


def test_a_dump_of_a_database_that_was_set_up_is_restored_with_its_ledger(
    templates: DatabaseTemplates, tmp_path: Path, command: Command
) -> None:
    server = templates.server(18)
    old, new = server.create_database(), server.create_database()
    urls = [server.url(it).render_as_string(hide_password=False) for it in (old, new)]
    made = [
        command(*arguments, "--json", DATABASE_URL=urls[0])
        for arguments in (
            ["init"],
            ["generate", "50"],
            ["generate", "5", "--updates", "3", "--moves", "2"],
        )
    ]
    assert [it.returncode for it in made] == [0, 0, 0]
    (tmp_path / "dump.sql").write_text(server.dump(old), encoding="utf-8")
    done = command("init", "--from", "dump.sql", DATABASE_URL=urls[1])
    assert done.returncode == 0, done.stderr
    assert server.dump(new) == server.dump(old)
    for arguments in (["verify", "--all"], ["undo", json.loads(made[2].stdout)["run"]]):
        done = command(*arguments, DATABASE_URL=urls[1])
        assert done.returncode == 0, done.stderr
    for database in (old, new):
        server.drop_database(database)


def test_a_dump_of_a_sqlite_shop_that_was_set_up_is_restored_with_its_ledger(
    tmp_path: Path, command: Command
) -> None:
    url = f"sqlite:///{tmp_path}/old.db"
    assert command("init", DATABASE_URL=url).returncode == 0
    made = command("generate", "50", "--json", DATABASE_URL=url)
    with closing(sqlite3.connect(tmp_path / "old.db")) as connection:
        script = "".join(f"{statement}\n" for statement in connection.iterdump())
    (tmp_path / "dump.sql").write_text(script, encoding="utf-8")
    for arguments in (
        ["init", "--from", "dump.sql"],
        ["verify", "--all"],
        ["undo", json.loads(made.stdout)["run"]],
    ):
        done = command(*arguments)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)


def test_a_damaged_sqlite_file_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "source.db"
    build_sqlite(SHAPES[4], source)
    whole = bytearray(source.read_bytes())
    whole[5_000:60_000] = b"\xff" * 55_000
    source.write_bytes(whole)
    with pytest.raises(InvalidInput, match=r"source\.db"):
        load_sqlite(source, tmp_path / "copy.db")


def test_a_name_that_is_taken_is_left_alone(tmp_path: Path) -> None:
    draft, taken = tmp_path / "draft", tmp_path / "taken"
    draft.write_text("new")
    taken.write_text("old")
    assert not publish(draft, taken)
    assert taken.read_text() == "old"
    assert publish(draft, tmp_path / "free")
    assert (tmp_path / "free").read_text() == "new"


@pytest.mark.parametrize(
    ("contents", "said"),
    [(b"", "neither"), (b"PGDMP\1\2", "--format=plain"), (b"<html>not found</html>", "neither"),
     (b"\x1f\x8b\x08\0\0", "neither"), ("CREATE TABLE x".encode("utf-16"), "iconv -f UTF-16")],
)  # fmt: skip
def test_what_is_no_chinook_file_is_refused(tmp_path: Path, contents: bytes, said: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(contents)
    with pytest.raises(InvalidInput, match=said):
        kind(path)
