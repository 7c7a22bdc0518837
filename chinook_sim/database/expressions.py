"""Conditions that are the same in every database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chinook_sim.models import RunInvoices

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

__all__ = ["in_range"]


def in_range(number: Any) -> ColumnElement[bool]:
    """Return the condition that an invoice id is in a row of `RunInvoices`."""
    ranges = RunInvoices.__table__.c
    condition: ColumnElement[bool] = number.between(ranges.first_id, ranges.last_id) & (
        (number - ranges.first_id) % ranges.step == 0
    )
    return condition
