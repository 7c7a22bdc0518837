"""What the tests of changes share."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session

from chinook_sim import generate_d1, simulate_changes
from chinook_sim.verification import verify_all, verify_day

if TYPE_CHECKING:
    from chinook_sim.sales.summary import BatchSummary
    from support.databases import ChinookDatabase

DAY = date(2026, 1, 31)
LIVES = "[Address], [City], [State], [Country], [PostalCode]"


def make(shop: ChinookDatabase, n: int = 20, **wanted: Any) -> BatchSummary:
    with Session(shop.engine) as session, session.begin():
        return generate_d1(session, n, **{"day": DAY, "seed": 7, **wanted})


def change(shop: ChinookDatabase, **wanted: Any) -> BatchSummary:
    with Session(shop.engine) as session, session.begin():
        return simulate_changes(session, **{"day": DAY, "seed": 8, **wanted})


def sales(shop: ChinookDatabase) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows of sales, with all columns, those too that Chinook does not have."""
    return {
        name: shop.rows(f"SELECT * FROM [{name}] ORDER BY 1") for name in ("Invoice", "InvoiceLine")
    }


def tracks_of(shop: ChinookDatabase) -> dict[int, set[int]]:
    tracks: dict[int, set[int]] = {}
    for invoice, track in shop.rows("SELECT [InvoiceId], [TrackId] FROM [InvoiceLine]"):
        tracks.setdefault(invoice, set()).add(track)
    return tracks


def prices(shop: ChinookDatabase) -> dict[int, int]:
    """Price of each track, in cents."""
    return {
        track: round(price * 100)
        for track, price in shop.rows("SELECT [TrackId], [UnitPrice] FROM [Track]")
    }


def addresses(shop: ChinookDatabase) -> dict[int, tuple[Any, ...]]:
    return {row[0]: row[1:] for row in shop.rows(f"SELECT [CustomerId], {LIVES} FROM [Customer]")}


def failed(shop: ChinookDatabase, day: date | None = DAY) -> list[str]:
    with shop.engine.connect() as connection:
        checks = verify_all(connection) if day is None else verify_day(connection, day)
    return [check.name for check in checks if not check.passed]
