"""Sales one at a time, as ORM objects, and in bulk: the same ones either way."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from chinook_sim.database.connections import check_session, connection_of
from chinook_sim.database.introspection import recognise
from chinook_sim.database.session_settings import pinned
from chinook_sim.database.transactions import (
    all_or_nothing,
    check_visible_rows,
    translated,
    writing,
)
from chinook_sim.dates import bounds, check_day
from chinook_sim.errors import BatchFailed, CatalogueUnusable, InvalidInput
from chinook_sim.operations.options import BatchOptions, check_seed, draw_seed
from chinook_sim.operations.run_batch import BatchContext, run_batch
from chinook_sim.operations.sale_choices import (
    Choices,
    check_choices,
    read_customer,
    read_tracks,
)
from chinook_sim.operations.single_sales import Sale, invoice_of, sales_of
from chinook_sim.sales.batch import draw_batch
from chinook_sim.sales.catalogue import read_catalogue
from chinook_sim.sales.id_allocation import allocate
from chinook_sim.sales.id_positions import advance_sequences
from chinook_sim.sampling.draws import MAX_BASKET
from chinook_sim.sampling.profile import UNIFORM
from chinook_sim.sampling.profile_file import load_profile

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from chinook_sim.database.schema import Chinook
    from chinook_sim.models import Customer, Invoice, Track
    from chinook_sim.sales.catalogue import Catalogue
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
            InvalidInput: `seed` is not an integer from 0 to 2**63 - 1, the profile is unknown, or
                `session` is not a Session.
        """
        check_session(session)
        self.seed = draw_seed() if seed is None else check_seed(seed)
        self._profile = load_profile(profile)
        self._session = session
        self._known: tuple[Chinook, Catalogue] | None = None
        self._ahead: _Ahead | None = None
        self._made: Counter[date] = Counter()
        self._sequences_advanced = False

    def __repr__(self) -> str:
        return f"<SaleFactory seed {self.seed}>"

    def build(
        self,
        at: datetime | date,
        *,
        customer: Customer | int | None = None,
        tracks: Iterable[Track | int] | None = None,
        lines: int | None = None,
    ) -> Invoice:
        """Make the next sale of a day, as a transient Invoice with its InvoiceLines.

        It belongs to no session and has no ids yet; adding it to one is enough where the database
        gives ids, and `create` does it everywhere.

        What is not chosen is drawn as always: choosing the customer leaves the tracks and the
        moment of the sale as they are, and a chosen number of tracks the first of them. The sales
        after it do not depend on what was chosen. A sale that raises does not count: the next call
        makes it.

        If a customer or tracks are given, the session is flushed, so that they may be new, and they
        are looked up in the database.

        Args:
            at: when the sale was made, naive and to the second; or only the day, and the moment is
                the sale's own, as in `create_batch`.
            customer: who buys, a Customer or its id.
            tracks: what is sold, 1 to 5 different Tracks or their ids, at the prices that they have
                in the database now; one InvoiceLine each, in this order.
            lines: number of tracks to draw, 1 to 5; with `tracks`, their number.

        Raises:
            InvalidInput: `at` has a time zone, or is no date at all; there is no such customer or
                track, or an object that is in no session; a track is given twice; there are fewer
                tracks than `lines`, or it is another number than that of `tracks`; or an argument
                has a wrong type.
            CatalogueUnusable: as for `generate_d1`.
            BatchFailed: the database refused what was pending in the session.
        """
        day, moment = _when(at)
        choices = check_choices(customer, tracks, lines)
        self._prepare(choices)
        with translated():
            invoice = self._make(connection_of(self._session), day, moment, choices)
        self._made[day] += 1
        return invoice

    def _prepare(self, choices: Choices) -> Chinook:
        """Recognise the shop and read its catalogue, once; flush what may be chosen."""
        if self._known is None or choices.names_rows:
            with translated():
                connection = connection_of(self._session)
                chinook = self._known[0] if self._known else recognise(connection)
                check_visible_rows(chinook)
                if self._known is None:
                    self._known = chinook, self._read(connection, chinook, choices)
                if choices.names_rows:
                    self._session.flush()
        assert self._known is not None  # noqa: S101 - it was just read
        return self._known[0]

    def _read(self, connection: Connection, chinook: Chinook, choices: Choices) -> Catalogue:
        try:
            # Before the flush: the next sales do not depend on what is chosen.
            return read_catalogue(connection, changes=chinook.ledger)
        except CatalogueUnusable:
            if not choices.names_rows:
                raise
            # What is chosen may be the first rows of an empty shop.
            self._session.flush()
            return read_catalogue(connection, changes=chinook.ledger)

    def _make(
        self, connection: Connection, day: date, moment: datetime | None, choices: Choices
    ) -> Invoice:
        sale = self._next(day, choices.lines)
        if choices.customer is not None:
            number, billing = read_customer(connection, choices.customer)
            sale = sale._replace(customer=number, billing=billing)
        if choices.tracks is not None:
            sold = read_tracks(connection, choices.tracks)
            sale = sale._replace(lines=sold, total=sum(cents for _, cents in sold))
        return invoice_of(sale, moment or bounds(day)[0] + timedelta(seconds=sale.second))

    def _next(self, day: date, lines: int | None) -> Sale:
        """Return the next sale of a day, which does not count yet."""
        assert self._known is not None  # noqa: S101 - `_prepare` came before
        _, catalogue = self._known
        index = self._made[day]
        if lines is not None:
            there = len(catalogue.track_ids)
            if lines > there:
                raise InvalidInput(
                    f"lines must be at most {there}, the number of tracks in the shop, got {lines}"
                )
            only = [float(size == lines) for size in range(1, MAX_BASKET + 1)]
            profile = replace(self._profile, baskets=only)
            batch = draw_batch(catalogue, self.seed, day, index, index + 1, profile=profile)
            return sales_of(batch)[0]
        ahead = self._ahead
        if ahead is None or ahead.day != day or not 0 <= index - ahead.start < AHEAD:
            batch = draw_batch(
                catalogue, self.seed, day, index, index + AHEAD, profile=self._profile
            )
            ahead = self._ahead = _Ahead(day, index, sales_of(batch))
        return ahead.sales[index - ahead.start]

    def create(
        self,
        at: datetime | date,
        *,
        customer: Customer | int | None = None,
        tracks: Iterable[Track | int] | None = None,
        lines: int | None = None,
    ) -> Invoice:
        """Make the next sale of a day, add it to the session and flush it.

        What is not chosen is drawn, as in `build`::

            factory.create(date(2026, 1, 31), customer=customer, tracks=[1, 2])

        If a flush fails, SQLAlchemy rolls back the session's transaction. To lose only one sale,
        wrap the call in `with session.begin_nested():`. This is not the default because it takes a
        third more time, and more than 64 savepoints in a transaction slow PostgreSQL down. The
        factory's first sale always has a savepoint. For SQLite, see SQLAlchemy's documentation on
        savepoints.

        Args:
            at: as for `build`.
            customer: as for `build`.
            tracks: as for `build`.
            lines: as for `build`.

        Returns:
            The persistent Invoice, with ids.

        Raises:
            InvalidInput: as for `build`; the session's transaction goes on.
            BatchFailed: the database did not take it, and nothing of it was kept; or the session
                is to be rolled back first, as an earlier one failed.
        """
        if not self._session.is_active:
            raise BatchFailed("an earlier flush of this session failed; roll it back first")
        day, moment = _when(at)
        choices = check_choices(customer, tracks, lines)
        known = self._prepare(choices)
        # SQLite gives ids of deleted rows again, and `allocate` does not.
        given = all(
            ids.kind == "sequence" and ids.default for ids in (known.invoice_ids, known.line_ids)
        )
        if not self._sequences_advanced:
            # The first sale has a savepoint, so that errors are explained as for a batch: after a
            # failed flush without one, the database answers no more queries.
            with all_or_nothing(self._session, chinook=known) as (connection, chinook):
                invoice = self._make(connection, day, moment, choices)
                if given:
                    advance_sequences(connection, chinook)
                self._flush(invoice, connection, chinook, given=given)
            self._sequences_advanced = True
        else:
            with translated():
                connection = connection_of(self._session)
                # What is chosen is looked up with SQLite's write lock: nobody deletes it meanwhile.
                with writing(connection), pinned(connection, known):
                    invoice = self._make(connection, day, moment, choices)
                    self._flush(invoice, connection, known, given=given)
        self._made[day] += 1
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
        options = BatchOptions(
            day=day, seed=self.seed, start=self._made[day], profile=self._profile
        )
        known = BatchContext(catalogue=self._known[1] if self._known else None)
        summary = run_batch(self._session, n, options, known)
        self._made[day] += summary.count
        return summary


def _number(invoice: Invoice, invoice_ids: IdRanges, line_ids: IdRanges) -> None:
    (invoice.invoice_id,) = invoice_ids
    for line, line_id in zip(invoice.lines, line_ids, strict=True):
        line.invoice_line_id = line_id


class _Ahead(NamedTuple):
    """Sales of a day that were made ahead, from one on."""

    day: date
    start: int
    sales: list[Sale]


def _when(at: datetime | date) -> tuple[date, datetime | None]:
    if not isinstance(at, datetime):
        return check_day(at), None
    if at.tzinfo is not None:
        raise InvalidInput(
            f"at must be a datetime without a time zone, got {at}; pass the shop's local time"
        )
    return check_day(at.date()), at.replace(microsecond=0)
