"""How many changes of each kind."""

from __future__ import annotations

from dataclasses import astuple, dataclass

__all__ = ["Changes"]


@dataclass(frozen=True, slots=True)
class Changes:
    """How many changes, asked for or made.

    Attributes:
        updates: invoices that get one more track.
        cancellations: invoices that are taken away.
        new_customers: people who sign up.
        moves: customers who get another address.
        price_changes: tracks that get another price.
    """

    updates: int = 0
    cancellations: int = 0
    new_customers: int = 0
    moves: int = 0
    price_changes: int = 0

    def __bool__(self) -> bool:
        return any(astuple(self))
