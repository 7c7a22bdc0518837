"""Sales whose customer, tracks or number of tracks the caller of `SaleFactory` chooses."""

from __future__ import annotations

import itertools
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sqlalchemy import event, inspect, select, text
from sqlalchemy.orm import Session

from chinook_sim import Customer, Invoice, SaleFactory, Track, recognise, verify
from chinook_sim.errors import BatchFailed, CatalogueUnusable, InvalidInput
from support.cases import (
    alternating_versions,
    on_both_databases,
    on_each_shape,
    on_variants,
    one_of_each,
)
from support.chinook_variants import CUSTOMERS, TRACKS

if TYPE_CHECKING:
    from chinook_sim.models import Base
    from support.databases import ChinookDatabase

pytestmark = pytest.mark.one_database

DAY = date(2026, 1, 31)

NOON = datetime(2026, 1, 31, 12)  # noqa: DTZ001


def parts(invoice: Invoice) -> tuple[object, ...]:
    return (
        invoice.customer_id,
        invoice.invoice_date,
        invoice.billing_address,
        invoice.billing_country,
        invoice.total,
        [(line.track_id, line.unit_price, line.quantity) for line in invoice.lines],
    )


def new_customer(**more: Any) -> Customer:
    return Customer(
        customer_id=900,
        first_name="Ada",
        last_name="New",
        email="ada@example.com",
        country="Norway",
        city="Bergen",
        **more,
    )


def new_track(number: int = 900, price: str = "2.49") -> Track:
    return Track(
        track_id=number, name="New", media_type_id=1, milliseconds=1, unit_price=Decimal(price)
    )


def insert(session: Session, thing: Base) -> None:
    """Add an object where the database would give another id than the one it has."""
    recognise(session)
    if session.get_bind().dialect.name == "postgresql":
        table = type(thing).__table__
        columns = {
            prop.columns[0]: getattr(thing, prop.key)
            for prop in inspect(type(thing)).column_attrs
            if getattr(thing, prop.key) is not None
        }
        names = ", ".join(session.connection().dialect.identifier_preparer.format_column(it)
                          for it in columns)  # fmt: skip
        marks = ", ".join(f":p{place}" for place in range(len(columns)))
        name = session.connection().dialect.identifier_preparer.format_table(table)
        session.execute(
            text(f"INSERT INTO {name} ({names}) OVERRIDING SYSTEM VALUE VALUES ({marks})"),
            {f"p{place}": value for place, value in enumerate(columns.values())},
        )
    else:
        session.add(thing)
        session.flush()


@on_each_shape
def test_the_customer_and_the_tracks_can_be_chosen(shop: ChinookDatabase) -> None:
    with Session(shop.engine) as session, session.begin():
        recognise(session)
        customer = session.get_one(Customer, CUSTOMERS[3])
        tracks = [session.get_one(Track, number) for number in (TRACKS[9], TRACKS[2])]
        factory = SaleFactory(session, seed=7)
        by_object = factory.create(NOON, customer=customer, tracks=tracks)
        by_id = factory.create(NOON, customer=CUSTOMERS[3], tracks=(TRACKS[9], TRACKS[2]))
        assert parts(by_object) == parts(by_id)
        assert by_object.customer is customer
        assert [line.track for line in by_object.lines] == tracks
        assert by_object.total == sum(track.unit_price for track in tracks)
        assert (by_object.billing_address, by_object.billing_country) == (
            customer.address,
            customer.country,
        )
        result = verify(session.connection(), day=DAY, expect=2)
        assert result.ok, result.failed
        number = by_id.invoice_id
    assert shop.rows(
        f"SELECT [TrackId], [Quantity] FROM [InvoiceLine] WHERE [InvoiceId] = {number} "
        "ORDER BY [InvoiceLineId]"
    ) == [(TRACKS[9], 1), (TRACKS[2], 1)]


@on_each_shape
def test_what_is_not_chosen_is_drawn_as_always(shop: ChinookDatabase) -> None:
    with Session(shop.engine) as session:
        plain = SaleFactory(session, seed=7)
        drawn = [parts(plain.build(DAY)) for _ in range(8)]
        factory = SaleFactory(session, seed=7)
        made = [
            factory.create(DAY, customer=CUSTOMERS[0]),
            factory.create(DAY, tracks=[TRACKS[0]]),
            factory.create(DAY, lines=5),
            factory.create(DAY, lines=1),
            factory.build(DAY, customer=CUSTOMERS[1], lines=3),
            factory.create(DAY, customer=CUSTOMERS[1], tracks=[TRACKS[1]], lines=1),
            factory.build(DAY),
            factory.create(DAY),
        ]
        found = [parts(invoice) for invoice in made]
        assert found[0][1] == drawn[0][1]
        assert (found[0][0], found[0][4:]) == (CUSTOMERS[0], drawn[0][4:])
        assert (found[1][:4], [line[0] for line in found[1][5]]) == (drawn[1][:4], [TRACKS[0]])  # type: ignore[attr-defined]
        for place, lines in ((2, 5), (3, 1), (4, 3)):
            assert found[place][1] == drawn[place][1]
            sold, usual = found[place][5], drawn[place][5]
            assert isinstance(sold, list)
            assert isinstance(usual, list)
            assert len({line[0] for line in sold}) == len(sold) == lines
            common = min(len(usual), lines)
            assert sold[:common] == usual[:common]
            assert found[place][4] == sum(line[1] for line in sold)
        assert found[2][0] == drawn[2][0]
        assert found[6:] == drawn[6:]


@on_both_databases
def test_a_profile_counts_for_what_is_drawn(shop: ChinookDatabase) -> None:
    with Session(shop.engine) as session:
        factories = [SaleFactory(session, seed=3, profile="realistic") for _ in range(2)]
        for _ in range(20):
            usual, chosen = factories[0].build(DAY), factories[1].build(DAY, lines=5)
            assert parts(usual)[:4] == parts(chosen)[:4]
            assert parts(chosen)[5][: len(usual.lines)] == parts(usual)[5]  # type: ignore[index]


@on_each_shape
def test_rows_that_are_new_in_the_session_can_be_chosen(shop: ChinookDatabase) -> None:
    with Session(shop.engine) as session, session.begin():
        factory = SaleFactory(session, seed=7)
        first = factory.create(DAY)
        customer, track = new_customer(), new_track()
        insert(session, customer)
        insert(session, track)
        sale = factory.create(NOON, customer=900, tracks=[900, first.lines[0].track_id])
        assert (sale.billing_city, sale.billing_country) == ("Bergen", "Norway")
        assert sale.lines[0].unit_price == Decimal("2.49")
        assert verify(session.connection(), day=DAY).ok
    assert shop.value("SELECT count(*) FROM [Invoice] WHERE [CustomerId] = 900") == 1


@on_variants([it for it in alternating_versions() if "IDENTITY" not in it.shape.ids])
@pytest.mark.parametrize("call", ["create", "build"])
def test_what_is_pending_in_the_session_is_flushed_first(shop: ChinookDatabase, call: str) -> None:
    with Session(shop.engine) as session, session.begin():
        customer, track = new_customer(), new_track()
        session.add_all([customer, track])
        # The factory's first sale: the database's spelling is not known before.
        factory = SaleFactory(session, seed=7)
        sale = getattr(factory, call)(DAY, customer=customer, tracks=[track])
        assert inspect(customer).persistent
        assert (sale.customer_id, sale.total) == (900, Decimal("2.49"))
        assert inspect(sale).transient == (call == "build")
        # A price that changed counts as it is now, also of a track that was known before.
        track.unit_price = Decimal("5.01")
        known = session.get_one(Track, TRACKS[0])
        known.unit_price = Decimal("7.10")
        assert factory.create(DAY, tracks=[known, track]).total == Decimal("12.11")


@on_both_databases
def test_objects_of_other_sessions_stand_for_their_rows(shop: ChinookDatabase) -> None:
    recognise(shop.engine)
    with Session(shop.engine) as other:
        customer = other.get_one(Customer, CUSTOMERS[2])
        track = other.get_one(Track, TRACKS[3])
        other.expire(track)
        other.expunge(track)
    with Session(shop.engine) as session, session.begin():
        sale = SaleFactory(session).create(DAY, customer=customer, tracks=[track])
        assert (sale.customer_id, sale.lines[0].track_id) == (CUSTOMERS[2], TRACKS[3])


@on_both_databases
def test_new_rows_that_are_chosen_do_not_change_the_next_sales(shop: ChinookDatabase) -> None:
    found = []
    for chosen in (False, True):
        with Session(shop.engine) as session, session.begin():
            factory = SaleFactory(session, seed=8)
            track = Track(name="new", media_type_id=1, milliseconds=1, unit_price=1)
            session.add(track)
            factory.create(DAY, tracks=[track] if chosen else None)
            sales = [factory.create(DAY) for _ in range(5)]
            found.append([(it.customer_id, [line.track_id for line in it.lines]) for it in sales])
            session.rollback()
    assert found[0] == found[1]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"customer": 6}, "there is no customer 6"),
    ({"customer": 10**12}, "there is no customer 1000000000000"),
    ({"customer": 2**70}, "customer must be a Customer or its id"),
    ({"customer": "7"}, "customer must be a Customer or its id, got '7'"),
    ({"customer": True}, "customer must be a Customer or its id"),
    ({"customer": Track(track_id=3)}, "customer must be a Customer or its id"),
    ({"customer": Customer(customer_id=7)}, "the Customer given has no row; add it"),
    ({"tracks": []}, "a sale has 1 to 5 tracks, got 0"),
    ({"tracks": TRACKS[:6]}, "a sale has 1 to 5 tracks, got more than 5"),
    ({"tracks": itertools.count(1)}, "a sale has 1 to 5 tracks, got more than 5"),
    ({"tracks": 3}, "tracks must be Track objects or ids in a list, got 3"),
    ({"tracks": "3"}, "tracks must be"),
    ({"tracks": Track(track_id=3)}, "tracks must be"),
    ({"tracks": [3, None]}, "track must be a Track or its id, got None"),
    ({"tracks": [3, 3.0]}, "track must be a Track or its id"),
    ({"tracks": [3, 6, 3]}, "track 3 is given twice"),
    ({"tracks": [3, 4, 5, 6]}, "there is no track 4, 5"),
    ({"tracks": [Track(track_id=3)]}, "the Track given has no row"),
    ({"lines": 0}, "lines must be an integer between 1 and 5, got 0"),
    ({"lines": 6}, "lines must be"),
    ({"lines": True}, "lines must be"),
    ({"lines": "2"}, "lines must be"),
    ({"lines": np.int64(6)}, "lines must be"),
    ({"tracks": [3, 6], "lines": 3}, "lines is 3, but the number of tracks given is 2"),
]


@pytest.mark.parametrize(
    ("shop", "driver"),
    [
        pytest.param(case, driver, id=f"{case.id}-{driver}")
        for case, driver in (
            (one_of_each()[0], "postgresql+psycopg"),
            (one_of_each()[0], "postgresql+pg8000"),
            (one_of_each()[1], "sqlite"),
        )
    ],
    indirect=["shop"],
)
@pytest.mark.parametrize("later", [False, True], ids=["first", "later"])
def test_what_cannot_be_chosen_is_refused_and_does_not_count(
    shop: ChinookDatabase, driver: str, later: bool
) -> None:
    with Session(shop.engine_for(driver)) as session, session.begin():
        plain = SaleFactory(session, seed=7)
        expected = [parts(plain.build(DAY)) for _ in range(2)]
        factory = SaleFactory(session, seed=7)
        if later:
            assert parts(factory.create(DAY)) == expected.pop(0)
        for given, said in WRONG:
            for call in (factory.create, factory.build):
                with pytest.raises(InvalidInput, match=said):
                    call(DAY, **given)
        assert session.is_active
        assert not session.new
        assert parts(factory.create(DAY)) == expected[0]
    assert shop.value("SELECT count(*) FROM [Invoice]") == 31 + later


@on_both_databases
def test_a_row_that_was_deleted_cannot_be_chosen(shop: ChinookDatabase) -> None:
    with Session(shop.engine) as session, session.begin():
        factory = SaleFactory(session)
        factory.create(DAY)
        unsold = (
            session.scalars(
                select(Track).where(~Track.invoice_lines.any()).order_by(Track.track_id)
            ).first()
            or new_track()
        )
        if not inspect(unsold).persistent:
            insert(session, unsold)
            unsold = session.get_one(Track, 900)
        unsold.playlists.clear()
        session.delete(unsold)
        number = unsold.track_id
        for chosen in (unsold, number):
            with pytest.raises(InvalidInput, match=f"there is no track {number}"):
                factory.create(DAY, tracks=[chosen])


@on_both_databases
def test_there_must_be_as_many_tracks_as_lines(shop: ChinookDatabase) -> None:
    shop.execute(
        "DELETE FROM [InvoiceLine]",
        "DELETE FROM [PlaylistTrack]",
        f"DELETE FROM [Track] WHERE [TrackId] > {TRACKS[2]}",
    )
    with Session(shop.engine) as session, session.begin():
        factory = SaleFactory(session, seed=7)
        with pytest.raises(InvalidInput, match=r"lines must be at most 3, .* got 4"):
            factory.create(DAY, lines=4)
        assert len(factory.create(DAY, lines=3).lines) == 3


@on_both_databases
def test_a_price_that_is_no_amount_cannot_be_chosen(shop: ChinookDatabase) -> None:
    if shop.server:
        shop.execute("ALTER TABLE [Track] ALTER COLUMN [UnitPrice] TYPE numeric(10, 3)")
    with Session(shop.engine) as session, session.begin():
        factory = SaleFactory(session)
        factory.create(DAY)
        session.execute(
            text(shop.sql(f"UPDATE [Track] SET [UnitPrice] = 0.995 WHERE [TrackId] = {TRACKS[0]}"))
        )
        with pytest.raises(CatalogueUnusable, match=r"0\.995 .* not an amount in whole cents"):
            factory.create(DAY, tracks=[TRACKS[0]])


@on_both_databases
def test_a_sale_that_the_database_refuses_does_not_count(shop: ChinookDatabase) -> None:
    with Session(shop.engine) as session:
        expected = parts(SaleFactory(session, seed=7).build(DAY))
        factory = SaleFactory(session, seed=7)

        @event.listens_for(session, "before_flush")
        def spoil(*_: object) -> None:
            for thing in session.new:
                thing.total = None

        with pytest.raises(BatchFailed):
            factory.create(DAY, customer=CUSTOMERS[0])
        session.rollback()
        event.remove(session, "before_flush", spoil)
        assert parts(factory.create(DAY)) == expected
        assert parts(SaleFactory(session, seed=7).build(DAY)) == expected


@on_both_databases
def test_a_flush_that_the_database_refuses_comes_as_an_error_of_ours(shop: ChinookDatabase) -> None:
    with Session(shop.engine) as session:
        recognise(session)
        factory = SaleFactory(session)
        wrong = Customer(customer_id=901, first_name="Ada")
        session.add(wrong)
        with pytest.raises(BatchFailed):
            factory.create(DAY, customer=wrong)
        session.rollback()
        assert factory.create(DAY).invoice_id
