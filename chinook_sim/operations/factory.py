"""Sales one at a time, as ORM objects, and in bulk: the same ones either way."""

from __future__ import annotations

from collections import Counter
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from chinook_sim.database.connections import check_session, connection_of
from chinook_sim.database.introspection import recognise
from chinook_sim.database.transactions import (
    all_or_nothing,
    check_visible_rows,
    translated,
    writing,
)
from chinook_sim.dates import bounds, check_day
from chinook_sim.errors import BatchFailed, InvalidInput
from chinook_sim.models import Invoice, InvoiceLine
from chinook_sim.operations.options import check_seed, draw_seed
from chinook_sim.operations.run_batch import generate_day
from chinook_sim.sales.batch import draw_batch
from chinook_sim.sales.catalogue import read_catalogue
from chinook_sim.sales.id_allocation import allocate
from chinook_sim.sales.id_positions import advance_sequences
from chinook_sim.sampling.profile import UNIFORM, load_profile

if TYPE_CHECKING:
    import os

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from chinook_sim.database.schema import Chinook
    from chinook_sim.sales.batch import SaleBatch
    from chinook_sim.sales.catalogue import BillingAddress, Catalogue
    from chinook_sim.sales.id_ranges import IdRanges
    from chinook_sim.sales.summary import BatchSummary
    from chinook_sim.sampling.profile import Profile

__all__ = ["SaleFactory"]

AHEAD = 64
"""Sales made ahead of the one that is asked for: making one takes as long as making these."""


class SaleFactory:
    """Makes sales for one session.

    Each day is a sequence of sales that follows from the seed alone. The factory remembers how far
    it has come in each day: every call makes the next ones, whether it makes one or many::

        factory = SaleFactory(session, seed=7)
        invoice = factory.create(date(2026, 1, 31))     # sale 0 of that day, added and flushed
        factory.create_batch(99, date(2026, 1, 31))     # sales 1 to 99, in bulk

    The customers and tracks are read once, at the first sale, and kept as long as the factory.

    Attributes:
        seed: the seed, also where none was given.
    """

    def __init__(
        self,
        session: Session,
        seed: int | None = None,
        *,
        profile: str | os.PathLike[str] | Profile = UNIFORM,
    ) -> None:
        """Bind a factory to a session.

        Args:
            session: a session on a Chinook in PostgreSQL or SQLite.
            seed: 0 to 2**63 - 1; drawn from the system if None.
            profile: the shape of the sales, as for `generate_d1`.

        Raises:
            InvalidInput: the seed is none, or the profile, or it is no session.
        """
        check_session(session)
        self.seed = draw_seed() if seed is None else check_seed(seed)
        self._profile = load_profile(profile)
        self._session = session
        self._known: tuple[Chinook, Catalogue] | None = None
        self._ahead: _Ahead | None = None
        self._made: Counter[date] = Counter()
        self._in_step = False

    def build(self, at: datetime | date) -> Invoice:
        """Make the next sale of a day, as a transient Invoice with its InvoiceLines.

        It belongs to no session and has no ids yet; adding it to one is enough where the database
        gives ids, and `create` does it everywhere.

        Args:
            at: when the sale was made, naive and to the second; or only the day, and the moment is
                the sale's own, as in `create_batch`.

        Raises:
            InvalidInput: `at` has a time zone, or is no date at all.
            CatalogueUnusable: as for `generate_d1`.
        """
        day, moment = _when(at)
        sale = self._next(day)
        return Invoice(
            customer_id=sale.customer,
            invoice_date=moment or bounds(day)[0] + timedelta(seconds=sale.second),
            billing_address=sale.billing.address,
            billing_city=sale.billing.city,
            billing_state=sale.billing.state,
            billing_country=sale.billing.country,
            billing_postal_code=sale.billing.postal_code,
            total=Decimal(sale.total).scaleb(-2),
            lines=[
                InvoiceLine(track_id=track, unit_price=Decimal(cents).scaleb(-2), quantity=1)
                for track, cents in sale.lines
            ],
        )

    def _next(self, day: date) -> _Sale:
        index = self._made[day]
        ahead = self._ahead
        if ahead is None or ahead.day != day or not 0 <= index - ahead.start < AHEAD:
            _, catalogue = self._known or self._know()
            batch = draw_batch(
                catalogue, self.seed, day, index, index + AHEAD, profile=self._profile
            )
            ahead = self._ahead = _Ahead(day, index, _sales(batch))
        self._made[day] += 1
        return ahead.sales[index - ahead.start]

    def _know(self) -> tuple[Chinook, Catalogue]:
        with translated():
            connection = connection_of(self._session)
            chinook = recognise(connection)
            check_visible_rows(chinook)
            self._known = chinook, read_catalogue(connection, changes=chinook.ledger)
        return self._known

    def create(self, at: datetime | date) -> Invoice:
        """Make the next sale of a day, add it to the session and flush it.

        A flush that fails takes the session's transaction with it, as SQLAlchemy's do, but for the
        factory's first; put
        `with session.begin_nested():` around what shall be lost alone (with SQLite, see what
        SQLAlchemy says of its savepoints). One a sale is no default: it takes a third more time,
        and a PostgreSQL slows down for everybody while a transaction has more than 64 of them.

        Args:
            at: as for `build`.

        Returns:
            The persistent Invoice, with ids.

        Raises:
            InvalidInput: as for `build`.
            BatchFailed: the database did not take it, and nothing of it was kept; or the session
                is to be rolled back first, as an earlier one failed.
        """
        if not self._session.is_active:
            raise BatchFailed("an earlier flush of this session failed; roll it back first")
        invoice = self.build(at)
        known, _ = self._known or self._know()
        # SQLite gives ids of deleted rows again, and `allocate` does not.
        given = all(
            ids.kind == "sequence" and ids.default for ids in (known.invoice_ids, known.line_ids)
        )
        if not self._in_step:
            # The first under a savepoint, so that what is wrong with the shop is told as for a
            # batch: after a failed flush the database could not be asked any more.
            with all_or_nothing(self._session, chinook=known) as (connection, chinook):
                if given:
                    advance_sequences(connection, chinook)
                self._flush(invoice, connection, chinook, given=given)
            self._in_step = True
        else:
            with translated():
                connection = connection_of(self._session)
                with writing(connection):
                    self._flush(invoice, connection, known, given=given)
        return invoice

    def _flush(
        self, invoice: Invoice, connection: Connection, chinook: Chinook, *, given: bool
    ) -> None:
        if not given:
            _number(invoice, *allocate(connection, chinook, invoices=1, lines=len(invoice.lines)))
        self._session.add(invoice)
        self._session.flush()

    def create_batch(self, n: int, day: date) -> BatchSummary:
        """Write the next n sales of a day in bulk, without making objects of them.

        Args:
            n: how many.
            day: the day.

        Returns:
            As `generate_d1`.

        Raises:
            ChinookSimError: as for `generate_d1`.
        """
        check_day(day)
        summary = generate_day(
            self._session,
            n,
            day=day,
            seed=self.seed,
            start=self._made[day],
            catalogue=self._known[1] if self._known else None,
            profile=self._profile,
        )
        self._made[day] += summary.count
        return summary


def _number(invoice: Invoice, invoice_ids: IdRanges, line_ids: IdRanges) -> None:
    (invoice.invoice_id,) = invoice_ids
    for line, line_id in zip(invoice.lines, line_ids, strict=True):
        line.invoice_line_id = line_id


class _Sale(NamedTuple):
    """One sale, as plain values; amounts in cents."""

    customer: int
    second: int
    billing: BillingAddress
    total: int
    lines: list[tuple[int, int]]


class _Ahead(NamedTuple):
    """Sales of a day that were made ahead, from one on."""

    day: date
    start: int
    sales: list[_Sale]


def _sales(batch: SaleBatch) -> list[_Sale]:
    lines = list(zip(batch.track_ids.tolist(), batch.prices.tolist(), strict=True))
    ends = batch.offsets.tolist()
    return [
        _Sale(customer, second, batch.catalogue.billing[position], total, lines[first:last])
        for customer, second, position, total, first, last in zip(
            batch.customer_ids.tolist(),
            batch.seconds.tolist(),
            batch.customers.tolist(),
            batch.totals.tolist(),
            ends[:-1],
            ends[1:],
            strict=True,
        )
    ]


def _when(at: datetime | date) -> tuple[date, datetime | None]:
    if not isinstance(at, datetime):
        return check_day(at), None
    if at.tzinfo is not None:
        raise InvalidInput(
            f"{at} has a time zone, and invoice dates have none; pass the shop's local time"
        )
    return check_day(at.date()), at.replace(microsecond=0)
