"""The Chinooks, built by the tests themselves, and the real ones where they are at hand.

The declaration is independent of `chinook_sim.models` on purpose. All hold the same small shop:
ids with gaps, addresses with quotes, tabs, backslashes and line ends, NULLs where there may be.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from support import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.postgres_server import Server

REAL = ROOT.parent / "shared" / "data"

# name: columns; the first is the key, unless there are only two with references.
# A column is name:type, ! for NOT NULL, >Table for a reference.
TABLES = {
    "Artist": "ArtistId:int! Name:120",
    "Album": "AlbumId:int! Title:160! ArtistId:int!>Artist",
    "Genre": "GenreId:int! Name:120",
    "MediaType": "MediaTypeId:int! Name:120",
    "Playlist": "PlaylistId:int! Name:120",
    "Track": "TrackId:int! Name:200! AlbumId:int>Album MediaTypeId:int!>MediaType "
    "GenreId:int>Genre Composer:220 Milliseconds:int! Bytes:int UnitPrice:money!",
    "PlaylistTrack": "PlaylistId:int!>Playlist TrackId:int!>Track",
    "Employee": "EmployeeId:int! LastName:20! FirstName:20! Title:30 ReportsTo:int>Employee "
    "BirthDate:time HireDate:time Address:70 City:40 State:40 Country:40 PostalCode:10 Phone:24 "
    "Fax:24 Email:60",
    "Customer": "CustomerId:int! FirstName:40! LastName:20! Company:80 Address:70 City:40 State:40 "
    "Country:40 PostalCode:10 Phone:24 Fax:24 Email:60! SupportRepId:int>Employee",
    "Invoice": "InvoiceId:int! CustomerId:int!>Customer InvoiceDate:time! BillingAddress:70 "
    "BillingCity:40 BillingState:40 BillingCountry:40 BillingPostalCode:10 Total:money!",
    "InvoiceLine": "InvoiceLineId:int! InvoiceId:int!>Invoice TrackId:int!>Track UnitPrice:money! "
    "Quantity:int!",
}

TRACKS = [number * 3 for number in range(1, 41)]
CUSTOMERS = [number * 2 + 5 for number in range(12)]


@dataclass(frozen=True)
class Shape:
    """How names are spelled, where ids come from, and what types columns have."""

    name: str
    file: str
    snake: bool
    ids: str
    names: Callable[[str], str] | None = None
    integer: str = "INTEGER"
    moment: str = ""

    @property
    def postgresql(self) -> bool:
        return self.name.startswith("postgres")

    @property
    def gives_ids(self) -> bool:
        """Whether a plain insert may leave the id to the database."""
        return self.ids != "" or not self.postgresql

    def spell(self, name: str) -> str:
        """Return a name as SQL."""
        if self.names is not None:
            name = self.names(name)
        elif self.snake:
            name = snake(name)
        return name if re.fullmatch("[a-z_]+", name) else f'"{name}"'

    def schema(self) -> Iterator[str]:
        """Return the statements that make the tables."""
        for table, text in TABLES.items():
            columns = [re.fullmatch(r"(\w+):(\w+)(!?)>?(\w*)", word) for word in text.split()]
            keys = 2 if table == "PlaylistTrack" else 1
            lines, references = [], []
            for position, column in enumerate(columns):
                assert column is not None
                name, kind, needed, target = column.groups()
                first = position == 0 and keys == 1
                lines.append(
                    f"{self.spell(name)} {self._type(kind, first)}{' NOT NULL' if needed else ''}"
                )
                if target:
                    references.append((name, target))
            if self.ids != "PRIMARY KEY AUTOINCREMENT" or keys == 2:
                key = ", ".join(self.spell(column[1]) for column in columns[:keys] if column)
                lines.append(f"CONSTRAINT {self.spell('PK_' + table)} PRIMARY KEY ({key})")
            for name, target in references:
                foreign = TABLES[target].split(":")[0]
                lines.append(
                    f"FOREIGN KEY ({self.spell(name)}) "
                    f"REFERENCES {self.spell(target)} ({self.spell(foreign)})"
                )
            yield f"CREATE TABLE {self.spell(table)} ({', '.join(lines)})"
            for name, _ in references:
                index = self.spell(f"IFK_{table}{name}")
                yield f"CREATE INDEX {index} ON {self.spell(table)} ({self.spell(name)})"

    def _type(self, kind: str, key: bool) -> str:
        if key and self.ids:
            return "serial" if self.ids == "serial" else f"{self.integer} {self.ids}"
        if kind.isdigit():
            return f"{'VARCHAR' if self.postgresql else 'NVARCHAR'}({kind})"
        moment = self.moment or ("TIMESTAMP" if self.postgresql else "DATETIME")
        return {"int": self.integer, "money": "NUMERIC(10,2)", "time": moment}[kind]

    def contents(self) -> Iterator[str]:
        """Return the statements that fill the tables, and bring sequences in step."""
        always = "OVERRIDING SYSTEM VALUE " if "ALWAYS" in self.ids else ""
        for table, rows in shop().items():
            values = ", ".join(f"({', '.join(map(_literal, row))})" for row in rows)
            yield f"INSERT INTO {self.spell(table)} {always}VALUES {values}"
        if self.postgresql and self.ids:
            for table, text in TABLES.items():
                key = self.spell(text.split(":")[0])
                if table != "PlaylistTrack":
                    yield (
                        f"SELECT setval(pg_get_serial_sequence('{self.spell(table)}', '{key}'), "
                        f"(SELECT max({key}) FROM {self.spell(table)}))"
                    )


def snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def tutorial(name: str) -> str:
    """Return a name as in the database of the SQLite tutorials."""
    if name in ("PlaylistTrack", "InvoiceLine"):
        return {"PlaylistTrack": "playlist_track", "InvoiceLine": "invoice_items"}[name]
    return f"{snake(name)}s" if name in TABLES else name


def dataquest(name: str) -> str:
    return "birthdate" if name == "BirthDate" else snake(name)


def plural(name: str) -> str:
    if name == "InvoiceLine":
        return "invoice_items"
    return f"{snake(name)}s" if name in TABLES else snake(name)


SHAPES = (
    Shape("postgres-neon", "postgres-neon.sql", snake=False, ids=""),
    Shape("postgres-snake-int", "postgres-snake-int.sql", snake=True, ids=""),
    Shape("postgres-snake-serial", "postgres-snake-serial.sql", snake=True, ids="serial"),
    Shape(
        "postgres-snake-identity",
        "postgres-snake-identity.sql",
        snake=True,
        ids="GENERATED ALWAYS AS IDENTITY",
    ),
    Shape("sqlite-int", "sqlite-int.sqlite", snake=False, ids=""),
    Shape(
        "sqlite-autoincrement",
        "sqlite-autoincrement.sqlite",
        snake=False,
        ids="PRIMARY KEY AUTOINCREMENT",
    ),
)


OTHER_NAMES = (
    Shape(
        "sqlite-tutorial",
        "sqlite-tutorial.sqlite",
        snake=False,
        ids="PRIMARY KEY AUTOINCREMENT",
        names=tutorial,
    ),
    Shape("sqlite-dataquest", "sqlite-dataquest.sqlite", snake=True, ids="", names=dataquest),
    Shape(
        "postgres-lower",
        "",
        snake=False,
        ids="",
        names=str.lower,
        integer="bigint",
        moment="timestamptz",
    ),
    Shape("postgres-plural", "", snake=False, ids="GENERATED BY DEFAULT AS IDENTITY", names=plural),
)
"""Chinooks whose names have neither of the usual spellings."""


def shop() -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of all tables."""
    artists = [(number, f"Artist {number}") for number in range(1, 6)]
    albums = [(number, f"Album {number}", number) for number in range(1, 6)]
    tracks = [
        (
            track, f"Track {track}", track % 5 + 1, track % 2 + 1, track % 3 + 1,
            None if track % 4 else "Someone", 200_000 + track, track * 1000, _price(track),
        )
        for track in TRACKS
    ]  # fmt: skip
    employees = [
        (number, "Müller", f"Nº {number}", "Agent", 1 if number > 1 else None,
         "1970-01-01 00:00:00", "2010-05-01 00:00:00", "1 Rue", "Lyon", None, "France", "69001",
         None, None, "a@example.com")
        for number in range(1, 4)
    ]  # fmt: skip
    places = [
        ("12 O'Connell St", "Dublin", None, "Ireland", None),
        ("Theodor-Heuss-Straße 34", "Stuttgart", None, "Germany", "70174"),
        ("Back\\slash, tab\there", "Łódź", None, "Poland", "90-001"),
        ("two\nlines \\N and \\.", "Montréal", "QC", "Canada", "H2G 1A7"),
    ]
    customers = [
        (customer, f"First{customer}", "O'Hara", None, *places[customer // 2 % 4], "+1", None,
         f"c{customer}@example.com", customer % 3 + 1)
        for customer in CUSTOMERS
    ]  # fmt: skip
    invoices, lines = [], []
    for number in range(1, 31):
        customer = customers[number % len(customers)]
        basket = [TRACKS[(number * 7 + step) % len(TRACKS)] for step in range(number % 7 + 1)]
        total = sum(int(_price(track).replace(".", "")) for track in basket)
        invoices.append(
            (number, customer[0], f"20{number % 5 + 21}-03-{number:02d} 00:00:00", *customer[4:9],
             f"{total // 100}.{total % 100:02d}")
        )  # fmt: skip
        lines += [(number, track, _price(track), 1) for track in basket]
    return {
        "Artist": artists,
        "Album": albums,
        "Genre": [(1, "Rock"), (2, "Jazz"), (3, "R&B/Soul")],
        "MediaType": [(1, "MPEG audio file"), (2, "AAC audio file")],
        "Playlist": [(1, "Music"), (2, "Brazilian Music")],
        "Track": tracks,
        "PlaylistTrack": [(1 + track % 2, track) for track in TRACKS],
        "Employee": employees,
        "Customer": customers,
        "Invoice": invoices,
        "InvoiceLine": [(number, *line) for number, line in enumerate(lines, 1)],
    }


def _price(track: int) -> str:
    return "1.99" if track % 5 == 0 else "0.99"


def _literal(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, int) or (isinstance(value, str) and re.fullmatch(r"\d+\.\d\d", value)):
        return str(value)
    return "'" + str(value).replace("'", "''") + "'"


def build_sqlite(shape: Shape, path: Path) -> None:
    """Make a SQLite Chinook."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in (*shape.schema(), *shape.contents()):
            connection.execute(statement)


def build_postgresql(shape: Shape, server: Server, database: str, schema: str = "public") -> None:
    """Make a PostgreSQL Chinook, in a schema that is made if need be."""
    with server.connect(database) as connection:
        connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
        connection.execute(f'SET search_path = "{schema}"')
        for statement in (*shape.schema(), *shape.contents()):
            connection.execute(statement)


def load_real(shape: Shape, server: Server, database: str) -> None:
    """Load the real file of a PostgreSQL shape with psql, as a person would."""
    script = (REAL / shape.file).read_text(encoding="utf-8")
    server.psql(
        database,
        re.sub(r"^(DROP DATABASE|CREATE DATABASE|\\c ).*$", "", script, flags=re.MULTILINE),
    )
