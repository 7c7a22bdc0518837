"""The tables of the ledger: runs, the invoices they made, and what they changed.

The comments of tables and columns are also in revision 0009 and in docs/reference/ledger-tables.md.
A test compares them.
"""

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
    "CHANGE",
    "RANGE",
    "RUN",
    "Change",
    "CreatedTable",
    "Run",
    "RunInvoices",
]


class CreatedTable(Base):
    """A table or sequence that a migration made, so that a downgrade drops no others."""

    __tablename__ = "chinook_sim_created_table"

    name: Mapped[str] = mapped_column(
        String(63),
        primary_key=True,
        comment="the name, the primary key",
    )
    revision: Mapped[str] = mapped_column(String(32), comment="the revision that created it")

    __table_args__ = (
        {
            "comment": (
                "The tables and sequences that the migrations created, so that a downgrade drops "
                "no others."
            )
        },
    )


class _ActiveRunsIndex(Index):
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

    `run_id` is drawn before the batch, so that it can be looked for when the answer to COMMIT is
    lost.
    """

    __tablename__ = "chinook_sim_run"

    run_id: Mapped[str] = mapped_column(
        String(36),
        primary_key=True,
        comment="the primary key, a UUID",
    )
    kind: Mapped[str] = mapped_column(
        String(20),
        comment=(
            "generate; changes, without sales; live, of a stream; simulate_sales, the SQL "
            "function; align; or baseline, a row that the migration writes and that is no run"
        ),
    )
    key: Mapped[str | None] = mapped_column(
        String(200),
        comment=(
            "identifies a repeated request; unique for each kind among the runs that are not "
            "undone; NULL without a key"
        ),
    )
    day: Mapped[date | None] = mapped_column(
        comment="the day of the sales; the last day of the history after align",
    )
    timezone: Mapped[str | None] = mapped_column(
        String(64),
        comment="the zone that D-1 was taken from; NULL for that of the database",
    )
    requested: Mapped[int | None] = mapped_column(comment="the number of sales that was requested")
    seed: Mapped[int | None] = mapped_column(
        BigInteger,
        comment="the seed; NULL if the database's random() was used",
    )
    profile: Mapped[str | None] = mapped_column(
        String(200),
        comment="the name of the profile, for a file with a hash",
    )
    parameters: Mapped[str] = mapped_column(
        Text,
        server_default="{}",
        comment="what else was requested, as a JSON object",
    )
    parameters_hash: Mapped[str | None] = mapped_column(
        String(64),
        comment="SHA-256 of day, number, profile and parameters, in hexadecimal",
    )
    sales: Mapped[int] = mapped_column(
        server_default="0",
        comment="the number of sales that were made, or of invoices that align moved",
    )
    lines: Mapped[int] = mapped_column(
        BigInteger,
        server_default="0",
        comment="the number of tracks sold",
    )
    revenue: Mapped[Decimal] = mapped_column(
        LedgerMoney(14),
        server_default="0",
        comment="the sum of the totals",
    )
    digest: Mapped[str | None] = mapped_column(
        String(64),
        comment="the digest of the sales; NULL for align",
    )
    first_invoice_id: Mapped[int | None] = mapped_column(
        BigInteger,
        comment="the lowest id of the invoices",
    )
    last_invoice_id: Mapped[int | None] = mapped_column(
        BigInteger,
        comment="the highest id; in the row baseline, the highest id from before the ledger",
    )
    hours: Mapped[str] = mapped_column(
        Text,
        server_default="[]",
        comment="the number of sales in each hour of the day, as a JSON array",
    )
    created_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True),
        server_default=func.current_timestamp(),
        comment="when the transaction began, by the database's clock; in SQLite in UTC",
    )
    version: Mapped[str] = mapped_column(
        String(40),
        comment="the version of the library or of the SQL function",
    )
    undone_at: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True),
        comment="when the run was undone; NULL if it was not",
    )
    prices_known: Mapped[int | None] = mapped_column(
        BigInteger,
        comment=(
            "the change_id of the last change of a price that the run had seen; NULL if no price "
            "had ever changed"
        ),
    )

    # An undone run frees its key.
    __table_args__ = (
        _ActiveRunsIndex("chinook_sim_run_key", "kind", "key", unique=True),
        {"comment": "One row for each run. A live stream merges its runs, 500 into one."},
    )


class RunInvoices(Base):
    """The invoices of a run, as ranges of ids: those it made, or those that `align` moved.

    The invoice `id` is in a range if `id BETWEEN first_id AND last_id AND (id - first_id) % step
    = 0`. The rows of a run, in the order of `first_id`, are in the order of its sales.

    `chinook_sim.sales.fingerprints` explains the fingerprints. Those of an alignment have only the
    second of the day.
    """

    __tablename__ = "chinook_sim_run_invoices"

    run_id: Mapped[str] = mapped_column(
        String(36),
        primary_key=True,
        comment="the run; with first_id, the primary key",
    )
    first_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, comment="the first id")
    last_id: Mapped[int] = mapped_column(BigInteger, comment="the last id")
    step: Mapped[int] = mapped_column(
        BigInteger,
        server_default="1",
        comment="the difference between one id and the next",
    )
    fingerprints: Mapped[bytes | None] = mapped_column(
        LargeBinary,
        comment=(
            "16 bytes for each sale, a checksum of customer, timestamp, billing address and lines, "
            "by which verify finds the sale that was changed; NULL for runs from before revision "
            "0006"
        ),
    )

    __table_args__ = (
        Index("chinook_sim_run_invoices_id", "first_id", "last_id"),
        {
            "comment": (
                "The ids of the invoices of each run, as ranges: those that it made, or those that "
                "align moved. An invoice id is in a range if id BETWEEN first_id AND last_id AND "
                "(id - first_id) % step = 0. A range has at most 2,000 sales."
            )
        },
    )


class Change(Base):
    """What a run changed or deleted: one row for each thing, as it was and as it became.

    Of two changes of one subject, the later has the higher `change_id`. `last_line_id` is kept as
    the ids of lines that were cancelled are not given again.
    """

    __tablename__ = "chinook_sim_change"

    change_id: Mapped[int] = mapped_column(
        # In SQLite only an INTEGER numbers itself.
        BigInteger().with_variant(Integer, "sqlite"),
        Identity(),
        primary_key=True,
        comment="the primary key; rises",
    )
    run_id: Mapped[str] = mapped_column(String(36), comment="the run")
    kind: Mapped[str] = mapped_column(
        String(20),
        comment=(
            "update, a track was added to an invoice; cancellation, an invoice was deleted; "
            "sign-up, a new customer; move, another address of a customer; price, another price of "
            "a track; price undone, its old price again"
        ),
    )
    subject: Mapped[str] = mapped_column(String(10), comment="invoice, customer or track")
    subject_id: Mapped[int] = mapped_column(BigInteger, comment="its id")
    last_line_id: Mapped[int | None] = mapped_column(
        BigInteger,
        comment="the highest id of the invoice's lines before; NULL for other subjects",
    )
    before: Mapped[str | None] = mapped_column(
        Text,
        comment=(
            'its rows before, with all columns, as JSON: {"Invoice": [row], "InvoiceLine": [row, '
            '...]}, {"Customer": [row]} or {"Track": [row]}; NULL if it is new'
        ),
    )
    after: Mapped[str | None] = mapped_column(
        Text,
        comment="the same after; NULL if it was deleted",
    )

    __table_args__ = (
        Index("chinook_sim_change_run", "run_id"),
        Index("chinook_sim_change_subject", "subject", "subject_id"),
        Index("chinook_sim_change_line", "last_line_id"),
        {
            "comment": (
                "What runs changed or deleted: one row for each invoice, customer or track, before "
                "and after."
            )
        },
    )


RUN = Run.__table__

CHANGE = Change.__table__

RANGE = RunInvoices.__table__
