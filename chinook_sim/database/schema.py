"""The Chinook of a database: its tables, its spelling, and where its ids come from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal, get_args

from chinook_sim.database.identifiers import Spelling, spell
from chinook_sim.models import (
    Base,
    Change,
    ChinookName,
    Customer,
    Invoice,
    InvoiceLine,
    Run,
    RunInvoices,
    Track,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date

    from sqlalchemy import Table


__all__ = [
    "CHINOOK_TABLES",
    "LARGEST_ID",
    "LEDGER_MARK",
    "LEDGER_TABLES",
    "MARK",
    "SALE_TABLES",
    "VERSION_TABLE",
    "Chinook",
    "IdSource",
    "SchemaCandidate",
    "TableRow",
    "chinook_names",
    "is_chinook_name",
    "ledger_state",
    "spellings_of",
]


SALE_TABLES = tuple(model.__table__ for model in (Customer, Track, Invoice, InvoiceLine))
"""The tables without which no sale can be made."""

CHINOOK_TABLES: tuple[Table, ...] = tuple(
    table for table in Base.metadata.sorted_tables if isinstance(table.name, ChinookName)
)
"""The eleven tables of Chinook, each after those it refers to."""


LEDGER_TABLES = tuple(str(model.__table__.name) for model in (Run, RunInvoices, Change))
"""The tables of the ledger. Without the first there is none; without others it is outdated."""

LARGEST_ID = 2**63 - 1
"""What SQLite's ids, and a column of type BIGINT, can hold."""

VERSION_TABLE = "chinook_sim_version"
"""Not Alembic's default name: the database may be under migrations of its owner's as well."""

MARK = "made by chinook_sim"
"""How the comment begins that PostgreSQL keeps with what a revision made."""

LEDGER_MARK = f"{MARK} for the schema "
"""How the comment of `VERSION_TABLE` begins where the ledger is in a schema of its own; the name of
the shop's schema follows. Several shops in one database so have a ledger each."""


@dataclass(frozen=True, slots=True)
class IdSource:
    """Where the ids of one table come from.

    Attributes:
        kind: `none`, the database gives no id and an insert must bring one; `sequence`, a
            PostgreSQL sequence (serial, identity, or one beside a plain column); `expression`,
            another default; `rowid`, SQLite.
        limit: the largest id the column, and the sequence where there is one, can hold.
        sequence: the sequence's qualified and quoted name, if any.
        bounded: whether the limit is the sequence's, and the column could hold larger ids.
        sequence_schema: its schema, quoted, if it is not the table's.
        expression: SQL that gives one id each time it is evaluated, if it is not `nextval` of a
            sequence that counts up.
        increment: the sequence's step.
        usable: whether we may call `nextval`.
        default: whether an insert without an id gets one.
        readable: whether we may read the table, and so see its highest id.
        always: GENERATED ALWAYS, so that an INSERT with an id must say OVERRIDING SYSTEM VALUE.
        lockable: whether we may lock the table against other writers.
    """

    kind: Literal["none", "sequence", "expression", "rowid"]
    limit: int
    sequence: str | None = None
    bounded: bool = False
    sequence_schema: str | None = None
    expression: str | None = None
    increment: int = 1
    usable: bool = True
    default: bool = True
    readable: bool = True
    always: bool = False
    lockable: bool = True

    @property
    def counted(self) -> bool:
        """Whether the next id is one more than the highest that was ever given."""
        return self.kind in ("none", "rowid")

    @property
    def shown(self) -> str:
        """Where the ids come from, for a person to read."""
        if self.kind == "sequence":
            return f"sequence {self.sequence}"
        if self.kind == "expression":
            return f"expression {self.expression}"
        return (
            "assigned by SQLite"
            if self.kind == "rowid"
            else "none: taken from the highest id, under a lock"
        )


@dataclass(frozen=True, slots=True)
class Chinook:
    """What one database's Chinook is like.

    Attributes:
        spelling: `camel` for `"Invoice"."InvoiceId"`, `snake` for `invoice.invoice_id`.
        schema: the PostgreSQL schema it is in; None on SQLite.
        visible: whether its tables are found without naming the schema.
        invoice_ids: where the ids of Invoice come from.
        line_ids: where the ids of InvoiceLine come from.
        customer_ids: where the ids of Customer come from.
        ledger: whether there is a ledger of ours for it.
        ledger_schema: the PostgreSQL schema of the ledger; None on SQLite.
        outdated_ledger: whether there is one that cannot be used, as some of its tables are
            missing: it is of an earlier release, or somebody dropped them.
        stray_ledger: a schema with a ledger but no Chinook, if there is no ledger here: the shop
            may have been moved out of it.
        row_security: tables for which row-level security may hide rows from the current role: of
            those that sales need, and of the ledger.
        today: the database's CURRENT_DATE when it was looked at.
        unusual_settings: whether session settings have to be pinned; see `session_settings`.
    """

    spelling: Spelling
    schema: str | None
    visible: bool
    invoice_ids: IdSource
    line_ids: IdSource
    customer_ids: IdSource
    ledger: bool
    ledger_schema: str | None
    outdated_ledger: bool
    stray_ledger: str | None
    row_security: tuple[str, ...]
    today: date
    unusual_settings: bool

    @property
    def unusable_ledger(self) -> bool:
        """Whether there is a ledger that has to be brought up to date, or moved, first."""
        return self.outdated_ledger or self.stray_ledger is not None

    @property
    def hidden_rows(self) -> str:
        """What to say where row-level security may hide rows."""
        return (
            f"row-level security on {', '.join(self.row_security)} may hide rows from this role; "
            "use a role with BYPASSRLS"
        )

    @property
    def other_defaults(self) -> str:
        """The expressions that ids of sales come from, which the SQL functions cannot take."""
        sources = (self.invoice_ids, self.line_ids)
        return " and ".join(it.expression for it in sources if it.expression)

    @property
    def ids_come_back(self) -> bool:
        """Whether ids are known only after an insert: columns give them, from what we may not."""
        return any(ids.default and not ids.usable for ids in (self.invoice_ids, self.line_ids))


@dataclass(frozen=True, slots=True)
class TableRow:
    """A table that has a name of Chinook's, as the database's catalogue has it."""

    schema: str | None
    table: str
    columns: frozenset[str]
    on_path: bool
    visible: bool
    ledger_schema: str | None
    ledger: bool
    outdated_ledger: bool
    stray_ledger: str | None
    row_security: tuple[str, ...]
    today: date
    unusual_settings: bool
    ids: IdSource | None


@dataclass(frozen=True, slots=True)
class SchemaCandidate:
    """A schema that holds tables with names of Chinook's, in one spelling."""

    schema: str | None
    spelling: Spelling
    on_path: bool
    visible: bool
    ledger_schema: str | None
    ledger: bool
    outdated_ledger: bool
    stray_ledger: str | None
    row_security: tuple[str, ...]
    today: date
    unusual_settings: bool
    columns: dict[str, frozenset[str]]
    ids: dict[str, IdSource]

    def spell(self, name: str) -> str:
        """Return a name of Chinook's in the spelling of this schema."""
        return spell(name, self.spelling)

    @property
    def separate_ledger(self) -> str | None:
        """The schema of the ledger, if it is not the shop's."""
        return None if self.ledger_schema == self.schema else self.ledger_schema

    def has(self, table: Table) -> bool:
        """Return whether a table is there, whatever its columns."""
        return self.spell(table.name) in self.columns

    def missing(self, tables: Iterable[Table]) -> tuple[str, ...]:
        """Name the tables, and columns of tables that are there, that are not found here."""
        absent = []
        for table in tables:
            present = self.columns.get(self.spell(table.name))
            if present is None:
                absent.append(self.spell(table.name))
            else:
                absent += [
                    f"{self.spell(table.name)}.{self.spell(column.name)}"
                    for column in table.columns
                    if self.spell(column.name) not in present
                ]
        return tuple(absent)

    def ids_of(self, table: Table) -> IdSource:
        """Return where the ids of a table come from; it has all its columns."""
        return self.ids[self.spell(table.name)]


@cache
def spellings_of(table: str) -> list[Spelling]:
    """Return the spellings in which Chinook has a table of this name."""
    return [
        spelling
        for spelling in get_args(Spelling)
        if any(table == spell(known.name, spelling) for known in CHINOOK_TABLES)
    ]


def is_chinook_name(table: str) -> bool:
    """Return whether Chinook has a table of this name, in one of its spellings."""
    return table in chinook_names()


def chinook_names() -> set[str]:
    """Return the names of Chinook's tables in every spelling."""
    return {
        spell(table.name, spelling) for table in CHINOOK_TABLES for spelling in get_args(Spelling)
    }


def ledger_state(tables: str | None) -> tuple[bool, bool]:
    """Return whether the ledger is there, and whether it is outdated, from the tables there are."""
    missing = set(LEDGER_TABLES) - set((tables or "").split(","))
    return not missing, bool(missing) and LEDGER_TABLES[0] not in missing
