"""The eleven tables of Chinook, and ours, as SQLAlchemy declarative classes.

One declaration serves every Chinook. Attributes are Python's (`invoice.billing_city`); the names
given to the database are those of the CamelCase Chinooks (`"Invoice"."BillingCity"`), each as a
`ChinookName` that also knows its snake_case form. On a snake_case database, or on one outside the
search path, `naming.recognise` gives the engine a dialect that spells these names, and no others,
as that database does.

Units: prices and totals are `Decimal`, exact to the cent; track lengths are milliseconds, sizes
bytes; dates are naive, in the shop's local time, to the second.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import (
    REAL,
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Numeric,
    String,
    Table,
    Text,
    TypeDecorator,
    func,
    quoted_name,
    text,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedColumn, mapped_column, relationship

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect
    from sqlalchemy.types import TypeEngine

__all__ = [
    "CANCELLATION",
    "MOVE",
    "PRICE",
    "PRICE_UNDONE",
    "SIGN_UP",
    "UPDATE",
    "Album",
    "Artist",
    "Base",
    "Change",
    "ChinookName",
    "CreatedTable",
    "Customer",
    "Employee",
    "Genre",
    "Invoice",
    "InvoiceLine",
    "MediaType",
    "Playlist",
    "Run",
    "RunInvoices",
    "Track",
    "playlist_track",
]

CENT = Decimal("0.01")


class ChinookName(quoted_name):
    """A name of a table, column, key or index of Chinook, in both its spellings.

    It is the CamelCase name as far as SQLAlchemy knows; `snake` is the other one. Names of any
    other table on the same engine are no `ChinookName` and so are never respelled.
    """

    snake: str

    def __new__(cls, camel: str, snake: str | None = None) -> ChinookName:
        """Pair a CamelCase name with its snake_case form, which is derived unless given."""
        self = super().__new__(cls, camel, None)
        self.snake = snake or re.sub(r"(?<=[a-z])(?=[A-Z])", "_", camel).lower()
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return ChinookName, (str(self), self.snake)


class Money(TypeDecorator[Decimal]):
    """An amount exact to the cent: NUMERIC(…, 2), which SQLite keeps as a floating-point number.

    Read from SQLite it is rounded to the cent that was meant; `float` never reaches the user.
    """

    impl = Numeric
    cache_ok = True

    def __init__(self, precision: int = 10) -> None:
        super().__init__(precision, 2)
        self.precision = precision

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Let SQLite bind floats, which is what its Chinooks hold."""
        if dialect.name == "sqlite":
            return dialect.type_descriptor(Numeric(self.precision, 2, asdecimal=False))
        return dialect.type_descriptor(Numeric(self.precision, 2))

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        """Make a Decimal of two places of what the driver returned."""
        return None if value is None else Decimal(str(value)).quantize(CENT)


class LedgerMoney(Money):
    """An amount of the ledger, REAL in SQLite: a NUMERIC column there keeps 1.00 as an integer.

    Readers that take the type of a column from its first row would fail on the next.
    """

    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Declare and bind floats in SQLite."""
        if dialect.name == "sqlite":
            return dialect.type_descriptor(REAL())
        return super().load_dialect_impl(dialect)


class Id(BigInteger):
    """An id: INTEGER where we make the table, but values of any size, as the user may widen it."""

    cache_ok = True


@compiles(Id)
def _declared(*_: Any, **__: Any) -> str:
    return "INTEGER"


# SQLAlchemy's default for SQLite appends microseconds, which no Chinook has and which break
# comparisons with the text that is there.
Timestamp = DateTime().with_variant(
    sqlite.DATETIME(  # type: ignore[no-untyped-call]
        storage_format="%(year)04d-%(month)02d-%(day)02d %(hour)02d:%(minute)02d:%(second)02d"
    ),
    "sqlite",
)


class Base(DeclarativeBase):
    """Declarative base; `Base.metadata` holds all tables that this library knows."""

    __table__: ClassVar[Table]


def _column(name: str, *args: Any, **kwargs: Any) -> MappedColumn[Any]:
    return mapped_column(ChinookName(name), *args, **kwargs)


def _primary_key(name: str) -> MappedColumn[Any]:
    # Identity is for tables that we make ourselves: a plain insert there needs no id.
    return _column(name, Id, Identity(), primary_key=True)


def _foreign_key(name: str, target: str, *, of: str, nullable: bool = False) -> MappedColumn[Any]:
    constraint = ChinookName(f"FK_{of}{name}", f"{_snake(of)}_{_snake(name)}_fkey")
    return _column(name, ForeignKey(target, name=constraint), nullable=nullable)


def _index(table: str, column: str) -> Index:
    return Index(
        ChinookName(f"IFK_{table}{column}", f"{_snake(table)}_{_snake(column)}_idx"), column
    )


def _snake(name: str) -> str:
    return ChinookName(name).snake


class Artist(Base):
    """A band or a person who made albums."""

    __tablename__ = ChinookName("Artist")

    artist_id: Mapped[int] = _primary_key("ArtistId")
    name: Mapped[str | None] = _column("Name", String(120))

    albums: Mapped[list[Album]] = relationship(back_populates="artist")


class Album(Base):
    """An album of one artist."""

    __tablename__ = ChinookName("Album")

    album_id: Mapped[int] = _primary_key("AlbumId")
    title: Mapped[str] = _column("Title", String(160))
    artist_id: Mapped[int] = _foreign_key("ArtistId", "Artist.ArtistId", of="Album")

    artist: Mapped[Artist] = relationship(back_populates="albums")
    tracks: Mapped[list[Track]] = relationship(back_populates="album")

    __table_args__ = (_index("Album", "ArtistId"),)


class Genre(Base):
    """A style of music."""

    __tablename__ = ChinookName("Genre")

    genre_id: Mapped[int] = _primary_key("GenreId")
    name: Mapped[str | None] = _column("Name", String(120))

    tracks: Mapped[list[Track]] = relationship(back_populates="genre")


class MediaType(Base):
    """A file format that tracks are sold in."""

    __tablename__ = ChinookName("MediaType")

    media_type_id: Mapped[int] = _primary_key("MediaTypeId")
    name: Mapped[str | None] = _column("Name", String(120))

    tracks: Mapped[list[Track]] = relationship(back_populates="media_type")


playlist_track = Table(
    ChinookName("PlaylistTrack"),
    Base.metadata,
    Column(
        ChinookName("PlaylistId"),
        ForeignKey(
            "Playlist.PlaylistId",
            name=ChinookName("FK_PlaylistTrackPlaylistId", "playlist_track_playlist_id_fkey"),
        ),
        primary_key=True,
    ),
    Column(
        ChinookName("TrackId"),
        ForeignKey(
            "Track.TrackId",
            name=ChinookName("FK_PlaylistTrackTrackId", "playlist_track_track_id_fkey"),
        ),
        primary_key=True,
    ),
    _index("PlaylistTrack", "PlaylistId"),
    _index("PlaylistTrack", "TrackId"),
)
"""Which tracks are on which playlist; `Playlist.tracks` and `Track.playlists` go through it."""


class Playlist(Base):
    """A named selection of tracks."""

    __tablename__ = ChinookName("Playlist")

    playlist_id: Mapped[int] = _primary_key("PlaylistId")
    name: Mapped[str | None] = _column("Name", String(120))

    tracks: Mapped[list[Track]] = relationship(secondary=playlist_track, back_populates="playlists")


class Track(Base):
    """A piece of music or video that is sold, and its price."""

    __tablename__ = ChinookName("Track")

    track_id: Mapped[int] = _primary_key("TrackId")
    name: Mapped[str] = _column("Name", String(200))
    album_id: Mapped[int | None] = _foreign_key(
        "AlbumId", "Album.AlbumId", of="Track", nullable=True
    )
    media_type_id: Mapped[int] = _foreign_key("MediaTypeId", "MediaType.MediaTypeId", of="Track")
    genre_id: Mapped[int | None] = _foreign_key(
        "GenreId", "Genre.GenreId", of="Track", nullable=True
    )
    composer: Mapped[str | None] = _column("Composer", String(220))
    milliseconds: Mapped[int] = _column("Milliseconds")
    bytes: Mapped[int | None] = _column("Bytes")
    unit_price: Mapped[Decimal] = _column("UnitPrice", Money)

    album: Mapped[Album | None] = relationship(back_populates="tracks")
    media_type: Mapped[MediaType] = relationship(back_populates="tracks")
    genre: Mapped[Genre | None] = relationship(back_populates="tracks")
    playlists: Mapped[list[Playlist]] = relationship(
        secondary=playlist_track, back_populates="tracks"
    )
    invoice_lines: Mapped[list[InvoiceLine]] = relationship(back_populates="track")

    __table_args__ = (
        _index("Track", "AlbumId"),
        _index("Track", "GenreId"),
        _index("Track", "MediaTypeId"),
    )


class Employee(Base):
    """Someone who works in the shop, and whom they report to."""

    __tablename__ = ChinookName("Employee")

    employee_id: Mapped[int] = _primary_key("EmployeeId")
    last_name: Mapped[str] = _column("LastName", String(20))
    first_name: Mapped[str] = _column("FirstName", String(20))
    title: Mapped[str | None] = _column("Title", String(30))
    reports_to: Mapped[int | None] = _foreign_key(
        "ReportsTo", "Employee.EmployeeId", of="Employee", nullable=True
    )
    birth_date: Mapped[datetime | None] = _column("BirthDate", Timestamp)
    hire_date: Mapped[datetime | None] = _column("HireDate", Timestamp)
    address: Mapped[str | None] = _column("Address", String(70))
    city: Mapped[str | None] = _column("City", String(40))
    state: Mapped[str | None] = _column("State", String(40))
    country: Mapped[str | None] = _column("Country", String(40))
    postal_code: Mapped[str | None] = _column("PostalCode", String(10))
    phone: Mapped[str | None] = _column("Phone", String(24))
    fax: Mapped[str | None] = _column("Fax", String(24))
    email: Mapped[str | None] = _column("Email", String(60))

    manager: Mapped[Employee | None] = relationship(
        back_populates="reports", remote_side=[employee_id]
    )
    reports: Mapped[list[Employee]] = relationship(back_populates="manager")
    customers: Mapped[list[Customer]] = relationship(back_populates="support_rep")

    __table_args__ = (_index("Employee", "ReportsTo"),)


class Customer(Base):
    """Someone who buys; their address is the billing address of what they buy."""

    __tablename__ = ChinookName("Customer")

    customer_id: Mapped[int] = _primary_key("CustomerId")
    first_name: Mapped[str] = _column("FirstName", String(40))
    last_name: Mapped[str] = _column("LastName", String(20))
    company: Mapped[str | None] = _column("Company", String(80))
    address: Mapped[str | None] = _column("Address", String(70))
    city: Mapped[str | None] = _column("City", String(40))
    state: Mapped[str | None] = _column("State", String(40))
    country: Mapped[str | None] = _column("Country", String(40))
    postal_code: Mapped[str | None] = _column("PostalCode", String(10))
    phone: Mapped[str | None] = _column("Phone", String(24))
    fax: Mapped[str | None] = _column("Fax", String(24))
    email: Mapped[str] = _column("Email", String(60))
    support_rep_id: Mapped[int | None] = _foreign_key(
        "SupportRepId", "Employee.EmployeeId", of="Customer", nullable=True
    )

    support_rep: Mapped[Employee | None] = relationship(back_populates="customers")
    invoices: Mapped[list[Invoice]] = relationship(back_populates="customer")

    __table_args__ = (_index("Customer", "SupportRepId"),)


class Invoice(Base):
    """A sale: who bought, when, for how much in all."""

    __tablename__ = ChinookName("Invoice")

    invoice_id: Mapped[int] = _primary_key("InvoiceId")
    customer_id: Mapped[int] = _foreign_key("CustomerId", "Customer.CustomerId", of="Invoice")
    invoice_date: Mapped[datetime] = _column("InvoiceDate", Timestamp)
    billing_address: Mapped[str | None] = _column("BillingAddress", String(70))
    billing_city: Mapped[str | None] = _column("BillingCity", String(40))
    billing_state: Mapped[str | None] = _column("BillingState", String(40))
    billing_country: Mapped[str | None] = _column("BillingCountry", String(40))
    billing_postal_code: Mapped[str | None] = _column("BillingPostalCode", String(10))
    total: Mapped[Decimal] = _column("Total", Money)

    customer: Mapped[Customer] = relationship(back_populates="invoices")
    lines: Mapped[list[InvoiceLine]] = relationship(
        back_populates="invoice",
        cascade="all, delete-orphan",
        order_by="InvoiceLine.invoice_line_id",
    )

    __table_args__ = (_index("Invoice", "CustomerId"),)


class InvoiceLine(Base):
    """One track on an invoice, at the price it had."""

    __tablename__ = ChinookName("InvoiceLine")

    invoice_line_id: Mapped[int] = _primary_key("InvoiceLineId")
    invoice_id: Mapped[int] = _foreign_key("InvoiceId", "Invoice.InvoiceId", of="InvoiceLine")
    track_id: Mapped[int] = _foreign_key("TrackId", "Track.TrackId", of="InvoiceLine")
    unit_price: Mapped[Decimal] = _column("UnitPrice", Money)
    quantity: Mapped[int] = _column("Quantity")

    invoice: Mapped[Invoice] = relationship(back_populates="lines")
    track: Mapped[Track] = relationship(back_populates="invoice_lines")

    __table_args__ = (_index("InvoiceLine", "InvoiceId"), _index("InvoiceLine", "TrackId"))


class CreatedTable(Base):
    """A table or sequence that a migration made, so that its downgrade takes no other away."""

    __tablename__ = "chinook_sim_created_table"

    name: Mapped[str] = mapped_column(String(63), primary_key=True)
    revision: Mapped[str] = mapped_column(String(32))


class _OfStanding(Index):
    """An index of the runs that are not undone.

    The condition is set when it is first read. As an argument of the constructor it would load the
    dialects of both databases whenever the models are imported: a tenth of the command's start.
    """

    @cached_property
    def dialect_options(self) -> Any:
        """Return the options of each dialect: the condition."""
        options = super().dialect_options
        for dialect in ("postgresql", "sqlite"):
            options[dialect]["where"] = text("undone_at IS NULL")
        return options


class Run(Base):
    """The ledger: one row a batch, written in the batch's own transaction.

    Attributes:
        run_id: a UUID; drawn before the batch, so that it can be looked for when the answer to
            COMMIT is lost.
        kind: `generate`; `changes`, without sales; `live`, a transaction of a stream;
            `simulate_sales`, the SQL function; `align`; or `baseline`, written by the migration,
            whose `last_invoice_id` is the highest id there was before us.
        key: what makes a repeated request the same one; unique among the runs not undone.
        day: the day of the sales; the last day of the history after `align`.
        timezone: the zone that D-1 was taken from; NULL for the database's own.
        requested: the number of sales asked for.
        seed: of the sales; NULL where the database's own random() made them.
        profile: the shape of the day.
        parameters: whatever else was asked for, as a JSON object.
        parameters_hash: SHA-256 of day, number, profile and `parameters`, in hexadecimal.
        sales: the number of sales made, or of invoices moved.
        lines: the number of tracks sold.
        revenue: the sum of the totals.
        digest: SHA-256 of the content of the sales, as in `BatchSummary`.
        first_invoice_id: the lowest id of the invoices.
        last_invoice_id: the highest.
        hours: the number of sales in each hour of the day, as JSON.
        created_at: when the transaction began, by the database's clock; in SQLite in UTC.
        version: of the library, or of the SQL function.
        undone_at: when the run was taken out again; NULL while it stands.
        prices_known: the `change_id` of the last change of a price that the run had seen; NULL
            where no price had ever changed.
    """

    __tablename__ = "chinook_sim_run"

    run_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    key: Mapped[str | None] = mapped_column(String(200))
    day: Mapped[date | None]
    timezone: Mapped[str | None] = mapped_column(String(64))
    requested: Mapped[int | None]
    seed: Mapped[int | None] = mapped_column(BigInteger)
    profile: Mapped[str | None] = mapped_column(String(200))
    parameters: Mapped[str] = mapped_column(Text, server_default="{}")
    parameters_hash: Mapped[str | None] = mapped_column(String(64))
    sales: Mapped[int] = mapped_column(server_default="0")
    lines: Mapped[int] = mapped_column(BigInteger, server_default="0")
    revenue: Mapped[Decimal] = mapped_column(LedgerMoney(14), server_default="0")
    digest: Mapped[str | None] = mapped_column(String(64))
    first_invoice_id: Mapped[int | None] = mapped_column(BigInteger)
    last_invoice_id: Mapped[int | None] = mapped_column(BigInteger)
    hours: Mapped[str] = mapped_column(Text, server_default="[]")
    created_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.current_timestamp()
    )
    version: Mapped[str] = mapped_column(String(40))
    undone_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    prices_known: Mapped[int | None] = mapped_column(BigInteger)

    # An undone run frees its key.
    __table_args__ = (_OfStanding("chinook_sim_run_key", "kind", "key", unique=True),)


class RunInvoices(Base):
    """The invoices of a run, as ranges of ids: those it made, or those that `align` moved.

    The invoice `id` is in a range if `id BETWEEN first_id AND last_id AND (id - first_id) % step
    = 0`. The rows of a run, in the order of `first_id`, are in the order of its sales.

    Attributes:
        run_id: the run, in `chinook_sim_run`.
        first_id: the first id.
        last_id: the last id.
        step: the difference between one id and the next.
        fingerprints: 16 bytes for each invoice, in the order of the ids; see
            `chinook_sim.fingerprints`. NULL where they are not known, for
            runs that were made before revision 0006. Of an alignment only
            the second of the day is set.
    """

    __tablename__ = "chinook_sim_run_invoices"

    run_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    first_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    last_id: Mapped[int] = mapped_column(BigInteger)
    step: Mapped[int] = mapped_column(BigInteger, server_default="1")
    fingerprints: Mapped[bytes | None] = mapped_column(LargeBinary)

    __table_args__ = (Index("chinook_sim_run_invoices_id", "first_id", "last_id"),)


CANCELLATION, UPDATE, SIGN_UP, MOVE = "cancellation", "update", "sign-up", "move"
PRICE, PRICE_UNDONE = "price", "price undone"
"""Kinds of change; see `Change`."""


class Change(Base):
    """What a run changed or took away: one row for each thing, as it was and as it became.

    Attributes:
        change_id: rises; of two changes of one subject, the later has the higher.
        run_id: the run, in `chinook_sim_run`.
        kind: `update`, a track added to an invoice; `cancellation`, an invoice taken away;
            `sign-up`, a new customer; `move`, a customer's new address; `price`, a track's new
            price; `price undone`, its old price again, as the run was undone.
        subject: `invoice`, `customer` or `track`: what was changed.
        subject_id: its id.
        last_line_id: the highest id of its lines before, as the ids of what was cancelled are not
            given again.
        before: its rows before, with all their columns, as a JSON object: {"Invoice": [row],
            "InvoiceLine": [row, …]}, {"Customer": [row]} or {"Track": [row]}; NULL where it is new.
        after: the same after; NULL where it is gone.
    """

    __tablename__ = "chinook_sim_change"

    change_id: Mapped[int] = mapped_column(
        # In SQLite only an INTEGER numbers itself.
        BigInteger().with_variant(Integer, "sqlite"),
        Identity(),
        primary_key=True,
    )
    run_id: Mapped[str] = mapped_column(String(36))
    kind: Mapped[str] = mapped_column(String(20))
    subject: Mapped[str] = mapped_column(String(10))
    subject_id: Mapped[int] = mapped_column(BigInteger)
    last_line_id: Mapped[int | None] = mapped_column(BigInteger)
    before: Mapped[str | None] = mapped_column(Text)
    after: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        Index("chinook_sim_change_run", "run_id"),
        Index("chinook_sim_change_subject", "subject", "subject_id"),
        Index("chinook_sim_change_line", "last_line_id"),
    )
