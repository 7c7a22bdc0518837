"""The tables of the ledger: runs, the invoices they made, and what they changed."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from functools import cached_property
from typing import Any

from sqlalchemy import (
    BigInteger,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from chinook_sim.models.base import Base, LedgerMoney

__all__ = [
    "Change",
    "CreatedTable",
    "Run",
    "RunInvoices",
]


class CreatedTable(Base):
    """A table or sequence that a migration made, so that its downgrade takes no other away."""

    __tablename__ = "chinook_sim_created_table"

    name: Mapped[str] = mapped_column(String(63), primary_key=True)
    revision: Mapped[str] = mapped_column(String(32))


class _OfStanding(Index):
    """An index of the runs that are not undone.

    The condition is set when it is first read. As an argument of the constructor it would load the
    dialects of both databases whenever the models are imported: a tenth of the command's start.
    """

    @cached_property
    def dialect_options(self) -> Any:
        """Return the options of each dialect: the condition."""
        options = super().dialect_options
        for dialect in ("postgresql", "sqlite"):
            options[dialect]["where"] = text("undone_at IS NULL")
        return options


class Run(Base):
    """The ledger: one row a batch, written in the batch's own transaction.

    Attributes:
        run_id: a UUID; drawn before the batch, so that it can be looked for when the answer to
            COMMIT is lost.
        kind: `generate`; `changes`, without sales; `live`, a transaction of a stream;
            `simulate_sales`, the SQL function; `align`; or `baseline`, written by the migration,
            whose `last_invoice_id` is the highest id there was before us.
        key: what makes a repeated request the same one; unique among the runs not undone.
        day: the day of the sales; the last day of the history after `align`.
        timezone: the zone that D-1 was taken from; NULL for the database's own.
        requested: the number of sales asked for.
        seed: of the sales; NULL where the database's own random() made them.
        profile: the shape of the day.
        parameters: whatever else was asked for, as a JSON object.
        parameters_hash: SHA-256 of day, number, profile and `parameters`, in hexadecimal.
        sales: the number of sales made, or of invoices moved.
        lines: the number of tracks sold.
        revenue: the sum of the totals.
        digest: SHA-256 of the content of the sales, as in `BatchSummary`.
        first_invoice_id: the lowest id of the invoices.
        last_invoice_id: the highest.
        hours: the number of sales in each hour of the day, as JSON.
        created_at: when the transaction began, by the database's clock; in SQLite in UTC.
        version: of the library, or of the SQL function.
        undone_at: when the run was taken out again; NULL while it stands.
        prices_known: the `change_id` of the last change of a price that the run had seen; NULL
            where no price had ever changed.
    """

    __tablename__ = "chinook_sim_run"

    run_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    key: Mapped[str | None] = mapped_column(String(200))
    day: Mapped[date | None]
    timezone: Mapped[str | None] = mapped_column(String(64))
    requested: Mapped[int | None]
    seed: Mapped[int | None] = mapped_column(BigInteger)
    profile: Mapped[str | None] = mapped_column(String(200))
    parameters: Mapped[str] = mapped_column(Text, server_default="{}")
    parameters_hash: Mapped[str | None] = mapped_column(String(64))
    sales: Mapped[int] = mapped_column(server_default="0")
    lines: Mapped[int] = mapped_column(BigInteger, server_default="0")
    revenue: Mapped[Decimal] = mapped_column(LedgerMoney(14), server_default="0")
    digest: Mapped[str | None] = mapped_column(String(64))
    first_invoice_id: Mapped[int | None] = mapped_column(BigInteger)
    last_invoice_id: Mapped[int | None] = mapped_column(BigInteger)
    hours: Mapped[str] = mapped_column(Text, server_default="[]")
    created_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.current_timestamp()
    )
    version: Mapped[str] = mapped_column(String(40))
    undone_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    prices_known: Mapped[int | None] = mapped_column(BigInteger)

    # An undone run frees its key.
    __table_args__ = (_OfStanding("chinook_sim_run_key", "kind", "key", unique=True),)


class RunInvoices(Base):
    """The invoices of a run, as ranges of ids: those it made, or those that `align` moved.

    The invoice `id` is in a range if `id BETWEEN first_id AND last_id AND (id - first_id) % step
    = 0`. The rows of a run, in the order of `first_id`, are in the order of its sales.

    Attributes:
        run_id: the run, in `chinook_sim_run`.
        first_id: the first id.
        last_id: the last id.
        step: the difference between one id and the next.
        fingerprints: 16 bytes for each invoice, in the order of the ids; see
            `chinook_sim.sales.fingerprints`. NULL where they are not known, for
            runs that were made before revision 0006. Of an alignment only
            the second of the day is set.
    """

    __tablename__ = "chinook_sim_run_invoices"

    run_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    first_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    last_id: Mapped[int] = mapped_column(BigInteger)
    step: Mapped[int] = mapped_column(BigInteger, server_default="1")
    fingerprints: Mapped[bytes | None] = mapped_column(LargeBinary)

    __table_args__ = (Index("chinook_sim_run_invoices_id", "first_id", "last_id"),)


class Change(Base):
    """What a run changed or took away: one row for each thing, as it was and as it became.

    Attributes:
        change_id: rises; of two changes of one subject, the later has the higher.
        run_id: the run, in `chinook_sim_run`.
        kind: `update`, a track added to an invoice; `cancellation`, an invoice taken away;
            `sign-up`, a new customer; `move`, a customer's new address; `price`, a track's new
            price; `price undone`, its old price again, as the run was undone.
        subject: `invoice`, `customer` or `track`: what was changed.
        subject_id: its id.
        last_line_id: the highest id of its lines before, as the ids of what was cancelled are not
            given again.
        before: its rows before, with all their columns, as a JSON object: {"Invoice": [row],
            "InvoiceLine": [row, …]}, {"Customer": [row]} or {"Track": [row]}; NULL where it is new.
        after: the same after; NULL where it is gone.
    """

    __tablename__ = "chinook_sim_change"

    change_id: Mapped[int] = mapped_column(
        # In SQLite only an INTEGER numbers itself.
        BigInteger().with_variant(Integer, "sqlite"),
        Identity(),
        primary_key=True,
    )
    run_id: Mapped[str] = mapped_column(String(36))
    kind: Mapped[str] = mapped_column(String(20))
    subject: Mapped[str] = mapped_column(String(10))
    subject_id: Mapped[int] = mapped_column(BigInteger)
    last_line_id: Mapped[int | None] = mapped_column(BigInteger)
    before: Mapped[str | None] = mapped_column(Text)
    after: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        Index("chinook_sim_change_run", "run_id"),
        Index("chinook_sim_change_subject", "subject", "subject_id"),
        Index("chinook_sim_change_line", "last_line_id"),
    )


RUN = Run.__table__

CHANGE = Change.__table__

RANGE = RunInvoices.__table__
