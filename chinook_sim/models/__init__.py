"""The tables of Chinook and of the ledger, as SQLAlchemy declarative classes."""

from __future__ import annotations

from chinook_sim.models.base import Base, ChinookName
from chinook_sim.models.chinook import (
    Album,
    Artist,
    Customer,
    Employee,
    Genre,
    Invoice,
    InvoiceLine,
    MediaType,
    Playlist,
    Track,
    playlist_track,
)
from chinook_sim.models.ledger import CHANGE, RANGE, RUN, Change, CreatedTable, Run, RunInvoices

__all__ = [
    "CHANGE",
    "RANGE",
    "RUN",
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
