"""Calls of the SQL functions, and what the tests of them read and prepare."""

from __future__ import annotations

import re
from itertools import product
from math import sqrt
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from chinook_sim.verification import verify_all, verify_day
from support.chinook_variants import CUSTOMERS, TRACKS
from support.postgres_server import WORKER

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date
    from decimal import Decimal

    from support.databases import ChinookDatabase

CALLS = {
    "simulate_new_sale": "SELECT simulate_new_sale('2026-01-31 12:00:00')",
    "simulate_update_sale": "SELECT simulate_update_sale('2026-01-31 12:00:00')",
    "simulate_delete_sale": "SELECT simulate_delete_sale('2026-01-31 12:00:00')",
    "simulate_sales": "SELECT simulate_sales('2026-01-31', 7)",
}


def connect(shop: ChinookDatabase) -> psycopg.Connection[Any]:
    assert shop.server is not None
    return shop.server.connect(shop.url.database or "")


def sell(shop: ChinookDatabase, count: int, step: str = "1 second") -> list[tuple[int, Decimal]]:
    """Call simulate_new_sale again and again, each for a step after the last."""
    return shop.rows(
        f"SELECT s.* FROM generate_series(1, {count}) n, LATERAL "
        f"simulate_new_sale(timestamp '2026-01-31' + n * interval '{step}') s"
    )


def state(shop: ChinookDatabase) -> dict[str, list[tuple[str]]]:
    """Return what sales can change, through one connection: a test may ask often."""
    spell = shop.shape.spell
    reads = {table: f"t::text FROM {spell(table)} t" for table in ("Invoice", "InvoiceLine")}
    reads["run"] = "t::text FROM chinook_sim_run t"
    reads |= {
        key: f"last_value::text FROM {sequence(shop, key)}"
        for key in ("invoice_id", "invoice_line_id")
    }
    with connect(shop) as connection:
        return {
            name: connection.execute(f"SELECT {read} ORDER BY 1").fetchall()
            for name, read in reads.items()
        }


def sequence(shop: ChinookDatabase, key: str) -> str:
    table = key.removesuffix("_id")
    return f"public.{table}_{key}_seq" if shop.shape.ids else f"public.{key}_seq"


def last_ids(shop: ChinookDatabase) -> tuple[int, ...]:
    """Return the highest ids of invoices and lines."""
    ((invoice, line),) = shop.rows(
        "SELECT (SELECT max([InvoiceId]) FROM [Invoice]), max([InvoiceLineId]) FROM [InvoiceLine]"
    )
    return invoice, line


def keep_tracks(shop: ChinookDatabase, count: int) -> None:
    shop.execute(
        *(f"DELETE FROM [{table}]" for table in ("PlaylistTrack", "InvoiceLine", "Invoice")),
        f"DELETE FROM [Track] WHERE [TrackId] > {[*TRACKS, 0][count - 1]}",
    )


def widen_the_gaps(shop: ChinookDatabase) -> tuple[list[int], list[int]]:
    """Add a customer and tracks far from all others; return the ids of all."""
    shop.execute(
        "INSERT INTO [Customer] ([CustomerId], [FirstName], [LastName], [Email]) "
        f"{overriding(shop)} VALUES (1000000, 'Far', 'Away', 'f@example.com')",
        "INSERT INTO [Track] ([TrackId], [Name], [MediaTypeId], [Milliseconds], [UnitPrice]) "
        f"{overriding(shop)} SELECT 1000000 + 7 * n, 'Far', 1, 1, 0.49 "
        "FROM generate_series(1, 3) n",
    )
    return [*CUSTOMERS, 1_000_000], [*TRACKS, *(1_000_000 + 7 * n for n in (1, 2, 3))]


def overriding(shop: ChinookDatabase) -> str:
    return "OVERRIDING SYSTEM VALUE" if "ALWAYS" in shop.shape.ids else ""


def fall_behind(shop: ChinookDatabase, by: int) -> None:
    """Insert an invoice with a line with ids of one's own, as an import would."""
    shop.execute(
        "INSERT INTO [Invoice] ([InvoiceId], [CustomerId], [InvoiceDate], [Total]) "
        f"{overriding(shop)} SELECT max([InvoiceId]) + {by}, 5, '2001-01-01', 0.99 FROM [Invoice]",
        "INSERT INTO [InvoiceLine] ([InvoiceLineId], [InvoiceId], [TrackId], [UnitPrice], "
        f"[Quantity]) {overriding(shop)} SELECT max([InvoiceLineId]) + {by}, "
        "(SELECT max([InvoiceId]) FROM [Invoice]), 3, 0.99, 1 FROM [InvoiceLine]",
    )


def sales_of(shop: ChinookDatabase, size: int, count: int, start: int) -> None:
    """Add sales of 2030 with the first `size` tracks each, far apart, and one after another."""
    shop.execute(
        "INSERT INTO [Invoice] ([InvoiceId], [CustomerId], [InvoiceDate], [Total]) "
        f"{overriding(shop)} SELECT {start} + n * 500, 5, '2030-01-01', 0 "
        f"FROM generate_series(1, {count}) n",
        "INSERT INTO [InvoiceLine] ([InvoiceLineId], [InvoiceId], [TrackId], [UnitPrice], "
        f"[Quantity]) {overriding(shop)} SELECT {start} + n * 50 + k, {start} + n * 500, 3 * k, "
        f"0.99, 1 FROM generate_series(1, {count}) n, generate_series(1, {size}) k",
    )


def failures(shop: ChinookDatabase, day: date | None = None, *, changed: bool = False) -> list[str]:
    """Return the checks that fail; that sales of runs were changed, if they were, is none."""
    with shop.engine.connect() as connection:
        checks = verify_day(connection, day) if day else verify_all(connection)
    return [
        f"{check.name}: {check.figure}"
        for check in checks
        if not check.passed and not (changed and check.runs)
    ]


def without_their_customers_address(shop: ChinookDatabase) -> int:
    return int(
        shop.value(
            "SELECT count(*) FROM [Invoice] i LEFT JOIN [Customer] c USING ([CustomerId]) WHERE "
            "(c.[CustomerId], i.[BillingAddress], i.[BillingCity], i.[BillingState], "
            "i.[BillingCountry], i.[BillingPostalCode]) IS DISTINCT FROM (i.[CustomerId], "
            "c.[Address], c.[City], c.[State], c.[Country], c.[PostalCode])"
        )
    )


def assert_uniform(seen: Iterable[Any], cells: Iterable[Any]) -> None:
    """Compare with a chi-square that a uniform sample exceeds once in a million times."""
    counts = dict.fromkeys(cells, 0)
    for cell in seen:
        counts[cell] += 1
    expected = sum(counts.values()) / len(counts)
    assert expected > 10, "too few to judge"
    found = sum((count - expected) ** 2 / expected for count in counts.values())
    # Wilson and Hilferty: the cube root of chi-square / freedom is nearly normal.
    freedom = len(counts) - 1
    spread = 2 / (9 * freedom)
    assert found < freedom * (1 - spread + 4.7534 * sqrt(spread)) ** 3, counts


def assert_drawn_uniformly(shop: ChinookDatabase, customers: list[int], tracks: list[int]) -> None:
    """Look at customers and sizes together, and at the tracks of each size of basket."""
    found = shop.rows(
        "SELECT i.[CustomerId], array_agg(l.[TrackId]) FROM [Invoice] i "
        "JOIN [InvoiceLine] l USING ([InvoiceId]) WHERE i.[InvoiceDate] >= '2026-01-31' "
        "GROUP BY i.[InvoiceId]"
    )
    assert_uniform((customer for customer, _ in found), customers)
    pairs = product(customers, range(1, 6))
    assert_uniform(((customer, len(basket)) for customer, basket in found), pairs)
    # Drawn without putting back, counts vary less than the limit allows for.
    for size in range(3, 6):
        baskets = [basket for _, basket in found if len(basket) == size]
        assert_uniform((track for basket in baskets for track in basket), tracks)
    assert_uniform((track for _, basket in found for track in basket), tracks)


def refused(shop: ChinookDatabase, calls: Iterable[str], message: str) -> None:
    before = state(shop)
    with connect(shop) as connection:
        for call in calls:
            with pytest.raises(psycopg.Error, match=message):
                connection.execute(f"SELECT {call}")
    assert state(shop) == before


BOTH = ("SELECT ON {line}", "INSERT ON {line}", "USAGE ON SEQUENCE {line_sequence}")
SALE = (
    *("SELECT ON {customer}", "SELECT ON {track}", "SELECT ON {invoice}", "INSERT ON {invoice}"),
    *("USAGE ON SEQUENCE {invoice_sequence}", *BOTH),
)
CHANGE = ("SELECT ON {invoice}", "UPDATE ON {invoice}")
RIGHTS = {
    "simulate_new_sale": SALE,
    "simulate_update_sale": (*CHANGE, "SELECT ON {track}", *BOTH),
    "simulate_delete_sale": (
        *CHANGE,
        "DELETE ON {invoice}",
        "SELECT ON {line}",
        "DELETE ON {line}",
    ),
    "simulate_sales": (*SALE, "SELECT ON {run}", "INSERT ON {run}", "INSERT ON {run_invoices}"),
}


POOR_ROLE = f'"a poor role of {WORKER}"'
"""A role with few privileges, which a test creates and rolls back."""


def rights(shop: ChinookDatabase, name: str) -> list[str]:
    tables = {"customer": "Customer", "track": "Track", "invoice": "Invoice", "line": "InvoiceLine"}
    names = {key: f"public.{shop.shape.spell(table)}" for key, table in tables.items()}
    names["invoice_sequence"] = sequence(shop, "invoice_id")
    names["line_sequence"] = sequence(shop, "invoice_line_id")
    names["run"] = "public.chinook_sim_run"
    names["run_invoices"] = "public.chinook_sim_run_invoices"
    return [right.format(**names) for right in RIGHTS[name]]


def refusal(connection: psycopg.Connection[Any], call: str) -> str:
    """Call as the poor role, and return what the message says to do."""
    connection.execute(f"SET LOCAL ROLE {POOR_ROLE}")
    with pytest.raises(psycopg.errors.InsufficientPrivilege) as caught, connection.transaction():
        connection.execute(call)
    connection.execute("RESET ROLE")
    found = re.search(r"GRANT .*", str(caught.value))
    assert found, caught.value
    return found[0]
