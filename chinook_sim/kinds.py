"""The kinds of runs and of changes, as the ledger spells them, and how many changes of each."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from enum import StrEnum
from typing import Literal, get_args

__all__ = [
    "NO_CHANGES",
    "PRICE_UNDONE",
    "SUBJECTS",
    "ChangeCounts",
    "ChangeKind",
    "RunKind",
    "Subject",
]

Subject = Literal["invoice", "customer", "track"]
"""What a change is a change of."""

SUBJECTS: tuple[Subject, ...] = get_args(Subject)


class RunKind(StrEnum):
    """The kinds of runs; see `Run`."""

    GENERATE = "generate"
    CHANGES = "changes"
    LIVE = "live"
    ALIGN = "align"
    SIMULATE_SALES = "simulate_sales"
    BASELINE = "baseline"


class ChangeKind(StrEnum):
    """The kinds of changes that can be requested; see `Change`.

    Attributes:
        subject: what is changed.
        field: the name of their number, in a request as in a summary.
    """

    UPDATE = "update", "invoice", "updates"
    CANCELLATION = "cancellation", "invoice", "cancellations"
    SIGN_UP = "sign-up", "customer", "new_customers"
    MOVE = "move", "customer", "moves"
    PRICE = "price", "track", "price_changes"

    subject: Subject
    field: str

    def __new__(cls, value: str, subject: Subject, field: str) -> ChangeKind:
        """Return a member that is the text of the ledger."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.subject = subject
        member.field = field
        return member


PRICE_UNDONE = "price undone"
"""The kind of the change that `undo` notes when it gives a track its earlier price again."""


@dataclass(frozen=True, slots=True)
class ChangeCounts:
    """How many changes of each kind, requested or made.

    Attributes:
        updates: invoices that get one more track.
        cancellations: invoices that are deleted.
        new_customers: customers who are added.
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


NO_CHANGES = ChangeCounts()
