"""What fails leaves nothing, on every shape of Chinook."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from sqlalchemy.exc import PendingRollbackError
from sqlalchemy.orm import Session

from chinook_sim import (
    BatchFailed,
    CatalogueUnusable,
    NotAChinook,
    SaleFactory,
    generate_d1,
)
from support.cases import ALL, on_each_shape, on_variants
from support.chinook_variants import TRACKS
from support.runs import generate

if TYPE_CHECKING:
    from support.databases import ChinookDatabase

DAY = date(2026, 1, 31)


def take_no_more_lines(shop: ChinookDatabase, *, after: int) -> None:
    """Let the database refuse new lines; SQLite's only beyond an id."""
    if shop.shape.postgresql:
        limit = "CHECK ([Quantity] = 0) NOT VALID"
        shop.execute(f"ALTER TABLE [InvoiceLine] ADD CONSTRAINT no_more {limit}")
    else:
        shop.execute(
            "CREATE TRIGGER no_more AFTER INSERT ON [InvoiceLine] "
            f"WHEN new.[InvoiceLineId] > {after} BEGIN SELECT raise(ABORT, 'no more'); END"
        )


def test_a_failing_row_rolls_the_batch_back(shop: ChinookDatabase, driver: str) -> None:
    before = shop.snapshot()
    take_no_more_lines(shop, after=200)
    with Session(shop.engine_for(driver)) as session:
        session.execute(text(shop.sql("UPDATE [Artist] SET [Name] = 'kept' WHERE [ArtistId] = 1")))
        with pytest.raises(BatchFailed, match=r"nothing was written.*no.more"):
            generate_d1(session, 200, day=DAY, seed=7)
        # The caller goes on as if nothing had been.
        assert session.scalar(text("SELECT 1")) == 1
        session.commit()
    after = shop.snapshot()
    assert after.pop("Artist")[0][1] == "kept"
    before.pop("Artist")
    assert after == before


def test_a_failing_sale_takes_the_sessions_transaction_with_it(shop: ChinookDatabase) -> None:
    with Session(shop.engine) as session:
        factory = SaleFactory(session)
        factory.create(DAY)
        session.commit()
        before = shop.snapshot()
        take_no_more_lines(shop, after=0)
        session.execute(text(shop.sql("UPDATE [Artist] SET [Name] = 'lost' WHERE [ArtistId] = 1")))
        with pytest.raises(BatchFailed, match=r"nothing was written.*no.more"):
            factory.create(DAY)
        with pytest.raises(BatchFailed, match="roll it back first"):
            factory.create(DAY)
        with pytest.raises(PendingRollbackError):
            session.commit()
        session.rollback()
        assert shop.snapshot() == before


@on_variants([case for case in ALL if not case.shape.postgresql])
def test_no_sale_is_kept_by_half_where_every_statement_commits(shop: ChinookDatabase) -> None:
    before = shop.snapshot()
    with Session(shop.engine.execution_options(isolation_level="AUTOCOMMIT")) as session:
        factory = SaleFactory(session)
        factory.create(DAY)
        session.rollback()
        assert shop.snapshot() == before
        take_no_more_lines(shop, after=0)
        for _ in range(3):
            with pytest.raises(BatchFailed):
                factory.create(DAY)
            session.rollback()
    assert shop.snapshot() == before


def test_a_failing_sale_under_a_savepoint_takes_no_more_than_itself(shop: ChinookDatabase) -> None:
    before = shop.snapshot()
    take_no_more_lines(shop, after=0)
    with Session(shop.engine) as session, session.begin():
        session.execute(text(shop.sql("UPDATE [Artist] SET [Name] = 'kept' WHERE [ArtistId] = 1")))
        with pytest.raises(BatchFailed), session.begin_nested():
            SaleFactory(session).create(DAY)
    after = shop.snapshot()
    assert after.pop("Artist")[0][1] == "kept"
    before.pop("Artist")
    assert after == before


def test_the_callers_rollback_takes_the_batch_back(shop: ChinookDatabase, driver: str) -> None:
    before = shop.snapshot()
    with Session(shop.engine_for(driver)) as session:
        generate_d1(session, 20, day=DAY)
        SaleFactory(session).create(DAY)
        session.rollback()
    assert shop.snapshot() == before


@on_each_shape
def test_an_empty_table_is_named(shop: ChinookDatabase) -> None:
    shop.execute(*(f"DELETE FROM [{name}]" for name in ("InvoiceLine", "Invoice")))
    for table, others in (("Track", ["PlaylistTrack"]), ("Customer", [])):
        shop.execute(*(f"DELETE FROM [{name}]" for name in (*others, table)))
        with pytest.raises(CatalogueUnusable, match=rf"(?i){table}.* is empty"):
            generate(shop, 10)
    assert shop.value("SELECT count(*) FROM [Invoice]") == 0


@on_each_shape
def test_a_price_that_no_sale_can_be_made_of_is_named(shop: ChinookDatabase) -> None:
    if shop.shape.postgresql:
        shop.execute("ALTER TABLE [Track] ALTER COLUMN [UnitPrice] DROP NOT NULL")
    else:
        shop.execute(
            "PRAGMA writable_schema = ON",
            "UPDATE sqlite_master SET sql = replace(sql, '\"UnitPrice\" NUMERIC(10,2) NOT NULL', "
            "'\"UnitPrice\" NUMERIC(10,2)') WHERE name = 'Track'",
        )
    before = shop.snapshot()
    for price in ("NULL", "-0.99", *([] if shop.shape.postgresql else ["0.995", "'dear'"])):
        shop.execute(f"UPDATE [Track] SET [UnitPrice] = {price} WHERE [TrackId] = {TRACKS[3]}")
        wanted = rf"= {TRACKS[3]} is not an amount in whole cents"
        with pytest.raises(CatalogueUnusable, match=wanted):
            generate(shop, 10)
    for table in ("Invoice", "InvoiceLine"):
        assert shop.snapshot()[table] == before[table]


@on_each_shape
def test_a_database_without_a_table_is_no_chinook(shop: ChinookDatabase) -> None:
    shop.execute("DROP TABLE [InvoiceLine]")
    with pytest.raises(NotAChinook, match=r"(?i)invoice_?line") as caught:
        generate(shop, 10)
    assert len(caught.value.missing) == 1


def test_a_full_id_range_is_refused_before_any_id_is_taken(shop: ChinookDatabase) -> None:
    narrow = shop.shape.postgresql and shop.shape.integer != "bigint"
    if shop.shape.ids not in ("", "PRIMARY KEY AUTOINCREMENT"):
        sequence = f"pg_get_serial_sequence('{shop.shape.spell('Invoice')}', 'invoice_id')"
        shop.execute(f"SELECT setval({sequence}, 2147483640)")
    else:
        top = (2**31 if narrow else 2**63) - 8
        shop.execute(
            "INSERT INTO [Invoice] SELECT " + str(top) + ", [CustomerId], [InvoiceDate], "
            "[BillingAddress], [BillingCity], [BillingState], [BillingCountry], "
            "[BillingPostalCode], [Total] FROM [Invoice] WHERE [InvoiceId] = 1"
        )
    with pytest.raises(BatchFailed, match="has 7 ids left and the batch needs 8") as caught:
        generate(shop, 8)
    assert ("BIGINT" in str(caught.value)) == narrow
    assert generate(shop, 7).count == 7


def test_ids_of_columns_that_were_widened_are_bound(shop: ChinookDatabase) -> None:
    if shop.shape.postgresql:
        shop.execute(
            "ALTER TABLE [Invoice] ALTER [InvoiceId] TYPE bigint",
            "ALTER TABLE [InvoiceLine] ALTER [InvoiceId] TYPE bigint",
            "DO $$ DECLARE s regclass; BEGIN FOR s IN SELECT seqrelid FROM pg_sequence LOOP "
            "EXECUTE format('ALTER SEQUENCE %s AS bigint', s); END LOOP; END $$",
        )
    top = 2**31 + 7
    overriding = "OVERRIDING SYSTEM VALUE" if shop.shape.postgresql else ""
    shop.execute(
        f"INSERT INTO [Invoice] {overriding} SELECT {top}, [CustomerId], [InvoiceDate], "
        "[BillingAddress], [BillingCity], [BillingState], [BillingCountry], "
        "[BillingPostalCode], [Total] FROM [Invoice] WHERE [InvoiceId] = 1"
    )
    with Session(shop.engine) as session, session.begin():
        sale = SaleFactory(session).create(DAY)
        session.add(sale)
        session.flush()
        assert sale.invoice_id > top
        session.expire(sale)
        assert sale.lines[0].invoice_id == sale.invoice_id
    made = generate(shop, 20)
    assert made.invoice_ids[0] > top
