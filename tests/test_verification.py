"""Every check of `verify` finds what it looks for, and only that."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pytest
from conftest import cases, parameters
from sqlalchemy.orm import Session

from chinook_sim import generate_d1
from chinook_sim.verification import verify_all, verify_day

if TYPE_CHECKING:
    from conftest import Shop

DAY = date(2026, 1, 31)

OF_DAY = "SELECT min([InvoiceId]) FROM [Invoice] WHERE [InvoiceDate] > '2026-01-01 00:00:00'"

SPOILED = {
    "totals equal the sum of their lines": (
        f"UPDATE [Invoice] SET [Total] = [Total] + 0.01 WHERE [InvoiceId] = ({OF_DAY})",
    ),
    "1 to 5 tracks an invoice": (
        f"DELETE FROM [InvoiceLine] WHERE [InvoiceId] = ({OF_DAY})",
        f"UPDATE [Invoice] SET [Total] = 0 WHERE [InvoiceId] = ({OF_DAY})",
    ),
    "no track twice in an invoice": (
        "UPDATE [InvoiceLine] SET [TrackId] = (SELECT min(l.[TrackId]) FROM [InvoiceLine] l WHERE "
        "l.[InvoiceId] = [InvoiceLine].[InvoiceId]) WHERE [InvoiceId] IN (SELECT [InvoiceId] "
        "FROM [InvoiceLine] WHERE [InvoiceId] > 30 GROUP BY [InvoiceId] HAVING count(*) > 3)",
    ),
    "unit prices as they were valid": (
        "UPDATE [Track] SET [UnitPrice] = [UnitPrice] + 1",
    ),
    "one of each track": (
        f"UPDATE [InvoiceLine] SET [Quantity] = 2 WHERE [InvoiceId] = ({OF_DAY})",
    ),
    "moments in the day, to the second": (
        f"UPDATE [Invoice] SET [InvoiceDate] = '2026-01-31 10:00:00.5' "
        f"WHERE [InvoiceId] = ({OF_DAY})",
    ),
    "spread over the hours": (
        "UPDATE [Invoice] SET [InvoiceDate] = '2026-01-31 10:00:00' "
        "WHERE [InvoiceDate] > '2026-01-31 06:00:00'",
    ),
    "every invoice has its customer": (
        "UPDATE [Invoice] SET [CustomerId] = 999 WHERE [InvoiceId] > 30",
    ),
    "every line has its track": (
        "UPDATE [InvoiceLine] SET [TrackId] = 99999 WHERE [InvoiceLineId] IN "
        "(SELECT max([InvoiceLineId]) FROM [InvoiceLine])",
    ),
    "every line has its invoice": (
        "INSERT INTO [InvoiceLine] ([InvoiceLineId], [InvoiceId], [TrackId], [UnitPrice], "
        "[Quantity]) OVERRIDING SYSTEM VALUE VALUES (99999, 99999, 3, 0.99, 1)",
    ),
}  # fmt: skip

ALSO = {
    # A track that is sold twice, or has another price, may change what an invoice comes to.
    "no track twice in an invoice": {"unit prices as they were valid"},
    "one of each track": {"totals equal the sum of their lines"},
    "1 to 5 tracks an invoice": {"totals equal the sum of their lines"},
}

# Each spelling and each dialect of SQL.
chosen = pytest.mark.parametrize(
    "shop",
    parameters(
        [
            case
            for case in cases()
            if case.shape.name in ("postgres-neon", "postgres-snake-identity", "sqlite-int")
            and case.major != 16
        ]
    ),
    indirect=True,
)


def without_keys(shop: Shop) -> None:
    """Take the foreign keys away, which would not let such a thing be."""
    if shop.server is None:
        return
    with shop.server.connect(shop.url.database or "") as connection:
        keys = connection.execute(
            "SELECT conrelid::regclass::text, quote_ident(conname) FROM pg_constraint "
            "WHERE contype = 'f'"
        ).fetchall()
        for table, key in keys:
            connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {key}")


@chosen
@pytest.mark.parametrize("name", SPOILED)
def test_each_check_fails_where_it_should(shop: Shop, name: str) -> None:
    with Session(shop.engine) as session, session.begin():
        generate_d1(session, 300, day=DAY, seed=7)
    without_keys(shop)
    statements = SPOILED[name]
    if shop.server is None:
        statements = tuple(part.replace("OVERRIDING SYSTEM VALUE ", "") for part in statements)
    with shop.engine.connect() as connection:
        assert all(check.passed for check in verify_day(connection, DAY, expect=300))
        assert all(check.passed for check in verify_all(connection, expect=330))
    shop.execute(*statements)
    with shop.engine.connect() as connection:
        failed = {check.name for check in verify_day(connection, DAY) if not check.passed}
        everywhere = {check.name for check in verify_all(connection) if not check.passed}
    assert name in failed
    assert failed - {name} <= ALSO.get(name, set())
    in_both = {"totals", "no track", "every"}
    if any(name.startswith(start) for start in in_both):
        assert name in everywhere


@chosen
def test_a_day_without_sales_fails_unless_none_are_expected(shop: Shop) -> None:
    with shop.engine.connect() as connection:
        assert not verify_day(connection, DAY)[0].passed
        assert verify_day(connection, DAY, expect=0)[0].passed
        assert not verify_day(connection, DAY, expect=1)[0].passed
