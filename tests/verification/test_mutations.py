"""What changes in the tables or in the ledger without a run is reported by `verify`.

One shop of each shape is filled in every way there is. Then each mutation of the table below is
made, checked and rolled back. The table says which checks fail, on all sales and on the days
concerned, and which ids and runs they name.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import permutations
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from sqlalchemy.orm import Session

from chinook_sim import SaleFactory, align, generate_d1, live, simulate_changes, undo
from chinook_sim.verification import verify_all, verify_day
from chinook_sim.verification.differences import KINDS
from support.cases import on_each_shape
from support.chinook_variants import TABLES
from support.databases import without_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy import Connection

    from chinook_sim.verification import Check
    from support.databases import ChinookDatabase

MADE = "sales as their runs made them"
COPIES = "no sale twice"
TOTALS = "totals equal the sum of their lines"
SOME = "at least one track an invoice"
TRACKS = "1 to 5 tracks an invoice"
DISTINCT = "no track twice in an invoice"
PRICES = "unit prices as they were valid"
ONE_OF_EACH = "one of each track"
SECONDS = "moments in the day, to the second"
CUSTOMER = "every invoice has its customer"
TRACK = "every line has its track"
INVOICE = "every line has its invoice"
CANCELLED = "cancelled invoices are gone"
UPDATED = "updated invoices are as they were left"
CUSTOMERS = "moved and new customers are as they were left"
COSTS = "changed prices are as they were left"
UNDONE = "sales of undone runs are gone"
LEDGER = "every entry of the ledger has its run"
ALIGNED = "the history is where align moved it"
STRAYS = "invoices that no run made"

Named = dict[str, str]
"""By the names of checks, or of differences, the names of ids; `*` if there are too many."""


@dataclass(frozen=True)
class Wrong:
    """A mutation, and what `verify` says of it.

    Attributes:
        sql: statements, with names in [brackets] and facts in braces; see `Filled`.
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

WRONG = {
    # Sales and lines that are gone, added, or not what was sold.
    "a sale is deleted": Wrong(delete(), first("missing")),
    "all lines of a sale are deleted": Wrong(
        "DELETE FROM [InvoiceLine] WHERE [InvoiceId] = {sale}",
        {"first": {"lines_missing": "sale", "total": "sale"}},
        both={TOTALS: "sale"},
        everywhere={SOME: "sale"},
        daily={TRACKS: "sale"},
    ),
    "a line is deleted and the total corrected": Wrong(
        "DELETE FROM [InvoiceLine] WHERE [InvoiceLineId] = {line};" + correct(),
        first("lines_missing"),
    ),
    "a line is added and the total corrected": Wrong(
        add("same_price") + ";" + correct(), first("lines_added")
    ),
    "a line is added": Wrong(
        add("same_price"),
        {"first": {"lines_added": "sale", "total": "sale"}},
        both={TOTALS: "sale"},
    ),
    "a line is duplicated": Wrong(
        add("track"),
        {"first": {"lines_added": "sale", "total": "sale"}},
        both={TOTALS: "sale", DISTINCT: "sale"},
    ),
    "a track is replaced by one of the same price": Wrong(
        line("[TrackId] = {same_price}"), first("lines_changed")
    ),
    "a track is replaced by one of another price": Wrong(
        line("[TrackId] = {other_price}, [UnitPrice] = {its_price}") + ";" + correct(),
        first("lines_changed"),
    ),
    "a price of a line is changed and the total corrected": Wrong(
        line("[UnitPrice] = 0.49") + ";" + correct(),
        first("lines_changed"),
        daily={PRICES: "sale"},
    ),
    "a price of a line is changed": Wrong(
        line("[UnitPrice] = 0.49"),
        {"first": {"lines_changed": "sale", "total": "sale"}},
        both={TOTALS: "sale"},
        daily={PRICES: "sale"},
    ),
    "a quantity is changed and the total corrected": Wrong(
        line("[Quantity] = 2") + ";" + correct(),
        first("lines_changed"),
        daily={ONE_OF_EACH: "sale"},
    ),
    "a quantity is changed": Wrong(
        line("[Quantity] = 2"),
        {"first": {"lines_changed": "sale", "total": "sale"}},
        both={TOTALS: "sale"},
        daily={ONE_OF_EACH: "sale"},
    ),
    "a quantity is changed in half of a price": Wrong(
        line("[Quantity] = -1, [UnitPrice] = -[UnitPrice]"),
        first("lines_changed"),
        daily={ONE_OF_EACH: "sale", PRICES: "sale"},
    ),
    "two sales exchange all their lines": Wrong(
        "UPDATE [InvoiceLine] SET [InvoiceId] = {sale} + {other} - [InvoiceId] "
        "WHERE [InvoiceId] IN ({sale}, {other})",
        first("lines_changed", "sale other"),
    ),
    "two sales exchange a track": Wrong(
        swap("InvoiceLine", "TrackId", "InvoiceLineId", "line", "other_line"),
        first("lines_changed", "sale other"),
    ),
    "two sales exchange a line": Wrong(
        swap("InvoiceLine", "InvoiceId", "InvoiceLineId", "line", "other_line"),
        first("lines_changed", "sale other"),
    ),
    "the tracks of a sale are in another order": Wrong(
        swap("InvoiceLine", "TrackId", "InvoiceLineId", "line", "next_line"),
        first("lines_changed"),
    ),
    # Customers and addresses.
    "a sale has another customer": Wrong(change("[CustomerId] = {buyer}"), first("customer")),
    "a sale has another customer of the same address": Wrong(
        change("[CustomerId] = {neighbour}"), first("customer")
    ),
    "a sale has another customer and that one's address": Wrong(
        change(
            "[CustomerId] = {buyer}, "
            + ", ".join(
                f"[{column}] = (SELECT c.[{column.removeprefix('Billing')}] FROM [Customer] c "
                "WHERE c.[CustomerId] = {buyer})"
                for column in BILLING.values()
            )
        ),
        {"first": {"customer": "sale", "billing_address": "sale"}},
    ),
    "two sales exchange their customers": Wrong(
        swap("Invoice", "CustomerId", "InvoiceId", "sale", "other"),
        first("customer", "sale other"),
    ),
    **{
        f"the {name} of a sale is {what}": Wrong(
            change(f"[{column}] = {value}"), first("billing_address")
        )
        for name, column in BILLING.items()
        for what, value in (("another", "'Somewhere'"), ("NULL", "NULL"), ("empty", "''"))
    },
    "an empty string is where there was none": Wrong(
        change("[BillingState] = ''", "no_state"), first("billing_address", "no_state")
    ),
    "city and state of a sale are exchanged": Wrong(
        change("[BillingCity] = [BillingState], [BillingState] = [BillingCity]"),
        first("billing_address"),
    ),
    # Moments.
    "a sale is a second later": Wrong(
        change("[InvoiceDate] = '{next_second}'"), first("timestamp")
    ),
    "two sales exchange their moments": Wrong(
        swap("Invoice", "InvoiceDate", "InvoiceId", "sale", "other"),
        first("timestamp", "sale other"),
    ),
    "a sale is on another day": Wrong(
        change("[InvoiceDate] = '{next_day}'"), first("timestamp"), others={"late": {MADE: "sale"}}
    ),
    "a sale is in another year": Wrong(change("[InvoiceDate] = '{next_year}'"), first("timestamp")),
    "a sale is 2**32 seconds later": Wrong(
        change("[InvoiceDate] = '{wrapped}'"), first("timestamp")
    ),
    "a sale has a fraction of a second": Wrong(
        change("[InvoiceDate] = '{moment}.5'"), first("timestamp"), daily={SECONDS: "sale"}
    ),
    "a sale has no timestamp but a text": Wrong(
        change("[InvoiceDate] = 'yesterday'"), first("timestamp"), only="sqlite"
    ),
    "a sale has its timestamp in another form": Wrong(
        change("[InvoiceDate] = replace([InvoiceDate], ' ', 'T')"),
        first("timestamp"),
        daily={SECONDS: "sale"},
        only="sqlite",
    ),
    "a sale has no end": Wrong(
        change("[InvoiceDate] = 'infinity'"), first("timestamp"), only="postgresql"
    ),
    "a sale has no customer but a text": Wrong(
        change("[CustomerId] = 'nobody'"),
        first("customer"),
        both={CUSTOMER: "sale"},
        only="sqlite",
    ),
    "a line has no track but a text": Wrong(
        line("[TrackId] = 'nothing'"),
        first("lines_changed"),
        both={TRACK: "line"},
        only="sqlite",
    ),
    "a line has a fraction of a track and the total is corrected": Wrong(
        line("[Quantity] = 1.4") + ";" + correct(),
        {"first": {"lines_changed": "sale", "total": "sale"}},
        both={TOTALS: "sale"},
        daily={ONE_OF_EACH: "sale"},
        only="sqlite",
    ),
    # Totals.
    "a total is a cent more": Wrong(
        change("[Total] = [Total] + 0.01"), first("total"), both={TOTALS: "sale"}
    ),
    "a total is negative": Wrong(
        change("[Total] = -[Total]"), first("total"), both={TOTALS: "sale"}
    ),
    "a total is NULL": Wrong(
        "ALTER TABLE [Invoice] ALTER [Total] DROP NOT NULL;" + change("[Total] = NULL"),
        first("total"),
        both={TOTALS: "sale"},
        only="postgresql",
    ),
    "a total is not a number": Wrong(
        change("[Total] = 'NaN'"), first("total"), both={TOTALS: "sale"}
    ),
    # Copies and ids.
    "a sale is copied above all ids": Wrong(
        copy("99999"), both={COPIES: "id_99999"}, strays="id_99999"
    ),
    "a sale is copied below the lowest id": Wrong(copy("0"), both={COPIES: "id_0"}),
    "a sale is copied into a gap": Wrong(copy("7"), both={COPIES: "id_7"}),
    "an updated sale is copied": Wrong(
        copy("99999", "updated"), both={COPIES: "id_99999"}, strays="id_99999"
    ),
    "a cancelled sale is restored under another id": Wrong(
        "{restored_invoice};{restored_lines};" + renumber("{cancelled}", "99999"),
        strays="id_99999",
    ),
    "a sale has another id": Wrong(
        renumber("{sale}", "99999"), first("missing"), strays="id_99999"
    ),
    "two sales exchange their ids": Wrong(
        renumber("{sale}", "99999")
        + ";"
        + renumber("{other}", "{sale}")
        + ";"
        + renumber("99999", "{other}"),
        {
            "first": {
                "customer": "sale other",
                "timestamp": "sale other",
                "billing_address": "sale other",
                "lines_changed": "sale other",
            }
        },
    ),
    "an invoice that no run made is on a day of a run": Wrong(
        copy("99999", "sale", "'{next_second}'"), strays="id_99999"
    ),
    # What runs changed.
    "a cancelled invoice is restored": Wrong(
        "{restored_invoice};{restored_lines}", both={CANCELLED: "cancelled"}, on="first third"
    ),
    "a cancelled invoice was another before": Wrong(
        "{cancelled_otherwise}", first("customer", "cancelled")
    ),
    "the cancellation of an invoice is deleted from the ledger": Wrong(
        "DELETE FROM chinook_sim_change WHERE subject_id = {cancelled} AND subject = 'invoice'",
        first("missing", "cancelled"),
    ),
    "an updated invoice has another total": Wrong(
        change("[Total] = [Total] + 1", "updated"), both={UPDATED: "updated", TOTALS: "updated"}
    ),
    "an updated invoice has one line less": Wrong(
        "DELETE FROM [InvoiceLine] WHERE [InvoiceLineId] = {updated_line};" + correct("updated"),
        both={UPDATED: "updated"},
        on="first changes",
    ),
    "an updated invoice has another track": Wrong(
        line("[TrackId] = {not_in_updated}, [UnitPrice] = {price_not_in_updated}", "updated_line")
        + ";"
        + correct("updated"),
        both={UPDATED: "updated"},
        on="first changes",
    ),
    "an updated invoice has another customer": Wrong(
        change("[CustomerId] = {not_of_updated}", "updated"),
        both={UPDATED: "updated"},
        on="first changes",
    ),
    "an updated invoice has another address": Wrong(
        change("[BillingAddress] = 'Somewhere'", "updated"),
        both={UPDATED: "updated"},
        on="first changes",
    ),
    "an updated invoice has another date": Wrong(
        change("[InvoiceDate] = '{updated_later}'", "updated"),
        both={UPDATED: "updated"},
        on="first changes",
    ),
    "an updated invoice is on another day": Wrong(
        change("[InvoiceDate] = '2026-03-01 00:00:00'", "updated"),
        both={UPDATED: "updated"},
        on="first changes",
    ),
    "an updated invoice is deleted": Wrong(
        delete("updated"), both={UPDATED: "updated"}, on="first changes"
    ),
    "an updated invoice was another before": Wrong(
        "{updated_otherwise}", first("customer", "updated")
    ),
    "an invoice was changed between two updates": Wrong(
        "{between_before};{between_after};" + change("[CustomerId] = {intruder}", "twice"),
        both={UPDATED: "twice"},
        on="first third",
    ),
    "an updated invoice of the history has another customer": Wrong(
        change("[CustomerId] = {not_of_old_updated}", "old_updated"),
        both={UPDATED: "old_updated"},
        on="past",
    ),
    "the update of an invoice is deleted from the ledger": Wrong(
        "DELETE FROM chinook_sim_change WHERE subject_id = {updated} AND subject = 'invoice'",
        first("lines_added", "updated"),
    ),
    # Customers, tracks and prices.
    "a moved customer lives elsewhere": Wrong(
        "UPDATE [Customer] SET [City] = 'Somewhere' WHERE [CustomerId] = {moved}",
        both={CUSTOMERS: "moved"},
        on="third",
    ),
    "a new customer lives elsewhere": Wrong(
        "UPDATE [Customer] SET [Address] = NULL WHERE [CustomerId] = {new}",
        both={CUSTOMERS: "new"},
        on="third",
    ),
    "a new customer is deleted": Wrong(
        "DELETE FROM [Customer] WHERE [CustomerId] = {new}",
        both={CUSTOMERS: "new", CUSTOMER: "*"},
        on="third",
    ),
    "a customer is deleted": Wrong(
        "DELETE FROM [Customer] WHERE [CustomerId] = {customer}", both={CUSTOMER: "*"}
    ),
    "a track whose price a run changed costs something else": Wrong(
        "UPDATE [Track] SET [UnitPrice] = 7.77 WHERE [TrackId] = {priced}",
        both={COSTS: "priced"},
        daily={PRICES: "*"},
        on="third",
    ),
    "a track whose price no run changed costs something else": Wrong(
        "UPDATE [Track] SET [UnitPrice] = 7.77 WHERE [TrackId] = {track}", daily={PRICES: "*"}
    ),
    "a track is deleted": Wrong("DELETE FROM [Track] WHERE [TrackId] = {track}", both={TRACK: "*"}),
    "a track whose price a run changed is deleted": Wrong(
        "DELETE FROM [Track] WHERE [TrackId] = {priced}",
        both={TRACK: "*", COSTS: "priced"},
        on="third",
    ),
    "a line has no invoice": Wrong(
        line("[InvoiceId] = 99999"),
        {"first": {"lines_missing": "sale", "total": "sale"}},
        both={TOTALS: "sale", INVOICE: "line"},
    ),
    # Runs of other kinds.
    "a late sale is a second later": Wrong(
        change("[InvoiceDate] = '{late_next}'", "late"),
        {"late": {"timestamp": "late"}},
        on="first late",
    ),
    "a late sale is deleted": Wrong(delete("late"), {"late": {"missing": "late"}}, on="first late"),
    "a late sale is on the day of its run": Wrong(
        change("[InvoiceDate] = '2026-01-30 10:00:00'", "late"),
        {"late": {"timestamp": "late"}},
        on="first late",
    ),
    "a sale of a stream is deleted": Wrong(
        delete("live"), {"live": {"missing": "live"}}, on="live"
    ),
    "a sale of a stream has another customer": Wrong(
        change("[CustomerId] = {not_of_live}", "live"), {"live": {"customer": "live"}}, on="live"
    ),
    "a sale of the function has another customer": Wrong(
        change("[CustomerId] = {not_of_function}", "function"),
        {"function": {"customer": "function"}},
        on="function",
        only="postgresql",
    ),
    "a sale of the function has another track": Wrong(
        line("[TrackId] = [TrackId] + 100000", "function_line"),
        {"function": {"lines_changed": "function"}},
        both={TRACK: "function_line"},
        on="function",
        only="postgresql",
    ),
    "a sale of an undone run is inserted again": Wrong(
        "{undone_invoice};{undone_lines}", both={UNDONE: "undone"}, on="undone"
    ),
    # The history that was aligned.
    "the history is a day later": Wrong(
        "UPDATE [Invoice] SET [InvoiceDate] = {a_day_later} WHERE [InvoiceId] <= 30",
        everywhere={ALIGNED: "*"},
        on="",
    ),
    "an invoice of the history is a day later": Wrong(
        "UPDATE [Invoice] SET [InvoiceDate] = {a_day_later} WHERE [InvoiceId] = {old}",
        everywhere={ALIGNED: "old"},
        on="",
    ),
    "an invoice of the history has a fraction of a second": Wrong(
        change("[InvoiceDate] = '{old_moment}.5'", "old"), everywhere={ALIGNED: "old"}, on=""
    ),
    "an invoice of the history is deleted": Wrong(
        delete("old"), everywhere={ALIGNED: "old"}, on=""
    ),
    "an invoice of the history has another total": Wrong(
        change("[Total] = [Total] + 1", "old"), everywhere={TOTALS: "old"}, on=""
    ),
    # The ledger.
    "a run has one sale more": Wrong(
        run("sales = sales + 1"), first("100 invoice ids in the ledger for 101 sales", "")
    ),
    "a run has one line less": Wrong(run("lines = lines - 1"), first(" lines instead of ", "")),
    "a run has more revenue": Wrong(run("revenue = revenue + 1"), first("revenue ", "")),
    "a run has another digest": Wrong(
        run("digest = '{digest}'"), first("the sales differ from its digest", "")
    ),
    "a run has no digest": Wrong(
        run("digest = NULL"), first("the sales differ from its digest", "")
    ),
    "a run is of another day": Wrong(
        run("day = '2026-01-28'"), first("timestamp", "*"), strays="*", on=""
    ),
    "a run is said to be undone": Wrong(
        run("undone_at = created_at"), both={UNDONE: "*"}, strays="*"
    ),
    "a run is deleted from the ledger": Wrong(
        "DELETE FROM chinook_sim_run WHERE run_id = '{run_first}'",
        both={LEDGER: "*"},
        strays="*",
    ),
    "the alignment is deleted from the ledger": Wrong(
        "DELETE FROM chinook_sim_run WHERE kind = 'align'",
        both={LEDGER: "*"},
        everywhere={UPDATED: "old_updated"},
    ),
    "a change of a price is deleted from the ledger": Wrong(
        "DELETE FROM chinook_sim_change WHERE kind = 'price' AND subject_id = {priced}",
        daily={PRICES: "*"},
    ),
    "a run knew other prices": Wrong(
        run("prices_known = NULL", "third"), daily={PRICES: "*"}, on="third"
    ),
    "a run has fewer ids": Wrong(
        ranges("last_id = last_id - 1"),
        first("99 invoice ids in the ledger for 100 sales", ""),
        strays="last_of_first",
    ),
    "a run has no ids": Wrong(
        "DELETE FROM chinook_sim_run_invoices WHERE run_id = '{run_first}'",
        first("0 invoice ids in the ledger for 100 sales", ""),
        strays="*",
    ),
    "a run has other fingerprints": Wrong(
        ranges("fingerprints = {prints}"),
        {"first": {"customer": "*", "timestamp": "*", "billing_address": "*", "lines_added": "*"}},
    ),
    "a run has too few fingerprints": Wrong(
        ranges("fingerprints = {print}"),
        {"first": {"customer": "*", "timestamp": "*", "billing_address": "*", "lines_added": "*"}},
    ),
    "a run has no fingerprints and a sale another customer": Wrong(
        ranges("fingerprints = NULL") + ";" + change("[CustomerId] = {buyer}"),
        first("the sales differ from its digest", ""),
    ),
    "a run has no fingerprints and a sale is a second later": Wrong(
        ranges("fingerprints = NULL") + ";" + change("[InvoiceDate] = '{next_second}'"),
        first("the sales differ from its digest", ""),
    ),
    "a run has no fingerprints and a sale another track": Wrong(
        ranges("fingerprints = NULL") + ";" + line("[TrackId] = {same_price}"),
        first("the sales differ from its digest", ""),
    ),
    "a run has no fingerprints and a sale is deleted": Wrong(
        ranges("fingerprints = NULL") + ";" + delete(), first("missing")
    ),
}

NOT_CAUGHT = {
    # Of what no run made or changed the ledger keeps nothing.
    "an invoice that no run made is on another day": copy("99999", "sale", "'2026-01-05 10:00:00'"),
    "an invoice of the history has another customer": change("[CustomerId] = {not_of_old}", "old"),
    "a customer whom no run changed lives elsewhere": (
        "UPDATE [Customer] SET [City] = 'Somewhere' WHERE [CustomerId] = {unmoved}"
    ),
    # Of customers only the address is compared.
    "a new customer has another name": (
        "UPDATE [Customer] SET [LastName] = 'Somebody' WHERE [CustomerId] = {new}"
    ),
    # Amounts are compared in cents. PostgreSQL rounds this one itself.
    "a price of a line is a tenth of a cent more": line("[UnitPrice] = [UnitPrice] + 0.001"),
    # Lines are compared by their order.
    "lines have other ids in the same order": (
        "UPDATE [InvoiceLine] SET [InvoiceLineId] = [InvoiceLineId] + 100000 "
        "WHERE [InvoiceId] = {sale}"
    ),
    # Without fingerprints, as before revision 0006, there is the digest, which has no addresses.
    "a run has no fingerprints and a sale another address": (
        ranges("fingerprints = NULL") + ";" + change("[BillingCity] = 'Somewhere'")
    ),
    # Nothing else in the ledger says that there was one.
    "the move of a customer is deleted from the ledger": (
        "DELETE FROM chinook_sim_change WHERE kind = 'move'"
    ),
    "a run and all that the ledger has of it are deleted": (
        "DELETE FROM chinook_sim_run_invoices WHERE run_id = '{run_first}';"
        "DELETE FROM chinook_sim_run WHERE run_id = '{run_first}'"
    ),
    # What was asked for is not compared with what was made.
    "a run is of another seed": run("seed = seed + 1"),
}
"""Mutations after which every check passes; docs/reference/checks.md names them."""


class Filled(NamedTuple):
    """A shop that was filled in every way, and what the table calls what is in it."""

    facts: dict[str, Any]
    runs: dict[str, str]
    days: dict[str, date]


def fill(shop: ChinookDatabase) -> Filled:
    """Fill a shop in every way there is, and find what the mutations need."""
    # A gap among the ids.
    shop.execute(
        "DELETE FROM [InvoiceLine] WHERE [InvoiceId] = 7",
        "DELETE FROM [Invoice] WHERE [InvoiceId] = 7",
    )
    days = {
        name: date(2026, 1, 29) + timedelta(days=place)
        for place, name in enumerate(("first", "late", "third", "changes", "function", "undone"))
    }
    days["past"] = date(2025, 4, 10)
    runs = {}

    def make(name: str, making: Callable[..., Any], *count: int, **wanted: Any) -> None:
        with Session(shop.engine) as session, session.begin():
            made = making(session, *count, day=days[name], **wanted)
            runs[name] = made.run_id

    make("past", simulate_changes, updates=3, cancellations=1, seed=1)
    make("first", generate_d1, 100, seed=1)
    make("late", generate_d1, 40, seed=2, late=0.3, late_days=2)
    make("third", generate_d1, 40, seed=3, updates=20, cancellations=8, new_customers=3, moves=2,
         price_changes=2)  # fmt: skip
    make("changes", simulate_changes, updates=40, price_changes=1, seed=4)
    if shop.server is not None:
        shop.rows("SELECT simulate_sales('2026-02-02', 7)")
        runs["function"] = shop.value(
            "SELECT run_id FROM chinook_sim_run WHERE kind = 'simulate_sales'"
        )
    with Session(shop.engine) as session, session.begin():
        align(session)
    with Session(shop.engine) as session, session.begin():
        recent = simulate_changes(session, updates=2, seed=6)
    runs["recent"], days["recent"] = str(recent.run_id), recent.day
    make_live = live(shop.engine, 400, seed=7, mix=(1, 0, 0))
    for batch, _ in zip(make_live, range(3), strict=False):
        if batch.made.count:
            runs["live"], days["live"] = str(batch.made.run_id), batch.made.day
    make_live.close()
    with Session(shop.engine) as session, session.begin():
        SaleFactory(session, seed=7).create(days["first"])
    make("undone", generate_d1, 5, seed=5)
    facts = find(shop, runs)
    with Session(shop.engine) as session, session.begin():
        undo(session, runs["undone"])
    without_keys(shop)
    if shop.server is not None:
        shop.execute("ANALYZE")
    if shop.server is not None and "IDENTITY" in shop.shape.ids:
        for table in ("Invoice", "InvoiceLine"):
            shop.execute(f"ALTER TABLE [{table}] ALTER COLUMN [{table}Id] SET GENERATED BY DEFAULT")
    return Filled(facts, runs, days)


class _Sale(NamedTuple):
    customer: int
    moment: datetime
    billing: tuple[str | None, ...]
    cents: int
    # Of each line its id, its track and its price in cents.
    lines: list[tuple[int, int, int]]

    @property
    def tracks(self) -> set[int]:
        return {track for _, track, _ in self.lines}


def read(shop: ChinookDatabase) -> dict[int, _Sale]:
    """Return all sales by their ids."""
    lines: dict[int, list[tuple[int, int, int]]] = {}
    for invoice, number, track, price in shop.rows(
        "SELECT [InvoiceId], [InvoiceLineId], [TrackId], [UnitPrice] FROM [InvoiceLine] ORDER BY 2"
    ):
        lines.setdefault(invoice, []).append((number, track, round(price * 100)))
    billing = ", ".join(f"[{column}]" for column in BILLING.values())
    return {
        number: _Sale(
            customer,
            datetime.fromisoformat(str(moment)),
            tuple(address),
            round(total * 100),
            lines[number],
        )
        for number, customer, moment, total, *address in shop.rows(
            f"SELECT [InvoiceId], [CustomerId], [InvoiceDate], [Total], {billing} FROM [Invoice]"
        )
    }


def find(shop: ChinookDatabase, runs: Mapping[str, str]) -> dict[str, Any]:
    """Return what the table needs to know of a shop, by name."""
    sales = read(shop)
    name_of = {run_id: name for name, run_id in runs.items()}
    changes: dict[int, list[tuple[str, str]]] = {}
    subjects: dict[str, list[int]] = {}
    for run_id, kind, subject, number in shop.rows(
        "SELECT run_id, kind, subject, subject_id FROM chinook_sim_change ORDER BY change_id"
    ):
        if subject == "invoice":
            changes.setdefault(number, []).append((name_of[run_id], kind))
        else:
            subjects.setdefault(kind, []).append(number)
    made = {
        name: [
            number
            for first, last, step in shop.rows(
                "SELECT first_id, last_id, step FROM chinook_sim_run_invoices "
                f"WHERE run_id = '{run_id}' ORDER BY first_id"
            )
            for number in range(first, last + 1, step)
        ]
        for name, run_id in runs.items()
    }

    def changed(name: str, *how: tuple[str, str]) -> int:
        """Return the first sale of a run that was changed in these ways alone."""
        return next(number for number in made[name] if changes.get(number, []) == list(how))

    prices = {
        track: round(price * 100)
        for track, price in shop.rows("SELECT [TrackId], [UnitPrice] FROM [Track]")
    }
    steady = prices.keys() - set(subjects["price"])
    plain = [
        number
        for number in made["first"]
        if number not in changes and sales[number].tracks <= steady
    ]
    # Two of the same size and total, with all fields of an address, that have no track in common.
    sale, other = next(
        (one, two)
        for one, two in permutations(plain, 2)
        if 3 <= len(sales[one].lines) == len(sales[two].lines) <= 4
        and sales[one].cents == sales[two].cents
        and None not in sales[one].billing
        and sales[one].customer != sales[two].customer
        and sales[one].billing != sales[two].billing
        and not sales[one].tracks & sales[two].tracks
        and sales[one].lines[0][2] == sales[one].lines[1][2]
    )
    it = sales[sale]
    number, track, cents = it.lines[0]
    other_line = next(line for line, _, price in sales[other].lines if price == cents)
    unused = sorted(steady - it.tracks)
    customers = {
        number: tuple(address)
        for number, *address in shop.rows(
            "SELECT [CustomerId], [Address], [City], [State], [Country], [PostalCode] "
            "FROM [Customer] ORDER BY 1"
        )
    }
    changed_customers = {*subjects["move"], *subjects["sign-up"]}
    still: list[int] = [number for number in customers if number not in changed_customers]

    def another(invoice: int) -> int:
        return next(number for number in still if number != sales[invoice].customer)

    late = next(
        number
        for number in made["late"]
        if number not in changes and sales[number].moment.date() == date(2026, 1, 29)
    )
    updated = changed("first", ("changes", "update"))
    twice = changed("first", ("third", "update"), ("changes", "update"))
    cancelled = changed("first", ("third", "cancellation"))
    unused_updated = min(steady - sales[updated].tracks)
    old = next(number for number in range(1, 31) if number in sales and number not in changes)
    old_updated = next(
        number for number in range(1, 31) if changes.get(number) == [("past", "update")]
    )
    other_price = next(number for number in unused if prices[number] != cents)
    facts: dict[str, Any] = {
        "sale": sale,
        "other": other,
        "line": number,
        "next_line": it.lines[1][0],
        "track": track,
        "other_line": other_line,
        "same_price": next(number for number in unused if prices[number] == cents),
        "other_price": other_price,
        "its_price": prices[other_price] / 100,
        "customer": it.customer,
        "buyer": next(number for number in still if customers[number] != it.billing),
        "neighbour": next(
            number
            for number, address in customers.items()
            if address == it.billing and number != it.customer
        ),
        "no_state": next(number for number in plain if sales[number].billing[2] is None),
        "moment": it.moment,
        "next_second": it.moment + timedelta(seconds=1),
        "next_day": it.moment + timedelta(days=1),
        "next_year": it.moment + timedelta(days=365),
        "wrapped": it.moment + timedelta(seconds=2**32),
        "late": late,
        "late_next": sales[late].moment + timedelta(seconds=1),
        "updated": updated,
        "updated_line": sales[updated].lines[0][0],
        "updated_later": sales[updated].moment + timedelta(seconds=1),
        "not_in_updated": unused_updated,
        "price_not_in_updated": prices[unused_updated] / 100,
        "not_of_updated": another(updated),
        "twice": twice,
        "intruder": another(twice),
        "cancelled": cancelled,
        "old": old,
        "old_moment": sales[old].moment,
        "old_updated": old_updated,
        "not_of_old": another(old),
        "not_of_old_updated": another(old_updated),
        "moved": subjects["move"][0],
        "unmoved": still[0],
        "new": subjects["sign-up"][0],
        "priced": subjects["price"][0],
        "live": made["live"][0],
        "not_of_live": another(made["live"][0]),
        "undone": made["undone"][0],
        "factory": max(sales.keys() - {it for ids in made.values() for it in ids}),
        "last_of_first": made["first"][-1],
        "digest": "0" * 64,
        **{f"id_{number}": number for number in (0, 7, 99999)},
        **{f"run_{name}": run_id for name, run_id in runs.items()},
    }
    if "function" in made:
        facts["function"] = made["function"][0]
        facts["function_line"] = sales[made["function"][0]].lines[0][0]
        facts["not_of_function"] = another(made["function"][0])
    postgresql = shop.server is not None
    facts["a_day_later"] = shop.sql(
        "[InvoiceDate] + interval '1 day'" if postgresql else "datetime([InvoiceDate], '+1 day')"
    )
    for name, size in (("print", 16), ("prints", 1600)):
        facts[name] = f"decode(repeat('00', {size}), 'hex')" if postgresql else f"zeroblob({size})"

    def kept(when: str, invoice: int, name: str) -> str:
        return str(
            shop.value(
                f"SELECT c.{when} FROM chinook_sim_change c WHERE c.run_id = '{runs[name]}' "
                f"AND c.subject = 'invoice' AND c.subject_id = {invoice}"
            )
        )

    def keep(when: str, invoice: int, name: str, customer: int) -> str:
        """Return the statement that puts another customer into what the ledger has kept."""
        column = shop.shape.spell("CustomerId").strip('"')
        text, count = re.subn(
            rf'"{column}": ?\d+', f'"{column}": {customer}', kept(when, invoice, name)
        )
        assert count == 1
        return (
            f"UPDATE chinook_sim_change SET {when} = {literal(text)} WHERE run_id = "
            f"'{runs[name]}' AND subject = 'invoice' AND subject_id = {invoice}"
        )

    facts["between_before"] = keep("before", twice, "changes", facts["intruder"])
    facts["between_after"] = keep("after", twice, "changes", facts["intruder"])
    facts["cancelled_otherwise"] = keep("before", cancelled, "third", still[0])
    facts["updated_otherwise"] = keep("before", updated, "changes", facts["not_of_updated"])
    content = json.loads(kept("before", cancelled, "third"))
    for table, name in (("Invoice", "invoice"), ("InvoiceLine", "lines")):
        facts[f"restored_{name}"] = insert(shop, table, content[table])
        where = f"WHERE [InvoiceId] = {facts['undone']}"
        columns = [
            shop.shape.spell(word.split(":")[0]).strip('"') for word in TABLES[table].split()
        ]
        rows = shop.rows(f"SELECT * FROM [{table}] {where}")
        facts[f"undone_{name}"] = insert(
            shop, table, [dict(zip(columns, row, strict=True)) for row in rows]
        )
    return facts


def literal(value: object) -> str:
    """Return a value as SQL."""
    if value is None:
        return "NULL"
    return "'" + str(value).replace("'", "''") + "'"


def insert(shop: ChinookDatabase, table: str, rows: list[dict[str, Any]]) -> str:
    """Return the statement that inserts rows."""
    columns = ", ".join(f'"{name}"' for name in rows[0])
    values = ", ".join(f"({', '.join(map(literal, row.values()))})" for row in rows)
    return f"INSERT INTO {shop.shape.spell(table)} ({columns}) VALUES {values}"


class Seen(NamedTuple):
    """What `verify` says: the ids that each failed check names, the runs, and the remark."""

    failed: dict[str, tuple[int, ...]]
    runs: dict[str, dict[str, tuple[int, ...]]]
    strays: tuple[int, ...]

    @classmethod
    def of(cls, checks: list[Check]) -> Seen:
        found = {it.name: it for it in checks}
        failed = {it.name: it.ids for it in checks[1:] if not it.passed}
        if found[MADE].runs:
            del failed[MADE]
        runs = {
            run.run_id: {
                **{kind: it.ids for kind, it in run.differences.items()},
                **dict.fromkeys(run.lines[len(run.differences) :], ()),
            }
            for run in found[MADE].runs
        }
        remark = found.get(STRAYS)
        return cls(failed, runs, remark.ids if remark else ())


def judge(filled: Filled, wrong: Wrong, seen: Seen, checks: Named, day: str | None) -> list[str]:
    """Return in what the answer is not as the table has it."""
    told = []

    def same(what: str, names: str, ids: tuple[int, ...]) -> None:
        wanted = tuple(sorted(filled.facts[name] for name in names.split() if name != "*"))
        if wanted != ids if names != "*" else not ids:
            told.append(f"{day or 'all'}: {what}: {ids} and not {names}")

    for name in checks.keys() | seen.failed.keys():
        if name not in seen.failed or name not in checks:
            told.append(f"{day or 'all'}: {name}: {seen.failed.get(name, 'passed')}")
        else:
            same(name, checks[name], seen.failed[name])
    names = {run_id: name for name, run_id in filled.runs.items()}
    differing = {names[run_id]: found for run_id, found in seen.runs.items()}
    if differing.keys() != wrong.runs.keys():
        told.append(f"{day or 'all'}: runs {differing}")
    for name in differing.keys() & wrong.runs.keys():
        for kind in KINDS:
            same(f"{name}: {kind}", wrong.runs[name].get(kind, ""), differing[name].get(kind, ()))
        told += [
            f"{day or 'all'}: no {figure} in {differing[name]}"
            for figure in wrong.runs[name].keys() - KINDS.keys()
            if not any(figure in it for it in differing[name])
        ]
    return told


def check(connection: Connection, filled: Filled, wrong: Wrong) -> list[str]:
    """Verify all sales and those of the days, and return what is not as the table has it."""
    seen = Seen.of(verify_all(connection))
    told = judge(filled, wrong, seen, {**wrong.both, **wrong.everywhere}, None)
    if wrong.strays != "*":
        names = ["factory", *wrong.strays.split()]
        strays = tuple(sorted(filled.facts[name] for name in names))
        if seen.strays != strays:
            told.append(f"all: remark on {seen.strays} and not on {wrong.strays}")
    for day in wrong.on.split():
        seen = Seen.of(verify_day(connection, filled.days[day]))
        told += judge(filled, wrong, seen, {**wrong.both, **wrong.daily}, day)
    for day, checks in wrong.others.items():
        seen = Seen.of(verify_day(connection, filled.days[day]))
        told += judge(filled, Wrong(""), seen, checks, day)
    return told


@on_each_shape
def test_each_mutation_fails_the_checks_that_it_should(shop: ChinookDatabase) -> None:
    filled = fill(shop)
    kind = "sqlite" if shop.server is None else "postgresql"
    wrong = {name: it for name, it in WRONG.items() if it.only in ("", kind)}
    wrong |= {name: Wrong(sql, strays="*") for name, sql in NOT_CAUGHT.items()}
    assert len(wrong) == len(WRONG) + len(NOT_CAUGHT) - sum(
        it.only not in ("", kind) for it in WRONG.values()
    )
    told: dict[str, list[str]] = {}
    with shop.engine.connect() as connection:
        everything = Wrong("", on=" ".join(filled.days))
        if kind == "sqlite":
            everything = Wrong("", on=everything.on.replace("function ", ""))
        assert check(connection, filled, everything) == []
        connection.rollback()
        for name, it in wrong.items():
            for statement in shop.sql(it.sql).split(";"):
                connection.exec_driver_sql(statement.format(**filled.facts))
            told[name] = check(connection, filled, it)
            connection.rollback()
        assert check(connection, filled, everything) == []
    if any(told.values()):
        pytest.fail("\n".join(f"{name}: {it}" for name, of in told.items() for it in of))
