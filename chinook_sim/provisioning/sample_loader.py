"""Writing the stand-in Chinook into a database."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from sqlalchemy import cast, func, select
from sqlalchemy.dialects.postgresql import REGCLASS

from chinook_sim.database.backends import backend_for
from chinook_sim.database.introspection import find_candidate
from chinook_sim.models import (
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
)
from chinook_sim.provisioning.sample_data import rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

    from sqlalchemy import Connection

__all__ = ["fill"]

CHUNK = 10_000
"""Rows sent at a time."""


def fill(
    connection: Connection,
    scale: int,
    today: date,
    *,
    seed: int = 1,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Fill the eleven tables, which are there and empty, in the transaction that is open.

    Args:
        connection: SQLite, or PostgreSQL through psycopg, recognised.
        scale: 1 to `MAX_SCALE`, which is not checked here.
        today: the sales end two days before.
        seed: another one makes another shop.
        progress: told the number of rows after each chunk.
    """
    backend = backend_for(connection)
    for table, records in rows(scale, today, seed=seed):
        source = iter(records)
        while chunk := list(islice(source, CHUNK)):
            backend.load_rows(connection, table, chunk)
            if progress is not None:
                progress(len(chunk))
    _advance_sequences(connection)


def _advance_sequences(connection: Connection) -> None:
    """Let the ids that the database gives begin after those that were written."""
    place = find_candidate(connection)
    assert place is not None  # noqa: S101 - its tables have just been filled
    for model in (
        Artist, Album, Genre, MediaType, Track, Playlist, Employee, Customer, Invoice, InvoiceLine,
    ):  # fmt: skip
        table = model.__table__
        sequence = place.ids_of(table.name).sequence
        if sequence is not None:
            (key,) = table.primary_key.columns
            highest = connection.scalar(select(func.max(key)))
            connection.execute(select(func.setval(cast(sequence, REGCLASS), highest)))
