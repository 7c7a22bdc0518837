"""The behaviour of a batch, on every shape of Chinook."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, inspect, select
from sqlalchemy.orm import Session

from chinook_sim import (
    Base,
    Customer,
    Invoice,
    InvoiceLine,
    SaleFactory,
    Track,
    generate_d1,
    recognise,
)
from chinook_sim.verification import verify_all, verify_day
from support.cases import DRIVERS, cases, on_each_shape
from support.chinook_variants import CUSTOMERS, TRACKS
from support.runs import generate

if TYPE_CHECKING:
    from pathlib import Path

    from chinook_sim import BatchSummary
    from support.databases import ChinookDatabase, DatabaseTemplates

DAY = date(2026, 1, 31)


def sales(shop: ChinookDatabase) -> list[tuple[object, ...]]:
    """Return all sales of the day, with their tracks."""
    return shop.rows(
        "SELECT i.[InvoiceId], i.[CustomerId], i.[InvoiceDate], i.[Total], l.[TrackId], "
        "l.[UnitPrice], l.[Quantity] FROM [Invoice] i JOIN [InvoiceLine] l "
        "ON l.[InvoiceId] = i.[InvoiceId] WHERE i.[InvoiceDate] >= '2026-01-31 00:00:00' "
        "AND i.[InvoiceDate] < '2026-02-01 00:00:00' ORDER BY l.[InvoiceLineId]"
    )


def test_a_batch_is_there_and_right(shop: ChinookDatabase, driver: str) -> None:
    before = shop.snapshot()
    batch = generate(shop, 200, driver=driver)
    assert batch.count == 200
    assert shop.value("SELECT count(*) FROM [Invoice]") == 30 + 200
    found = sales(shop)
    assert len(found) == batch.lines
    assert list(dict.fromkeys(row[0] for row in found)) == list(batch.invoice_ids)
    assert {row[1] for row in found} <= set(CUSTOMERS)
    assert {row[4] for row in found} <= set(TRACKS)
    assert {row[6] for row in found} == {1}
    assert len({(row[0], row[4]) for row in found}) == len(found)
    with shop.engine.connect() as connection:
        checks = verify_day(connection, DAY, expect=200) + verify_all(connection)
    assert [check for check in checks if not check.passed] == []
    differ = shop.value(
        "SELECT count(*) FROM [Invoice] i JOIN [Customer] c ON c.[CustomerId] = i.[CustomerId] "
        "WHERE NOT (coalesce(i.[BillingAddress], '-') = coalesce(c.[Address], '-') "
        "AND coalesce(i.[BillingCity], '-') = coalesce(c.[City], '-') "
        "AND coalesce(i.[BillingState], '-') = coalesce(c.[State], '-') "
        "AND coalesce(i.[BillingCountry], '-') = coalesce(c.[Country], '-') "
        "AND coalesce(i.[BillingPostalCode], '-') = coalesce(c.[PostalCode], '-'))"
    )
    assert differ == 0, "an invoice has another address than its customer"
    # Rows that were there are untouched.
    after = shop.snapshot()
    for table, rows in before.items():
        assert after[table][: len(rows)] == rows
        if table not in ("Invoice", "InvoiceLine"):
            assert after[table] == rows
    # A plain insert works afterwards.
    if shop.shape.gives_ids:
        assert shop.insert_by_default() not in batch.invoice_ids
        assert generate(shop, 5, driver=driver).count == 5


def test_every_way_of_writing_leaves_the_same_rows(shop: ChinookDatabase) -> None:
    drivers = DRIVERS[shop.shape.postgresql]
    left = []
    for driver in drivers:
        engine = shop.engine_for(driver)
        with Session(engine) as session, session.begin():
            batch = generate_d1(session, 30, day=DAY, seed=7)
        found = shop.rows(
            "SELECT [CustomerId], [InvoiceDate], [BillingAddress], [BillingCity], [BillingState], "
            f"[BillingCountry], [BillingPostalCode], [Total] FROM [Invoice] "
            f"WHERE [InvoiceId] >= {batch.invoice_ids[0]} ORDER BY [InvoiceId]"
        )
        left.append((found, batch.digest, batch.revenue))
    assert left.count(left[0]) == len(drivers)


def describe(invoice: Invoice) -> tuple[object, ...]:
    tracks = [line.track_id for line in invoice.lines]
    return invoice.customer_id, invoice.invoice_date, invoice.total, invoice.billing_city, tracks


@on_each_shape
def test_one_by_one_and_in_bulk_make_the_same_sales(shop: ChinookDatabase) -> None:
    with Session(shop.engine) as session, session.begin():
        factory = SaleFactory(session, seed=7)
        one_by_one = [factory.create(DAY) for _ in range(8)]
        told = [describe(invoice) for invoice in one_by_one]
        bulk = SaleFactory(session, seed=7).create_batch(8, DAY)
        written = session.scalars(
            select(Invoice)
            .where(Invoice.invoice_id.in_(list(bulk.invoice_ids)))
            .order_by(Invoice.invoice_id)
        )
        assert told == [describe(invoice) for invoice in written]


@on_each_shape
def test_a_factory_goes_on_where_it_was(shop: ChinookDatabase) -> None:
    with Session(shop.engine) as session, session.begin():
        factory = SaleFactory(session, seed=7)
        factory.build(datetime(2026, 1, 31, 12))  # noqa: DTZ001
        rest = factory.create_batch(4, DAY)
        whole = SaleFactory(session, seed=7).create_batch(5, DAY)

        def customers(batch: BatchSummary) -> list[int]:
            chosen = select(Invoice.customer_id).where(
                Invoice.invoice_id.in_(list(batch.invoice_ids))
            )
            return list(session.scalars(chosen.order_by(Invoice.invoice_id)))

        assert customers(rest) == customers(whole)[1:]


def test_a_built_sale_is_transient_and_a_created_one_is_kept(shop: ChinookDatabase) -> None:
    at = datetime(2026, 1, 31, 23, 59, 59, 999_999)  # noqa: DTZ001
    with Session(shop.engine) as session, session.begin():
        factory = SaleFactory(session, seed=1)
        built = factory.build(at)
        assert inspect(built).transient
        assert built.total == sum(line.unit_price for line in built.lines)
        created = factory.create(at)
        number = created.invoice_id
        assert created.customer.customer_id == created.customer_id
        assert created.lines[0].track.unit_price == created.lines[0].unit_price
    stored = shop.rows(f"SELECT [InvoiceDate] FROM [Invoice] WHERE [InvoiceId] = {number}")
    # Of a column with a time zone, which is UTC in the tests, too.
    assert str(stored[0][0]).removesuffix("+00:00") == "2026-01-31 23:59:59"
    if shop.shape.gives_ids:
        assert shop.insert_by_default() > number


@on_each_shape
def test_classes_query_any_spelling(shop: ChinookDatabase) -> None:
    with Session(shop.engine) as session:
        recognise(session)
        dear = (
            select(Invoice)
            .join(Invoice.customer)
            .where(Customer.country == "Germany", Invoice.lines.any(InvoiceLine.unit_price > 1))
            .order_by(Invoice.invoice_id)
        )
        invoice = session.scalars(dear).first()
        assert invoice is not None
        assert invoice.customer.support_rep is not None
        assert [line.track.media_type.name for line in invoice.lines]
        totals = select(Invoice.customer_id, func.sum(Invoice.total).label("spent"))
        spent = totals.group_by(Invoice.customer_id).subquery()
        assert session.scalar(select(func.max(spent.c.spent))) == Decimal(
            str(shop.value("SELECT max(s) FROM (SELECT sum([Total]) s FROM [Invoice] "
                           "GROUP BY [CustomerId]) t"))
        ).quantize(Decimal("0.01"))  # fmt: skip
        assert session.get_one(Track, TRACKS[0]).playlists


@on_each_shape
def test_names_of_other_tables_are_left_alone(shop: ChinookDatabase) -> None:
    shop.execute(
        'CREATE TABLE "Own" ("Name" VARCHAR(10), "InvoiceId" INTEGER)',
        "INSERT INTO \"Own\" VALUES ('mine', 1)",
    )
    from sqlalchemy import Column, Integer, MetaData, String, Table

    own = Table("Own", MetaData(), Column("Name", String), Column("InvoiceId", Integer))
    with Session(shop.engine) as session:
        recognise(session)
        joined = select(own.c.Name, Invoice.total).join(
            Invoice, Invoice.invoice_id == own.c.InvoiceId
        )
        assert session.execute(joined).one()[0] == "mine"
        inner = select(own.c.Name, Invoice.invoice_id).join(
            Invoice, Invoice.invoice_id == own.c.InvoiceId
        )
        assert session.execute(select(inner.subquery())).one() == ("mine", 1)


@on_each_shape
def test_a_session_in_the_middle_of_its_work_is_welcome(shop: ChinookDatabase) -> None:
    with Session(shop.engine) as session, session.begin():
        recognise(session)
        customer = session.scalars(select(Customer).limit(1)).one()
        customer.last_name = "Changed"
        batch = generate_d1(session, 5, day=DAY)
        assert session.scalar(select(func.count()).select_from(Invoice)) == 35
    assert shop.value("SELECT count(*) FROM [Customer] WHERE [LastName] = 'Changed'") == 1
    assert shop.value("SELECT count(*) FROM [Invoice]") == 30 + batch.count


@on_each_shape
def test_d1_is_the_databases_yesterday(shop: ChinookDatabase) -> None:
    with Session(shop.engine) as session:
        batch = generate_d1(session, 40)
        session.commit()
    day = "CURRENT_DATE - 1" if shop.shape.postgresql else "date('now', '-1 day')"
    found = shop.value(
        f"SELECT count(*) FROM [Invoice] WHERE [InvoiceDate] >= {day} "
        f"AND [InvoiceDate] < {day.replace('- 1', '').replace(', ' + repr('-1 day'), '')}"
    )
    assert found == 40
    assert str(shop.value(f"SELECT {day}")) == str(batch.day)


@on_each_shape
def test_no_sales_is_a_batch_too(shop: ChinookDatabase) -> None:
    before = shop.snapshot()
    batch = generate(shop, 0)
    assert (batch.count, batch.lines, batch.revenue) == (0, 0, Decimal(0))
    assert not batch.invoice_ids
    assert shop.snapshot() == before


@on_each_shape
def test_a_shop_with_few_tracks_sells_what_it_has(shop: ChinookDatabase) -> None:
    kept = ", ".join(map(str, TRACKS[:2]))
    shop.execute(
        "DELETE FROM [InvoiceLine]",
        "DELETE FROM [PlaylistTrack]",
        f"DELETE FROM [Track] WHERE [TrackId] NOT IN ({kept})",
    )
    generate(shop, 60)
    sizes = shop.rows("SELECT DISTINCT count(*) FROM [InvoiceLine] GROUP BY [InvoiceId] ORDER BY 1")
    assert sizes == [(1,), (2,)]


@on_each_shape
def test_the_same_seed_makes_the_same_batch_again(shop: ChinookDatabase) -> None:
    one, other = generate(shop, 25), generate(shop, 25)
    assert one.digest == other.digest
    assert one.invoice_ids != other.invoice_ids
    assert generate(shop, 25, seed=8).digest != one.digest


@on_each_shape
def test_without_a_seed_one_is_drawn_and_reported(shop: ChinookDatabase) -> None:
    with Session(shop.engine) as session:
        drawn = generate_d1(session, 10, day=DAY)
        again = generate_d1(session, 10, day=DAY, seed=drawn.seed)
        other = generate_d1(session, 10, day=DAY)
    assert again.digest == drawn.digest
    assert other.seed != drawn.seed


@on_each_shape
def test_days_before_and_after_are_left_alone(shop: ChinookDatabase) -> None:
    generate(shop, 300)
    start, end = DAY, DAY + timedelta(days=1)
    moments = shop.rows("SELECT min([InvoiceDate]), max([InvoiceDate]) FROM [Invoice] WHERE "
                        "[InvoiceDate] > '2026-01-01 00:00:00'")  # fmt: skip
    first, last = (str(moment) for moment in moments[0])
    assert str(start) <= first < last < str(end)


@pytest.mark.parametrize("bound", [Base, Invoice, Invoice.__table__], ids=str)
def test_a_session_may_keep_the_shop_by_class_or_by_table(
    bound: Any, templates: DatabaseTemplates, tmp_path: Path
) -> None:
    shop = templates.copy(next(case for case in cases() if case.major is None), tmp_path)
    with Session(binds={bound: shop.engine}) as session, session.begin():
        generate_d1(session, 3)
    assert shop.value("SELECT count(*) FROM [Invoice]") == 33
