"""Checking that what runs changed is as they left it."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from chinook_sim.dates import bounds
from chinook_sim.models import Invoice, InvoiceLine
from chinook_sim.verification import statements
from chinook_sim.verification.query import Check, CheckQuery, none_of

if TYPE_CHECKING:
    from datetime import date

    from sqlalchemy import Connection

__all__ = ["check_changes"]


def check_changes(connection: Connection, baseline: int, day: date | None = None) -> list[Check]:
    """Check that what runs changed is as the ledger says they left it.

    Args:
        connection: on a recognised Chinook with a ledger.
        baseline: the highest id of an invoice that is older than the ledger.
        day: check the changes that runs of this day made, and those of its sales; None for all.
    """
    parameters: dict[str, Any] = {}
    scope = of_invoices = "1 = 1"
    if day is not None:
        start, end = bounds(day)
        parameters = {"day": day, "start": start, "end": end}
        scope, of_invoices = "r.day = :day", statements.OF_A_DAY
    invoices, customers, prices = (
        CheckQuery(connection, of_day, parameters, of_them=of_them)
        for of_day, of_them in (
            (of_invoices, statements.INVOICES_CHANGED),
            (scope, statements.CUSTOMERS_CHANGED),
            (scope, statements.PRICES_CHANGED),
        )
    )
    return [
        invoices.expect_none(
            "cancelled invoices are deleted",
            statements.LATEST + statements.STILL_THERE,
            "invoice still exists",
            "invoices still exist",
        ),
        _updated(invoices, baseline),
        customers.expect_none(
            "changed customers match the ledger",
            statements.LATEST + statements.ADDRESS_DIFFERS,
            "customer differs",
            "customers differ",
        ),
        prices.expect_none(
            "changed prices match the ledger",
            statements.LATEST + statements.PRICE_DIFFERS,
            "track differs",
            "tracks differ",
        ),
    ]


def _updated(query: CheckQuery, baseline: int) -> Check:
    """Check updated invoices, and what the next change of each had found."""
    differing = {row.id for row in query.rows(statements.LATEST + statements.UPDATED_DIFFERS)}
    differing |= {
        row.id
        for rows in query.stream(statements.CHAIN)
        for row in rows
        if not _same(query, row.kept, row.found, dated=row.id > baseline)
    }
    return none_of(
        "updated invoices match the ledger",
        len(differing),
        sorted(differing),
        "invoice differs",
        "invoices differ",
    )


def _same(query: CheckQuery, kept: str | None, found: str, *, dated: bool) -> bool:
    """Return whether two snapshots of an invoice in the ledger are the same, in Chinook's columns.

    Args:
        query: knows the names of the columns.
        kept: as one change left it; None if it cancelled the invoice.
        found: as the next change found it.
        dated: whether the date must be the same; `align` may have moved the history in between.
    """
    if kept is None:
        return False
    sales = [json.loads(content) for content in (kept, found)]
    moment = query.key(Invoice.__table__.c.InvoiceDate)
    if dated and len({_moment(sale["Invoice"][0].get(moment)) for sale in sales}) > 1:
        return False
    for table in (Invoice.__table__, InvoiceLine.__table__):
        keys = [key for key in map(query.key, table.c) if key != moment]
        one, two = (
            sorted([row.get(key) for key in keys] for row in sale[table.name]) for sale in sales
        )
        if one != two:
            return False
    return True


def _moment(text: str) -> datetime | str:
    """Return a timestamp, by which one moment in two time zones is the same."""
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return text
