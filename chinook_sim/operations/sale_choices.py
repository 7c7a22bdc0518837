"""What the caller of `SaleFactory` chooses of a sale: its customer, its tracks, how many."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import inspect, select, type_coerce
from sqlalchemy.types import NullType

from chinook_sim.database.schema import LARGEST_ID
from chinook_sim.errors import InvalidInput
from chinook_sim.integers import check_integer
from chinook_sim.models import Customer, Track
from chinook_sim.sales.catalogue import BillingAddress, cents_of
from chinook_sim.sampling.draws import MAX_BASKET

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import InstanceState

__all__ = ["Choices", "check_choices", "read_customer", "read_tracks"]


class Choices(NamedTuple):
    """What was chosen of a sale; None where it is to be drawn.

    Attributes:
        customer: the buyer, or their id.
        tracks: what is sold, or the ids, in the order of the lines.
        lines: number of tracks, if they are to be drawn.
    """

    customer: Customer | int | None = None
    tracks: tuple[Track | int, ...] | None = None
    lines: int | None = None

    @property
    def names_rows(self) -> bool:
        """Whether rows of the database were chosen."""
        return self.customer is not None or self.tracks is not None


def check_choices(customer: object, tracks: object, lines: int | None) -> Choices:
    """Return what was chosen, as far as that can be judged without the database.

    Raises:
        InvalidInput: something is of a wrong type, or there are too few or too many tracks, or
            another number of them than `lines`.
    """
    chosen = None if customer is None else _row("customer", customer, Customer)
    number = None if lines is None else check_integer("lines", lines, 1, MAX_BASKET)
    if tracks is None:
        return Choices(chosen, None, number)
    if isinstance(tracks, str | bytes) or not isinstance(tracks, Iterable):
        raise InvalidInput(f"tracks must be Track objects or ids in a list, got {tracks!r:.60}")
    # One too many is enough to refuse, also if the iterable has no end.
    sold = tuple(islice(tracks, MAX_BASKET + 1))
    if not 1 <= len(sold) <= MAX_BASKET:
        raise InvalidInput(f"a sale has 1 to {MAX_BASKET} tracks, got {_number_of(sold)}")
    if number not in (None, len(sold)):
        raise InvalidInput(f"lines is {lines}, but the number of tracks given is {len(sold)}")
    return Choices(chosen, tuple(_row("track", track, Track) for track in sold), None)


def _number_of(sold: tuple[object, ...]) -> str:
    return f"more than {MAX_BASKET}" if len(sold) > MAX_BASKET else str(len(sold))


def _row(name: str, given: Any, model: type[Customer | Track]) -> Any:
    """Return an object as it is, and an id as an int."""
    if isinstance(given, model):
        return given
    try:
        return check_integer(name, given, -LARGEST_ID, LARGEST_ID)
    except InvalidInput:
        raise InvalidInput(
            f"{name} must be a {model.__name__} or its id, got {given!r:.60}"
        ) from None


def read_customer(connection: Connection, given: Customer | int) -> tuple[int, BillingAddress]:
    """Return the id and the billing address of a customer, as the database has them now.

    Raises:
        InvalidInput: there is no such customer.
    """
    number = _id_of(given)
    row = connection.execute(
        select(
            Customer.address,
            Customer.city,
            Customer.state,
            Customer.country,
            Customer.postal_code,
        ).where(Customer.customer_id == number)
    ).first()
    if row is None:
        raise InvalidInput(f"there is no customer {number}")
    return number, BillingAddress(*row)


def read_tracks(connection: Connection, given: tuple[Track | int, ...]) -> list[tuple[int, int]]:
    """Return the ids and the prices in cents of tracks, as the database has them now.

    Raises:
        InvalidInput: one is given twice, or there is no such track.
        CatalogueUnusable: a price is not an amount in whole cents.
    """
    numbers = [_id_of(track) for track in given]
    for number in numbers:
        if numbers.count(number) > 1:
            raise InvalidInput(f"track {number} is given twice; the tracks of a sale are distinct")
    # Prices as the driver gives them: rounding to the cent would hide one that has none.
    found = connection.execute(
        select(Track.track_id, type_coerce(Track.unit_price, NullType())).where(
            Track.track_id.in_(numbers)
        )
    ).all()
    missing = [str(number) for number in numbers if number not in {row[0] for row in found}]
    if missing:
        raise InvalidInput(f"there is no track {', '.join(missing)}")
    prices = dict(zip((row[0] for row in found), cents_of(connection, found), strict=True))
    return [(number, prices[number]) for number in numbers]


def _id_of(given: Customer | Track | int) -> int:
    """Return an id; of an object the one that its row has, without loading anything."""
    if isinstance(given, int):
        return given
    state: InstanceState[Any] = inspect(given)
    identity = state.identity
    if identity is None:
        raise InvalidInput(f"the {type(given).__name__} given has no row; add it to the session")
    return int(identity[0])
