"""The Chinook of a database: its tables, their names, and where its ids come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from chinook_sim.dates import zone_of
from chinook_sim.errors import InvalidInput
from chinook_sim.models import Change, Run, RunInvoices

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import date, tzinfo

    from sqlalchemy import Table

    from chinook_sim.database.names import NameMap, Spelling

__all__ = [
    "LARGEST_ID",
    "LEDGER_MARK",
    "LEDGER_TABLES",
    "MARK",
    "TIMESTAMPTZ",
    "VERSION_TABLE",
    "Chinook",
    "ColumnType",
    "IdSource",
    "SchemaCandidate",
    "TableRow",
    "ledger_state",
]


LEDGER_TABLES = tuple(str(model.__table__.name) for model in (Run, RunInvoices, Change))
"""The tables of the ledger. Without the first there is none; without others it is outdated."""

LARGEST_ID = 2**63 - 1
"""What SQLite's ids, and a column of type BIGINT, can hold."""

VERSION_TABLE = "chinook_sim_version"
"""Not Alembic's default name: the database may be under migrations of its owner's as well."""

TIMESTAMPTZ = "timestamp with time zone"
"""The type of dates that are kept with a time zone, as PostgreSQL writes it."""

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
        names: what it calls the tables and columns of Chinook.
        schema: the PostgreSQL schema it is in; None on SQLite.
        visible: whether its tables are found without naming the schema.
        invoice_ids: where the ids of Invoice come from.
        line_ids: where the ids of InvoiceLine come from.
        customer_ids: where the ids of Customer come from.
        ledger: whether there is a ledger of ours for it.
        ledger_schema: the PostgreSQL schema of the ledger; None on SQLite.
        outdated_ledger: whether there is one that cannot be used, as some of its tables are
            missing: it is at an earlier revision, or somebody dropped them.
        stray_ledger: a schema with a ledger but no Chinook, if there is no ledger here: the shop
            may have been moved out of it.
        row_security: tables for which row-level security may hide rows from the current role: of
            those that sales need, and of the ledger.
        today: the database's CURRENT_DATE when it was looked at.
        unusual_settings: whether session settings have to be pinned; see `session_settings`.
        timezone: the time zone of the sales, if InvoiceDate is a timestamptz: the one that is
            recorded in the ledger, or the session's without a ledger; None otherwise.
    """

    names: NameMap
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
    timezone: str | None

    @property
    def zone(self) -> tzinfo | None:
        """The time zone as a tzinfo, or None if Python does not know it."""
        try:
            return None if self.timezone is None else zone_of(self.timezone)
        except InvalidInput:
            return None

    @property
    def spelling(self) -> Spelling | None:
        """`camel` for `"Invoice"."InvoiceId"`, `snake` for `invoice.invoice_id`, or None."""
        return self.names.spelling

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


class ColumnType(NamedTuple):
    """The type of a column.

    Attributes:
        name: of the type, of a domain that of the type that it is made of; in SQLite as declared.
        scale: digits after the point of a numeric type that has a limit.
        required: whether an insert must give it a value.
        generated: whether it is computed from other columns, so that no value can be given.
    """

    name: str
    scale: int | None
    required: bool
    generated: bool = False


@dataclass(frozen=True, slots=True)
class TableRow:
    """A table with a name that one of Chinook's may have, as the database's catalogue has it.

    Attributes:
        columns: its columns, by name.
        foreign_keys: by column, the tables in the same schema that it refers to; None for a table
            in another schema.
        ids: by column that may be its key, where its ids come from.
        on_path: whether its schema is on the search path.
        visible: whether it, and the ledger, are found without naming the schema.
        hides_rows: whether row-level security may hide rows of it from the current role.
        hidden_ledger: tables of the ledger for which it may.

    The others are those of `Chinook`.
    """

    schema: str | None
    table: str
    columns: Mapping[str, ColumnType]
    foreign_keys: Mapping[str, frozenset[str | None]]
    ids: Mapping[str, IdSource]
    on_path: bool
    visible: bool
    ledger_schema: str | None
    ledger: bool
    outdated_ledger: bool
    stray_ledger: str | None
    hides_rows: bool
    hidden_ledger: tuple[str, ...]
    today: date
    unusual_settings: bool


@dataclass(frozen=True, slots=True)
class SchemaCandidate:
    """A schema that holds tables of a Chinook.

    Attributes:
        names: of what was found.
        ids: where the ids of the tables come from, by their names in `models`.
        types: the types of the columns that were found, by their keys in `names`.
        required: by table, the user's NOT NULL columns that have no default.
        unclear: by key, the columns that match equally well.
        conflict: the foreign key that rules a complete set of sale tables out, for messages.

    The others are those of `Chinook`.
    """

    schema: str | None
    names: NameMap
    ids: Mapping[str, IdSource]
    types: Mapping[str, ColumnType]
    required: Mapping[str, Sequence[str]]
    unclear: Mapping[str, Sequence[str]]
    conflict: str | None
    on_path: bool
    visible: bool
    ledger_schema: str | None
    ledger: bool
    outdated_ledger: bool
    stray_ledger: str | None
    row_security: tuple[str, ...]
    today: date
    unusual_settings: bool

    @property
    def separate_ledger(self) -> str | None:
        """The schema of the ledger, if it is not the shop's."""
        return None if self.ledger_schema == self.schema else self.ledger_schema

    def has(self, table: str) -> bool:
        """Return whether a table of Chinook's is there, whatever its columns."""
        return table in self.names

    def missing(self, tables: Iterable[Table]) -> tuple[str, ...]:
        """Name the tables, and columns of tables that are there, that are not found here."""
        absent = []
        for table in tables:
            name = self.names.completed[table.name]
            if self.has(table.name):
                absent += [
                    f"{name}.{self.names.completed[column.name]}"
                    for column in table.columns
                    if column.name not in self.names
                ]
            else:
                absent.append(name)
        return tuple(absent)

    def ids_of(self, table: str) -> IdSource:
        """Return where the ids of a table of Chinook's come from; it has all its columns."""
        return self.ids[table]


def ledger_state(tables: str | None) -> tuple[bool, bool]:
    """Return whether the ledger is there, and whether it is outdated, from the tables there are."""
    missing = set(LEDGER_TABLES) - set((tables or "").split(","))
    return not missing, bool(missing) and LEDGER_TABLES[0] not in missing
