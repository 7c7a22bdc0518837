"""Customers and tracks, read once, as immutable arrays."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sqlalchemy import func, null, select, type_coerce
from sqlalchemy.types import NullType

from chinook_sim.database.backends import backend_for
from chinook_sim.database.identifiers import quoted
from chinook_sim.errors import CatalogueUnusable
from chinook_sim.models import Change, Customer, Track

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from sqlalchemy import Connection, Table

__all__ = ["BillingAddress", "Catalogue", "cents_of", "read_catalogue"]

logger = logging.getLogger(__name__)


class BillingAddress(NamedTuple):
    """Where an invoice is sent: the customer's address, in the order of Invoice's columns."""

    address: str | None
    city: str | None
    state: str | None
    country: str | None
    postal_code: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Catalogue:
    """The customers and tracks of which sales are made, in the order of their ids.

    Attributes:
        customer_ids: shape (customers,), int64, rising.
        billing: each customer's billing address, in the same order.
        track_ids: shape (tracks,), int64, rising.
        prices: shape (tracks,), int64: each track's unit price in cents.
        as_of: the number in the ledger of the last change of a price that is included; 0 before
            the first, None if there is no ledger of changes.
    """

    customer_ids: NDArray[np.int64]
    billing: Sequence[BillingAddress]
    track_ids: NDArray[np.int64]
    prices: NDArray[np.int64]
    as_of: int | None = None

    def __post_init__(self) -> None:
        for array in (self.customer_ids, self.track_ids, self.prices):
            array.flags.writeable = False


# Built once: every batch reads them, and building took a quarter of a small batch's Python time.
_TRACKS = (
    Track.track_id,
    # As the driver gives it: rounding to the cent would hide a price that has none.
    type_coerce(Track.unit_price, NullType()),
)

_CUSTOMERS = (
    Customer.customer_id,
    Customer.address,
    Customer.city,
    Customer.state,
    Customer.country,
    Customer.postal_code,
)

_LAST_PRICE_CHANGE = select(func.coalesce(func.max(Change.change_id), 0)).where(
    Change.subject == "track"
)

_NO_CHANGE = select(null())


def read_catalogue(connection: Connection, *, changes: bool = False) -> Catalogue:
    """Read the customers and tracks of a recognised Chinook.

    Args:
        connection: to the database.
        changes: whether its ledger holds changes, of prices among others.

    Raises:
        CatalogueUnusable: there are no customers or no tracks, or a price is missing, negative or
            not in whole cents.
    """
    as_of, tracks, customers = backend_for(connection).read_tables(
        connection, _LAST_PRICE_CHANGE if changes else _NO_CHANGE, _TRACKS, _CUSTOMERS
    )
    _refuse_empty(connection, Customer.__table__, customers)
    _refuse_empty(connection, Track.__table__, tracks)
    logger.debug("read the catalogue: customers %s, tracks %s", len(customers), len(tracks))
    return Catalogue(
        customer_ids=np.array([row[0] for row in customers], dtype=np.int64),
        billing=[BillingAddress(*row[1:]) for row in customers],
        track_ids=np.array([row[0] for row in tracks], dtype=np.int64),
        prices=np.array(cents_of(connection, tracks), dtype=np.int64),
        as_of=as_of,
    )


def _refuse_empty(connection: Connection, table: Table, rows: Sequence[Any]) -> None:
    if not rows:
        raise CatalogueUnusable(
            f"{quoted(connection, table)} is empty: sales need customers and tracks; "
            "load a Chinook, or run `chinook-sim init` on an empty database"
        )


def cents_of(connection: Connection, tracks: Sequence[Any]) -> list[int]:
    """Return the prices of tracks in cents.

    Args:
        connection: to the database, for the names in an error.
        tracks: pairs of an id and a price, as the driver gives it.

    Raises:
        CatalogueUnusable: a price is missing, negative or not in whole cents.
    """
    # A shop has a handful of different prices, however many tracks.
    known: dict[Any, int] = {}
    for track_id, price in tracks:
        if price not in known:
            cents = _whole_cents(price)
            if cents is None:
                table, (key,) = Track.__table__, Track.__table__.primary_key.columns
                raise CatalogueUnusable(
                    f"the unit price {price} in {quoted(connection, table)} where "
                    f"{quoted(connection, key.name)} = {track_id} is not an amount in whole cents; "
                    "correct it"
                )
            known[price] = cents
    return [known[price] for _, price in tracks]


def _whole_cents(price: object) -> int | None:
    """Return a price in cents, or None where it is no amount of whole cents.

    SQLite keeps prices as floating-point numbers: what is meant is what `repr` shows.
    """
    if isinstance(price, bool) or not isinstance(price, int | float | Decimal):
        return None
    amount = price if isinstance(price, Decimal) else Decimal(repr(price))
    if not amount.is_finite() or amount < 0 or amount >= 10**8:
        return None
    cents = amount * 100
    return int(cents) if cents == cents.to_integral_value() else None
