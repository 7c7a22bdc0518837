"""The statements of mutations, and the names of the checks that they fail."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MADE = "sales match the ledger"
COPIES = "no duplicated sales"
TOTALS = "totals equal the sum of their lines"
SOME = "at least one track per invoice"
TRACKS = "1 to 5 tracks per invoice"
DISTINCT = "no repeated track in an invoice"
PRICES = "unit prices valid at the time of the sale"
ONE_OF_EACH = "quantity of each line is 1"
SECONDS = "timestamps in whole seconds"
CUSTOMER = "customers of invoices exist"
TRACK = "tracks of lines exist"
INVOICE = "invoices of lines exist"
CANCELLED = "cancelled invoices are deleted"
UPDATED = "updated invoices match the ledger"
CUSTOMERS = "changed customers match the ledger"
COSTS = "changed prices match the ledger"
UNDONE = "no sales of undone runs"
LEDGER = "ledger entries belong to a run"
ALIGNED = "aligned history matches the ledger"
STRAYS = "invoices not in the ledger"

Named = dict[str, str]
"""By the names of checks, or of differences, the names of ids; `*` if there are too many."""


@dataclass(frozen=True)
class Wrong:
    """A mutation, and what `verify` says of it.

    Attributes:
        sql: statements, with names in [brackets] and, in braces, facts of test_mutations.py.
        runs: the runs whose sales differ, by their names, and the ids of each kind of difference.
            What is no kind of difference is part of a figure of the run.
        both: the other checks that fail, in `verify_all` and in `verify_day`.
        everywhere: those that fail in `verify_all` alone.
        daily: those that fail in `verify_day` alone.
        strays: ids of the remark on invoices that no run made.
        on: the days on which all this is seen.
        others: other days, and what fails on them.
        only: `postgresql` or `sqlite`, if the other one does not hold such a thing.
    """

    sql: str
    runs: Mapping[str, Named] = field(default_factory=dict)
    both: Named = field(default_factory=dict)
    everywhere: Named = field(default_factory=dict)
    daily: Named = field(default_factory=dict)
    strays: str = ""
    on: str = "first"
    others: Mapping[str, Named] = field(default_factory=dict)
    only: str = ""


def first(kind: str, ids: str = "sale") -> dict[str, Named]:
    """Return sales of the first run that differ in one way."""
    return {"first": {kind: ids}}


def change(assignment: str, invoice: str = "sale") -> str:
    """Return the statement that changes an invoice."""
    return f"UPDATE [Invoice] SET {assignment} WHERE [InvoiceId] = {{{invoice}}}"


def correct(invoice: str = "sale") -> str:
    """Return the statement that makes the total of an invoice the sum of its lines."""
    return change(
        "[Total] = (SELECT sum(l.[UnitPrice] * l.[Quantity]) FROM [InvoiceLine] l "
        f"WHERE l.[InvoiceId] = {{{invoice}}})",
        invoice,
    )


def line(assignment: str, number: str = "line") -> str:
    """Return the statement that changes a line."""
    return f"UPDATE [InvoiceLine] SET {assignment} WHERE [InvoiceLineId] = {{{number}}}"


def add(track: str, invoice: str = "sale") -> str:
    """Return the statement that adds a track to an invoice."""
    return (
        "INSERT INTO [InvoiceLine] ([InvoiceLineId], [InvoiceId], [TrackId], [UnitPrice], "
        "[Quantity]) SELECT (SELECT max(l.[InvoiceLineId]) + 1 FROM [InvoiceLine] l), "
        f"{{{invoice}}}, [TrackId], [UnitPrice], 1 FROM [Track] WHERE [TrackId] = {{{track}}}"
    )


def delete(invoice: str = "sale") -> str:
    """Return the statements that delete an invoice with its lines."""
    return (
        f"DELETE FROM [InvoiceLine] WHERE [InvoiceId] = {{{invoice}}};"
        f"DELETE FROM [Invoice] WHERE [InvoiceId] = {{{invoice}}}"
    )


def copy(new: str, invoice: str = "sale", moment: str = "[InvoiceDate]") -> str:
    """Return the statements that copy an invoice with its lines."""
    billing = "[BillingAddress], [BillingCity], [BillingState], [BillingCountry]"
    billing += ", [BillingPostalCode]"
    return (
        f"INSERT INTO [Invoice] ([InvoiceId], [CustomerId], [InvoiceDate], {billing}, [Total]) "
        f"SELECT {new}, [CustomerId], {moment}, {billing}, [Total] FROM [Invoice] "
        f"WHERE [InvoiceId] = {{{invoice}}};"
        "INSERT INTO [InvoiceLine] ([InvoiceLineId], [InvoiceId], [TrackId], [UnitPrice], "
        "[Quantity]) SELECT [InvoiceLineId] + 100000, "
        f"{new}, [TrackId], [UnitPrice], [Quantity] FROM [InvoiceLine] "
        f"WHERE [InvoiceId] = {{{invoice}}}"
    )


def renumber(old: str, new: str) -> str:
    """Return the statements that give an invoice and its lines another id."""
    return (
        f"UPDATE [Invoice] SET [InvoiceId] = {new} WHERE [InvoiceId] = {old};"
        f"UPDATE [InvoiceLine] SET [InvoiceId] = {new} WHERE [InvoiceId] = {old}"
    )


def swap(table: str, column: str, key: str, one: str, two: str) -> str:
    """Return the statement that exchanges the values of two rows."""
    return (
        f"UPDATE [{table}] SET [{column}] = o.value FROM (SELECT t.[{key}] AS number, "
        f"t.[{column}] AS value FROM [{table}] t WHERE t.[{key}] IN ({{{one}}}, {{{two}}})) o "
        f"WHERE o.number = {{{one}}} + {{{two}}} - [{table}].[{key}] "
        f"AND [{table}].[{key}] IN ({{{one}}}, {{{two}}})"
    )


def run(assignment: str, name: str = "first") -> str:
    """Return the statement that changes a run in the ledger."""
    return f"UPDATE chinook_sim_run SET {assignment} WHERE run_id = '{{run_{name}}}'"


def ranges(assignment: str, name: str = "first") -> str:
    """Return the statement that changes the ranges of ids of a run."""
    return f"UPDATE chinook_sim_run_invoices SET {assignment} WHERE run_id = '{{run_{name}}}'"


BILLING = {
    "address": "BillingAddress",
    "city": "BillingCity",
    "state": "BillingState",
    "country": "BillingCountry",
    "postal code": "BillingPostalCode",
}

NEXT = "UPDATE [Invoice] SET [InvoiceDate] = '{next_second}' WHERE [InvoiceId] = {sale}"
