"""The eleven tables of Chinook as SQLAlchemy classes, in the CamelCase names."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from sqlalchemy import Column, ForeignKey, String, Table
from sqlalchemy.orm import Mapped, relationship

from chinook_sim.models.base import (
    Base,
    ChinookName,
    Money,
    Timestamp,
    chinook_column,
    foreign_key,
    foreign_key_index,
    primary_key,
)

__all__ = [
    "Album",
    "Artist",
    "Customer",
    "Employee",
    "Genre",
    "Invoice",
    "InvoiceLine",
    "MediaType",
    "Playlist",
    "Track",
    "playlist_track",
]


class Artist(Base):
    """A band or a person who made albums."""

    __tablename__ = ChinookName("Artist")
    _shown = ("name",)

    artist_id: Mapped[int] = primary_key("ArtistId")
    name: Mapped[str | None] = chinook_column("Name", String(120))

    albums: Mapped[list[Album]] = relationship(back_populates="artist")


class Album(Base):
    """An album of one artist."""

    __tablename__ = ChinookName("Album")
    _shown = ("title",)

    album_id: Mapped[int] = primary_key("AlbumId")
    title: Mapped[str] = chinook_column("Title", String(160))
    artist_id: Mapped[int] = foreign_key("ArtistId", "Artist.ArtistId", of="Album")

    artist: Mapped[Artist] = relationship(back_populates="albums")
    tracks: Mapped[list[Track]] = relationship(back_populates="album")

    __table_args__ = (foreign_key_index("Album", "ArtistId"),)


class Genre(Base):
    """A style of music."""

    __tablename__ = ChinookName("Genre")
    _shown = ("name",)

    genre_id: Mapped[int] = primary_key("GenreId")
    name: Mapped[str | None] = chinook_column("Name", String(120))

    tracks: Mapped[list[Track]] = relationship(back_populates="genre")


class MediaType(Base):
    """A file format that tracks are sold in."""

    __tablename__ = ChinookName("MediaType")
    _shown = ("name",)

    media_type_id: Mapped[int] = primary_key("MediaTypeId")
    name: Mapped[str | None] = chinook_column("Name", String(120))

    tracks: Mapped[list[Track]] = relationship(back_populates="media_type")


playlist_track = Table(
    ChinookName("PlaylistTrack"),
    Base.metadata,
    Column(
        ChinookName("PlaylistId", "PlaylistTrack"),
        ForeignKey("Playlist.PlaylistId", name="FK_PlaylistTrackPlaylistId"),
        primary_key=True,
    ),
    Column(
        ChinookName("TrackId", "PlaylistTrack"),
        ForeignKey("Track.TrackId", name="FK_PlaylistTrackTrackId"),
        primary_key=True,
    ),
    foreign_key_index("PlaylistTrack", "PlaylistId"),
    foreign_key_index("PlaylistTrack", "TrackId"),
)
"""Which tracks are on which playlist; `Playlist.tracks` and `Track.playlists` go through it."""


class Playlist(Base):
    """A named selection of tracks."""

    __tablename__ = ChinookName("Playlist")
    _shown = ("name",)

    playlist_id: Mapped[int] = primary_key("PlaylistId")
    name: Mapped[str | None] = chinook_column("Name", String(120))

    tracks: Mapped[list[Track]] = relationship(secondary=playlist_track, back_populates="playlists")


class Track(Base):
    """A piece of music or video that is sold, and its price."""

    __tablename__ = ChinookName("Track")
    _shown = ("name", "unit_price")

    track_id: Mapped[int] = primary_key("TrackId")
    name: Mapped[str] = chinook_column("Name", String(200))
    album_id: Mapped[int | None] = foreign_key(
        "AlbumId", "Album.AlbumId", of="Track", nullable=True
    )
    media_type_id: Mapped[int] = foreign_key("MediaTypeId", "MediaType.MediaTypeId", of="Track")
    genre_id: Mapped[int | None] = foreign_key(
        "GenreId", "Genre.GenreId", of="Track", nullable=True
    )
    composer: Mapped[str | None] = chinook_column("Composer", String(220))
    milliseconds: Mapped[int] = chinook_column("Milliseconds")
    bytes: Mapped[int | None] = chinook_column("Bytes")
    unit_price: Mapped[Decimal] = chinook_column("UnitPrice", Money)

    album: Mapped[Album | None] = relationship(back_populates="tracks")
    media_type: Mapped[MediaType] = relationship(back_populates="tracks")
    genre: Mapped[Genre | None] = relationship(back_populates="tracks")
    playlists: Mapped[list[Playlist]] = relationship(
        secondary=playlist_track, back_populates="tracks"
    )
    invoice_lines: Mapped[list[InvoiceLine]] = relationship(back_populates="track")

    __table_args__ = (
        foreign_key_index("Track", "AlbumId"),
        foreign_key_index("Track", "GenreId"),
        foreign_key_index("Track", "MediaTypeId"),
    )


class Employee(Base):
    """Someone who works in the shop, and whom they report to."""

    __tablename__ = ChinookName("Employee")
    _shown = ("first_name last_name",)

    employee_id: Mapped[int] = primary_key("EmployeeId")
    last_name: Mapped[str] = chinook_column("LastName", String(20))
    first_name: Mapped[str] = chinook_column("FirstName", String(20))
    title: Mapped[str | None] = chinook_column("Title", String(30))
    reports_to: Mapped[int | None] = foreign_key(
        "ReportsTo", "Employee.EmployeeId", of="Employee", nullable=True
    )
    birth_date: Mapped[datetime | None] = chinook_column("BirthDate", Timestamp)
    hire_date: Mapped[datetime | None] = chinook_column("HireDate", Timestamp)
    address: Mapped[str | None] = chinook_column("Address", String(70))
    city: Mapped[str | None] = chinook_column("City", String(40))
    state: Mapped[str | None] = chinook_column("State", String(40))
    country: Mapped[str | None] = chinook_column("Country", String(40))
    postal_code: Mapped[str | None] = chinook_column("PostalCode", String(10))
    phone: Mapped[str | None] = chinook_column("Phone", String(24))
    fax: Mapped[str | None] = chinook_column("Fax", String(24))
    email: Mapped[str | None] = chinook_column("Email", String(60))

    manager: Mapped[Employee | None] = relationship(
        back_populates="reports", remote_side=[employee_id]
    )
    reports: Mapped[list[Employee]] = relationship(back_populates="manager")
    customers: Mapped[list[Customer]] = relationship(back_populates="support_rep")

    __table_args__ = (foreign_key_index("Employee", "ReportsTo"),)


class Customer(Base):
    """Someone who buys; their address is the billing address of what they buy."""

    __tablename__ = ChinookName("Customer")
    _shown = ("first_name last_name",)

    customer_id: Mapped[int] = primary_key("CustomerId")
    first_name: Mapped[str] = chinook_column("FirstName", String(40))
    last_name: Mapped[str] = chinook_column("LastName", String(20))
    company: Mapped[str | None] = chinook_column("Company", String(80))
    address: Mapped[str | None] = chinook_column("Address", String(70))
    city: Mapped[str | None] = chinook_column("City", String(40))
    state: Mapped[str | None] = chinook_column("State", String(40))
    country: Mapped[str | None] = chinook_column("Country", String(40))
    postal_code: Mapped[str | None] = chinook_column("PostalCode", String(10))
    phone: Mapped[str | None] = chinook_column("Phone", String(24))
    fax: Mapped[str | None] = chinook_column("Fax", String(24))
    email: Mapped[str] = chinook_column("Email", String(60))
    support_rep_id: Mapped[int | None] = foreign_key(
        "SupportRepId", "Employee.EmployeeId", of="Customer", nullable=True
    )

    support_rep: Mapped[Employee | None] = relationship(back_populates="customers")
    invoices: Mapped[list[Invoice]] = relationship(back_populates="customer")

    __table_args__ = (foreign_key_index("Customer", "SupportRepId"),)


class Invoice(Base):
    """A sale: who bought, when, for how much in all."""

    __tablename__ = ChinookName("Invoice")
    _shown = ("customer_id", "invoice_date", "total", "lines")

    invoice_id: Mapped[int] = primary_key("InvoiceId")
    customer_id: Mapped[int] = foreign_key("CustomerId", "Customer.CustomerId", of="Invoice")
    invoice_date: Mapped[datetime] = chinook_column("InvoiceDate", Timestamp)
    billing_address: Mapped[str | None] = chinook_column("BillingAddress", String(70))
    billing_city: Mapped[str | None] = chinook_column("BillingCity", String(40))
    billing_state: Mapped[str | None] = chinook_column("BillingState", String(40))
    billing_country: Mapped[str | None] = chinook_column("BillingCountry", String(40))
    billing_postal_code: Mapped[str | None] = chinook_column("BillingPostalCode", String(10))
    total: Mapped[Decimal] = chinook_column("Total", Money)

    customer: Mapped[Customer] = relationship(back_populates="invoices")
    lines: Mapped[list[InvoiceLine]] = relationship(
        back_populates="invoice",
        cascade="all, delete-orphan",
        order_by="InvoiceLine.invoice_line_id",
    )

    __table_args__ = (foreign_key_index("Invoice", "CustomerId"),)


class InvoiceLine(Base):
    """One track on an invoice, at the price it had."""

    __tablename__ = ChinookName("InvoiceLine")
    _shown = ("invoice_id", "track_id", "unit_price")

    invoice_line_id: Mapped[int] = primary_key("InvoiceLineId")
    invoice_id: Mapped[int] = foreign_key("InvoiceId", "Invoice.InvoiceId", of="InvoiceLine")
    track_id: Mapped[int] = foreign_key("TrackId", "Track.TrackId", of="InvoiceLine")
    unit_price: Mapped[Decimal] = chinook_column("UnitPrice", Money)
    quantity: Mapped[int] = chinook_column("Quantity")

    invoice: Mapped[Invoice] = relationship(back_populates="lines")
    track: Mapped[Track] = relationship(back_populates="invoice_lines")

    __table_args__ = (
        foreign_key_index("InvoiceLine", "InvoiceId"),
        foreign_key_index("InvoiceLine", "TrackId"),
    )
