"""What `repr` shows of rows and results: one line, and never a query."""

from __future__ import annotations

import pickle
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import event, select
from sqlalchemy.orm import Session, load_only

from chinook_sim import (
    Album,
    Base,
    BatchSummary,
    Customer,
    Invoice,
    InvoiceLine,
    SaleFactory,
    Track,
    generate_d1,
    live,
    recognise,
    undo,
    verify,
)
from chinook_sim.models import Run, RunInvoices
from support.cases import on_both_databases

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.databases import ChinookDatabase

DAY = date(2026, 1, 31)

pytestmark = [on_both_databases, pytest.mark.one_database]


@pytest.fixture
def session(shop: ChinookDatabase) -> Iterator[Session]:
    recognise(shop.engine)
    with Session(shop.engine) as session:
        yield session


def test_a_row_is_shown_with_what_matters_of_it(session: Session) -> None:
    sale = SaleFactory(session).create(datetime(2026, 1, 31, 12), customer=7, tracks=[3, 15])  # noqa: DTZ001
    number = sale.invoice_id
    assert repr(sale) == (f"<Invoice {number}: customer 7, 2026-01-31 12:00:00, 2.98, 2 lines>")
    line = sale.lines[1]
    assert repr(line) == (f"<InvoiceLine {line.invoice_line_id}: invoice {number}, track 15, 1.99>")
    assert repr(session.get_one(Track, 15)) == "<Track 15: Track 15, 1.99>"
    assert repr(session.get_one(Customer, 7)) == "<Customer 7: First7 O'Hara>"
    assert repr(Album(album_id=1, title="Of\ntwo " + "x" * 60)) == f"<Album 1: Of two {'x' * 32}…>"
    assert repr(Album()) == "<Album without id>"
    assert repr(Run(run_id="a")) == "<Run a>"
    assert repr(RunInvoices(run_id="a", first_id=3)).startswith("<RunInvoices ")


def test_every_class_is_shown(session: Session) -> None:
    for mapper in Base.registry.mappers:
        assert repr(mapper.class_()).startswith(f"<{mapper.class_.__name__} ")
        found = session.scalars(select(mapper.class_).limit(1)).first()
        assert found is None or f"<{mapper.class_.__name__} " in repr(found)


def test_nothing_is_loaded_to_be_shown(session: Session) -> None:
    sent: list[str] = []
    sale = session.get_one(Invoice, 1)
    part = session.scalars(
        select(Invoice).where(Invoice.invoice_id == 2).options(load_only(Invoice.total))
    ).one()
    line = session.scalars(select(InvoiceLine).limit(1)).one()
    total = part.total
    event.listen(session.connection(), "before_cursor_execute", lambda *it: sent.append(it[2]))
    assert (
        repr(sale) == f"<Invoice 1: customer {sale.customer_id}, {sale.invoice_date}, {sale.total}>"
    )
    assert repr(part) == f"<Invoice 2: {total}>"
    session.expire(sale)
    assert repr(sale) == "<Invoice 1>"
    session.expunge(sale)
    assert repr(sale) == "<Invoice 1>"
    session.expunge(line)
    assert repr(line).startswith("<InvoiceLine 1: invoice ")
    assert repr(pickle.loads(pickle.dumps(sale))) == "<Invoice 1>"
    assert sent == []


def test_what_is_transient_or_deleted_is_shown(session: Session) -> None:
    draft = SaleFactory(session, seed=7).build(DAY)
    assert repr(draft).startswith(f"<Invoice without id: customer {draft.customer_id}, 2026-01-31 ")
    lonely = InvoiceLine(track_id=3, unit_price=Decimal("0.99"), quantity=1)
    assert repr(lonely) == "<InvoiceLine without id: track 3, 0.99>"
    sale = session.get_one(Invoice, 1)
    session.delete(sale)
    session.flush()
    assert repr(sale).startswith("<Invoice 1: customer ")
    session.rollback()
    assert repr(sale) == "<Invoice 1>"
    session.close()
    assert repr(sale) == "<Invoice 1>"


def test_a_batch_is_one_line_however_many_its_ids(shop: ChinookDatabase) -> None:
    with Session(shop.engine) as session, session.begin():
        made = generate_d1(session, 500, day=DAY, seed=7, once=True)
        again = generate_d1(session, 500, day=DAY, seed=7, once=True)
    assert repr(made) == (
        f"<BatchSummary 2026-01-31: 500 sales, revenue {made.revenue}, seed 7, run {made.run_id}>"
    )
    assert repr(again) == f"{repr(made)[:-1]}, existed>"
    dry = BatchSummary(day=DAY, count=1, lines=1, revenue=Decimal("0.99"), seed=7, digest="")
    assert repr(dry) == "<BatchSummary 2026-01-31: 1 sale, revenue 0.99, seed 7>"
    stream = live(shop.engine, 4_000, seed=7)
    assert repr(stream) == f"<LiveStream {stream.name}>"
    batch = next(stream)
    assert "latencies" not in repr(batch)
    assert len(repr(batch)) < 300
    stream.close()


def test_results_of_many_runs_and_checks_are_one_line(shop: ChinookDatabase) -> None:
    with Session(shop.engine) as session, session.begin():
        factory = SaleFactory(session, seed=7)
        assert repr(factory) == "<SaleFactory seed 7>"
        for _ in range(3):
            factory.create_batch(2, DAY)
        checked = verify(session.connection(), day=DAY, expect=7)
        assert repr(checked) == f"<VerifyResult {DAY}: {len(checked.checks)} checks, 1 failed>"
        everything = verify(session.connection(), all_days=True)
        assert repr(everything).startswith("<VerifyResult all days: ")
        assert repr(undo(session, day=DAY, limit=1)) == "<UndoResult 1 run, 2 sales, 2 left>"
        assert repr(undo(session, day=DAY)) == "<UndoResult 2 runs, 4 sales>"
        assert repr(undo(session, day=DAY)) == "<UndoResult 0 runs, 6 sales, existed>"
