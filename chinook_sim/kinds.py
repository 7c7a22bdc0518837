"""What kinds of runs and of changes there are, as the ledger spells them."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, get_args

__all__ = ["PRICE_UNDONE", "SUBJECTS", "ChangeKind", "RunKind", "Subject"]

Subject = Literal["invoice", "customer", "track"]
"""What a change is a change of."""

SUBJECTS: tuple[Subject, ...] = get_args(Subject)


class RunKind(StrEnum):
    """The kinds of runs; see `Run`."""

    GENERATE = "generate"
    CHANGES = "changes"
    LIVE = "live"
    SIMULATE_SALES = "simulate_sales"
    ALIGN = "align"
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
