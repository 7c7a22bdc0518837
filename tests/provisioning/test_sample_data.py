"""The stand-in Chinook has the shape of the real one."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from chinook_sim.models import Base
from chinook_sim.provisioning.sample_data import rows
from chinook_sim.provisioning.sample_loader import fill
from support.chinook_variants import TABLES

if TYPE_CHECKING:
    from pathlib import Path

    from support.postgres_server import Server

TODAY = date(2026, 11, 23)

COUNTS = {
    "Artist": 275, "Album": 347, "Track": 3503, "Customer": 59, "Employee": 8, "Genre": 25,
    "MediaType": 5, "Playlist": 18, "PlaylistTrack": 8715, "Invoice": 412, "InvoiceLine": 2240,
}  # fmt: skip


def make(path: Path, scale: int = 1, seed: int = 1) -> None:
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)
    with engine.begin() as connection:
        Base.metadata.create_all(connection)
        fill(connection, scale, TODAY, seed=seed)


@pytest.fixture(scope="module")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("standin") / "chinook.db"
    make(path)
    return path


def ask(path: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def test_it_has_as_many_rows_as_the_real_one(standin: Path) -> None:
    found = {table: ask(standin, f'SELECT count(*) FROM "{table}"')[0][0] for table in TABLES}
    assert found == COUNTS


def test_most_tracks_cost_ninety_nine_cents(standin: Path) -> None:
    prices = ask(standin, 'SELECT "UnitPrice", count(*) FROM "Track" GROUP BY 1 ORDER BY 1')
    assert prices == [(0.99, 3290), (1.99, 213)]


def test_customers_live_in_twenty_four_countries(standin: Path) -> None:
    assert ask(standin, 'SELECT count(DISTINCT "Country") FROM "Customer"') == [(24,)]
    complete = 'SELECT count(*) FROM "Customer" WHERE "Address" || "City" || "PostalCode" <> \'\''
    assert ask(standin, complete) == [(59,)]
    assert ask(standin, 'SELECT count(DISTINCT "Email") FROM "Customer"') == [(59,)]
    german = ask(standin, 'SELECT "PostalCode" FROM "Customer" WHERE "Country" = \'Germany\'')
    assert all(len(code) == 5 and code.isdigit() for (code,) in german)


def test_all_keys_are_valid_and_totals_right(standin: Path) -> None:
    assert ask(standin, "PRAGMA foreign_key_check") == []
    wrong = ask(
        standin,
        'SELECT i."InvoiceId" FROM "Invoice" i JOIN "InvoiceLine" l USING ("InvoiceId") '
        'GROUP BY 1 HAVING round(i."Total" * 100) <> sum(round(l."UnitPrice" * 100))',
    )
    assert wrong == []
    assert ask(standin, 'SELECT count(DISTINCT "InvoiceId") FROM "InvoiceLine"') == [(412,)]
    twice = 'SELECT 1 FROM "InvoiceLine" GROUP BY "InvoiceId", "TrackId" HAVING count(*) > 1'
    assert ask(standin, twice) == []
    other = (
        'SELECT count(*) FROM "InvoiceLine" l JOIN "Track" t USING ("TrackId") '
        'WHERE l."UnitPrice" <> t."UnitPrice" OR l."Quantity" <> 1'
    )
    assert ask(standin, other) == [(0,)]


def test_the_history_is_five_years_and_ends_two_days_ago(standin: Path) -> None:
    assert ask(standin, 'SELECT min("InvoiceDate"), max("InvoiceDate") FROM "Invoice"') == [
        ("2021-11-22 00:00:00", "2026-11-21 00:00:00")
    ]
    ids = ask(standin, 'SELECT "InvoiceId" FROM "Invoice" ORDER BY "InvoiceDate", "InvoiceId"')
    assert ids == [(number,) for number in range(1, 413)]
    bought = ask(standin, 'SELECT count(*) FROM "Invoice" GROUP BY "CustomerId"')
    assert {count for (count,) in bought} <= {6, 7}


def test_employees_report_to_one_manager(standin: Path) -> None:
    staff = ask(standin, 'SELECT "Title", "ReportsTo" FROM "Employee" ORDER BY "EmployeeId"')
    assert staff[0] == ("General Manager", None)
    assert Counter(title for title, _ in staff)["Sales Support Agent"] == 3
    agents = ask(
        standin,
        'SELECT DISTINCT e."Title" FROM "Customer" c '
        'JOIN "Employee" e ON e."EmployeeId" = c."SupportRepId"',
    )
    assert agents == [("Sales Support Agent",)]


def test_names_are_different_and_fit(standin: Path) -> None:
    assert ask(standin, 'SELECT count(DISTINCT "Name") FROM "Artist"') == [(275,)]
    distinct = ask(standin, 'SELECT count(DISTINCT "Name") FROM "Track"')[0][0]
    assert distinct > 2500
    for table in Base.metadata.tables.values():
        for column in table.columns:
            length = getattr(column.type, "length", None)
            if length and table.name in TABLES:
                longest = f'SELECT max(length("{column.name}")) FROM "{table.name}"'
                assert (ask(standin, longest)[0][0] or 0) <= length


def test_the_same_scale_date_and_seed_make_the_same_shop(standin: Path, tmp_path: Path) -> None:
    for name, seed in (("same", 1), ("other", 2)):
        make(tmp_path / name, seed=seed)
    wanted = 'SELECT * FROM "Invoice" JOIN "Customer" USING ("CustomerId") ORDER BY "InvoiceId"'
    assert ask(tmp_path / "same", wanted) == ask(standin, wanted)
    assert ask(tmp_path / "other", wanted) != ask(standin, wanted)


def test_a_larger_scale_multiplies() -> None:
    found = {table.name: sum(1 for _ in made) for table, made in rows(3, TODAY)}
    fixed = {"Employee", "Genre", "MediaType", "Playlist"}
    assert found == {table: count * (1 if table in fixed else 3) for table, count in COUNTS.items()}


def test_postgresql_gives_the_next_ids_itself(server: Server) -> None:
    database = server.create_database()
    engine = create_engine(server.url(database), poolclass=NullPool)
    with engine.begin() as connection:
        Base.metadata.create_all(connection)
        fill(connection, 1, TODAY)
    with engine.begin() as connection:
        insert = 'INSERT INTO "Genre" ("Name") VALUES (\'Skiffle\') RETURNING "GenreId"'
        assert connection.scalar(text(insert)) == 26
        found = connection.scalar(text('SELECT count(*) FROM "PlaylistTrack"'))
        assert found == 8715
    server.drop_database(database)


def test_the_callers_rollback_takes_everything_back(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'c.db'}", poolclass=NullPool)
    with engine.connect() as connection:
        Base.metadata.create_all(connection)
        connection.commit()
        fill(connection, 1, TODAY)
        connection.rollback()
    assert ask(tmp_path / "c.db", 'SELECT count(*) FROM "Artist"') == [(0,)]
