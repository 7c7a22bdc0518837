"""Ids come from sequences that are brought in step with their tables."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pytest
from sqlalchemy.orm import Session

from chinook_sim import SaleFactory
from support.cases import cases, on_each_postgresql_shape, on_variants
from support.runs import make

if TYPE_CHECKING:
    from support.databases import ChinookDatabase

DAY = date(2026, 1, 31)


@pytest.mark.parametrize("distance", [5, 1_500_000])
@on_variants(
    [
        case
        for case in (*cases(), *cases(migrated=True))
        if case.major and (case.shape.ids or case.migrated)
    ]
)
def test_a_sequence_behind_its_table_is_moved_forward(shop: ChinookDatabase, distance: int) -> None:
    always = "OVERRIDING SYSTEM VALUE" if "ALWAYS" in shop.shape.ids else ""
    shop.execute(
        "INSERT INTO [Invoice] ([InvoiceId], [CustomerId], [InvoiceDate], [Total]) "
        f"{always} VALUES ({30 + distance}, 5, '2020-01-01', 0.99)",
        "INSERT INTO [InvoiceLine] ([InvoiceLineId], [InvoiceId], [TrackId], [UnitPrice], "
        f"[Quantity]) {always} SELECT max([InvoiceLineId]) + {distance}, {30 + distance}, 3, 0.99, "
        "1 FROM [InvoiceLine]",
    )
    assert make(shop, 10).invoice_ids[0] == 31 + distance
    with Session(shop.engine) as session, session.begin():
        assert SaleFactory(session).create(DAY).invoice_id == 41 + distance
    shop.execute(
        "INSERT INTO [Invoice] ([InvoiceId], [CustomerId], [InvoiceDate], [Total]) "
        f"{always} VALUES ({42 + distance}, 5, '2020-01-01', 0.99)"
    )
    with Session(shop.engine) as session, session.begin():
        assert SaleFactory(session).create(DAY).invoice_id == 43 + distance
    if shop.shape.ids:
        assert shop.insert_by_default() == 44 + distance


@on_each_postgresql_shape
def test_a_sequence_that_was_restarted_is_moved_forward(shop: ChinookDatabase) -> None:
    source = "invoice_id_seq" if not shop.shape.gives_ids else "invoice_invoice_id_seq"
    shop.execute(f"ALTER SEQUENCE {source} RESTART")
    assert make(shop, 3).invoice_ids[0] == 31
    shop.execute(f"ALTER SEQUENCE {source} RESTART WITH 500")
    assert make(shop, 3).invoice_ids[0] in (500, 501)
