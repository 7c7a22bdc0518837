"""Which Chinook is this? Its spelling, its schema, and where its ids come from.

`recognise(connection)` is the only place that finds these out, with one query of the catalogue.
Where the database spells its names otherwise than `models`, or keeps its tables off the search
path, it also teaches the engine to write them that way, so that `select(Invoice)` and the unit of
work of any session of that engine just work.

How: the engine gets a copy of its dialect whose identifier preparer renders each `ChinookName` in
the database's spelling and puts the schema before our tables. The copy matters: SQLAlchemy caches
compiled statements by dialect, so nothing compiled for the old spelling can be used again. Only
this engine changes, and on it only names of ours.
"""

from __future__ import annotations

import copy
import logging
import re
from collections import defaultdict
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, get_args

from sqlalchemy import Connection, Engine, Table, bindparam, text
from sqlalchemy.orm import Session, scoped_session
from sqlalchemy.sql.compiler import IdentifierPreparer

from chinook_sim.errors import DatabaseUnavailable, InvalidInput, NotAChinook
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
from chinook_sim.pinned import UNUSUAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Dialect, TextClause

__all__ = [
    "CHINOOK_TABLES",
    "LEDGER_MARK",
    "SALE_TABLES",
    "SPELLING_NAMES",
    "VERSION_TABLE",
    "Chinook",
    "IdSource",
    "Place",
    "Spelling",
    "chinook_names",
    "connection_of",
    "hidden",
    "is_chinook_name",
    "place_of",
    "printing",
    "quoted",
    "recognise",
    "speak",
    "sql_text",
    "survey",
]

logger = logging.getLogger(__name__)

Spelling = Literal["camel", "snake"]

SPELLING_NAMES: dict[Spelling, str] = {"camel": "CamelCase", "snake": "snake_case"}
"""What people call the spellings."""

SALE_TABLES = tuple(model.__table__ for model in (Customer, Track, Invoice, InvoiceLine))
"""The tables without which no sale can be made."""

CHINOOK_TABLES: tuple[Table, ...] = tuple(
    table for table in Base.metadata.sorted_tables if isinstance(table.name, ChinookName)
)
"""The eleven tables of Chinook, each after those it refers to."""

LEDGER_TABLES = tuple(str(model.__table__.name) for model in (Run, RunInvoices, Change))
"""The tables of the ledger. Without the first there is none; without others it is outdated."""

VERSION_TABLE = "chinook_sim_version"
"""Not Alembic's default name: the database may be under migrations of its owner's as well."""

LEDGER_MARK = "made by chinook_sim for the schema "
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
            "SQLite's own"
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
        today: the database's CURRENT_DATE when it was looked at.
        unusual_settings: whether session settings have to be pinned; see `pinned`.
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
    today: date
    unusual_settings: bool

    @property
    def other_defaults(self) -> str:
        """The expressions that ids of sales come from, which the SQL functions cannot take."""
        sources = (self.invoice_ids, self.line_ids)
        return " and ".join(it.expression for it in sources if it.expression)

    @property
    def ids_come_back(self) -> bool:
        """Whether ids are known only after an insert: columns give them, from what we may not."""
        return any(ids.default and not ids.usable for ids in (self.invoice_ids, self.line_ids))


def recognise(bind: Session | scoped_session[Session] | Engine | Connection) -> Chinook:
    """Find out which Chinook a database holds, and let the engine speak its spelling.

    Call it when you only want to query a snake_case Chinook, or one that is not on the search
    path, with the classes of `chinook_sim`; whatever writes sales calls it itself.

    Args:
        bind: a session, a connection, or an engine, on which a connection is opened for it.

    Raises:
        NotAChinook: a table or column that sales need is missing, or there are several Chinooks
            and none comes first on the search path.
        DatabaseUnavailable: the database is neither PostgreSQL nor SQLite.
        InvalidInput: it is none of these, or its tables are renamed by `schema_translate_map`.
    """
    if isinstance(bind, Engine):
        with bind.connect() as connection:
            return recognise(connection)
    if isinstance(bind, Session | scoped_session):
        connection = _connection_of(bind)
    elif isinstance(bind, Connection):
        connection = bind
    else:
        raise InvalidInput(
            f"expected a Session, a Connection or an Engine, got {type(bind).__name__}"
        )
    _refuse_translation(connection)
    try:
        place = _choose(survey(connection))
    except NotAChinook as error:
        grant = hidden(connection)
        said = f"{error}: {grant}" if grant else str(error)
        if connection.dialect.name == "postgresql":
            # A URL without a database means one with the name of the role.
            said = f"database {connection.scalar(text('SELECT current_database()'))}: {said}"
        raise NotAChinook(said, missing=error.missing) from None
    schema = None if place.visible else place.schema
    speak(connection, place.spelling, schema, place.separate_ledger or schema)
    chinook = Chinook(
        place.spelling,
        place.schema,
        place.visible,
        place.ids_of(Invoice.__table__),
        place.ids_of(InvoiceLine.__table__),
        place.ids_of(Customer.__table__),
        place.ledger,
        place.ledger_schema,
        place.outdated_ledger,
        place.today,
        place.unusual_settings,
    )
    logger.debug(
        "recognised a Chinook: %s names, schema %s, ids of invoices: %s, ids of lines: %s, %s",
        SPELLING_NAMES[chinook.spelling],
        chinook.schema,
        chinook.invoice_ids.shown,
        chinook.line_ids.shown,
        "with a ledger" if chinook.ledger else "without a ledger",
    )
    return chinook


def place_of(connection: Connection) -> Place | None:
    """Return where the Chinook is, or what there is of one, or None where there is nothing of it.

    Raises:
        NotAChinook: there are several, as for `recognise`.
    """
    places = survey(connection)
    if any(not place.missing(SALE_TABLES) for place in places):
        return _choose(places)
    return max(places, key=lambda place: len(place.columns), default=None)


def connection_of(session: Session) -> Connection:
    """Return the connection on which a session keeps the tables of Chinook, to write on it.

    Raises:
        InvalidInput: it is no session; or its connection has no transactions.
    """
    check_session(session)
    connection = _connection_of(session)
    refuse_autocommit(connection)
    return connection


def _connection_of(session: Session | scoped_session[Session]) -> Connection:
    return session.connection(bind_arguments={"mapper": Invoice})


def refuse_autocommit(connection: Connection) -> None:
    """Refuse a connection that commits every statement.

    Raises:
        InvalidInput: it is one.
    """
    driver: Any = connection.connection.dbapi_connection
    # Other values than True are those of sqlite3, where we begin the transaction.
    if getattr(driver, "autocommit", False) is True:
        raise InvalidInput(
            "the connection is in AUTOCOMMIT mode, and a transaction is needed; use an engine with "
            "another isolation level"
        )


def _refuse_translation(connection: Connection) -> None:
    """Refuse a connection that renders our tables in another schema than the one we look in."""
    translated: Any = connection.get_execution_options().get("schema_translate_map") or {}
    if translated.get(None) is not None:
        raise InvalidInput(
            f"schema_translate_map to {translated[None]!r} is not supported; use an engine whose "
            "search_path begins with that schema"
        )


def check_session(session: object) -> None:
    """Refuse what is no session.

    Raises:
        InvalidInput: it is something else, such as asyncio's session, a connection or an engine.
    """
    if not isinstance(session, Session | scoped_session):
        raise InvalidInput(
            f"expected a Session, got {type(session).__name__}; pass `Session(engine)`, or from "
            "asyncio `await session.run_sync(generate_d1, …)`"
        )


def check_engine(engine: object) -> None:
    """Refuse what is no engine.

    Raises:
        InvalidInput: it is something else, such as asyncio's engine, or a connection.
    """
    if not isinstance(engine, Engine):
        raise InvalidInput(
            f"expected an Engine, got {type(engine).__name__}; pass what "
            "`sqlalchemy.create_engine` returns"
        )


def check_connection(connection: object) -> None:
    """Refuse what is no connection.

    Raises:
        InvalidInput: it is something else, such as a session or an engine.
    """
    if not isinstance(connection, Connection):
        raise InvalidInput(
            f"expected a Connection, got {type(connection).__name__}; pass `session.connection()` "
            "or `engine.connect()`"
        )


def quoted(connection: Connection, *names: Table | str) -> str:
    """Render tables and column names as SQL in the connection's spelling, joined by commas.

    The result is plain SQL, as the server reads it. Pass a statement that contains it to `sql_text`
    or, through psycopg's own cursor, to a call without parameters. Do not pass it to `text`.
    """
    preparer = connection.dialect.identifier_preparer
    rendered = ", ".join(
        preparer.format_table(name) if isinstance(name, Table) else preparer.quote(name)
        for name in names
    )
    # The preparer doubles percent signs for drivers that use them for parameters. So does `text`.
    return rendered.replace("%%", "%") if preparer._double_percents else rendered


_QUOTED = re.compile(
    r"""
      "[^"]*"                                           # a name; a doubled quote is two of these
    | '[^']*'                                           # a string
    | --[^\n]*                                          # a comment
    | (?<![\w$]) \$ (?P<tag>([^\W\d]\w*)?) \$ .*? \$ (?P=tag) \$  # a string between dollar signs
    """,
    re.VERBOSE | re.DOTALL,
)


def sql_text(statement: str) -> TextClause:
    """Return a statement that contains names of the database's, for `execute`.

    A colon begins a parameter only outside of quotes. `sqlalchemy.text` looks for parameters in
    quoted names, strings and comments too: the schema `"shop :x"` would be one with a parameter.

    Args:
        statement: plain SQL: names as `quoted` and PostgreSQL's quote_ident render them, percent
            signs not doubled, parameters as `:name`.
    """
    return text(_QUOTED.sub(lambda part: part[0].replace(":", r"\:"), statement))


def printing(dialect: Dialect) -> Dialect:
    """Return a copy of a dialect that compiles statements to be printed, and not to be executed.

    Percent signs in these are not doubled.
    """
    preparer = copy.copy(dialect.identifier_preparer)
    # The names that it has quoted so far are kept with their percent signs doubled.
    preparer.__dict__.update(_double_percents=False, _strings={})
    printed = copy.copy(dialect)
    printed.identifier_preparer = preparer
    return printed


def speak(
    connection: Connection, spelling: Spelling, schema: str | None, ledger_schema: str | None
) -> None:
    """Make a connection's engine write names of Chinook in a spelling, and in schemas if given."""
    current = connection.dialect.identifier_preparer
    spoken = (
        (current.spelling, current.schema, current.ledger_schema)
        if isinstance(current, _ChinookPreparer)
        else ("camel", None, None)
    )
    if spoken == (spelling, schema, ledger_schema):
        return
    dialect = copy.copy(connection.dialect)
    dialect.identifier_preparer = _preparer_for(current, spelling, schema, ledger_schema)
    # The connection took its dialect from the engine when it was opened: both, or they disagree.
    connection.engine.dialect = connection.dialect = dialect


class _ChinookPreparer(IdentifierPreparer):
    """Mixed into a dialect's own preparer; see the module's docstring."""

    spelling: Spelling
    schema: str | None
    ledger_schema: str | None

    def quote(self, ident: str) -> str:
        return super().quote(_spell(ident, self.spelling))

    def schema_for_object(self, obj: Any) -> str | None:  # type: ignore[override]
        schema: str | None = obj.schema
        # What is selected from may also be an alias, which is in no metadata.
        if schema is None and getattr(obj, "metadata", None) is Base.metadata:
            chinooks = isinstance(obj.name, ChinookName) or not isinstance(obj, Table)
            return self.schema if chinooks else self.ledger_schema
        return schema

    def _with_schema_translate(self, schema_translate_map: Any) -> Any:
        """Leave our tables where they are; the user's map is for others."""
        translating: Any = super()._with_schema_translate(schema_translate_map)  # type: ignore[no-untyped-call]
        theirs = translating.schema_for_object

        def schema_for_object(obj: Any) -> str | None:
            schema: str | None = self.schema_for_object(obj) if obj.schema is None else None
            return schema or theirs(obj)

        translating.schema_for_object = schema_for_object
        return translating


def _preparer_for(
    current: IdentifierPreparer, spelling: Spelling, schema: str | None, ledger_schema: str | None
) -> IdentifierPreparer:
    own = type(current)
    if not issubclass(own, _ChinookPreparer):
        own = type(f"Chinook{own.__name__}", (_ChinookPreparer, own), {})
    preparer = own.__new__(own)
    preparer.__dict__.update(
        current.__dict__,
        spelling=spelling,
        schema=schema,
        ledger_schema=ledger_schema,
        _strings={},
    )
    return preparer


@dataclass(frozen=True, slots=True)
class _Column:
    """One column of a table that has a name of Chinook's, as the database's catalogue tells it."""

    schema: str | None
    table: str
    column: str
    on_path: bool
    visible: bool
    ledger_schema: str | None
    ledger: bool
    outdated_ledger: bool
    today: date
    unusual_settings: bool
    ids: IdSource


@dataclass(frozen=True, slots=True)
class Place:
    """A schema that holds tables with names of Chinook's, in one spelling."""

    schema: str | None
    spelling: Spelling
    on_path: bool
    visible: bool
    ledger_schema: str | None
    ledger: bool
    outdated_ledger: bool
    today: date
    unusual_settings: bool
    columns: dict[str, dict[str, IdSource]]

    def spell(self, name: str) -> str:
        """Return a name of Chinook's as this place spells it."""
        return _spell(name, self.spelling)

    @property
    def separate_ledger(self) -> str | None:
        """The schema of the ledger, if it is not the shop's."""
        return None if self.ledger_schema == self.schema else self.ledger_schema

    def has(self, table: Table) -> bool:
        """Tell whether a table is there, whatever its columns."""
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
        """Return where the ids of a table come from."""
        (key,) = table.primary_key.columns
        return self.columns[self.spell(table.name)][self.spell(key.name)]


def survey(connection: Connection) -> list[Place]:
    """List the places that hold tables with names of Chinook's, those first that are found first.

    Raises:
        DatabaseUnavailable: the database is neither PostgreSQL nor SQLite.
    """
    match connection.dialect.name:
        case "postgresql":
            rows = _postgresql_columns(connection)
        case "sqlite":
            rows = _sqlite_columns(connection)
        case other:
            raise DatabaseUnavailable(
                f"{other} is not supported; use a PostgreSQL or a SQLite database"
            )
    found: dict[tuple[str | None, Spelling], list[_Column]] = defaultdict(list)
    for row in rows:
        for spelling in _spellings(row.table):
            found[row.schema, spelling].append(row)
    return [_place(spelling, columns) for (_, spelling), columns in found.items()]


def _place(spelling: Spelling, found: Sequence[_Column]) -> Place:
    columns: dict[str, dict[str, IdSource]] = defaultdict(dict)
    for row in found:
        columns[row.table][row.column] = row.ids
    return Place(
        found[0].schema,
        spelling,
        on_path=found[0].on_path,
        # One table behind a temporary one of the same name, and all need their schema.
        visible=all(row.visible for row in found),
        ledger_schema=found[0].ledger_schema,
        ledger=found[0].ledger,
        outdated_ledger=found[0].outdated_ledger,
        today=found[0].today,
        unusual_settings=found[0].unusual_settings,
        columns=columns,
    )


def _spell(name: str, spelling: Spelling) -> str:
    return name.snake if spelling == "snake" and isinstance(name, ChinookName) else name


@cache
def _spellings(table: str) -> list[Spelling]:
    """Return the spellings in which Chinook has a table of this name."""
    return [
        spelling
        for spelling in get_args(Spelling)
        if any(table == _spell(known.name, spelling) for known in CHINOOK_TABLES)
    ]


def is_chinook_name(table: str) -> bool:
    """Tell whether Chinook has a table of this name, in one of its spellings."""
    return table in chinook_names()


def chinook_names() -> set[str]:
    """Return the names of Chinook's tables in every spelling."""
    return {
        _spell(table.name, spelling) for table in CHINOOK_TABLES for spelling in get_args(Spelling)
    }


def _choose(places: Sequence[Place]) -> Place:
    whole = [place for place in places if not place.missing(SALE_TABLES)]
    if not whole:
        raise _nothing_here(places)
    # The search path decides, as it would for a statement; without it only one may be there.
    first = [place for place in whole if place.on_path and place.schema == whole[0].schema] or whole
    if len(first) > 1:
        where = ", ".join(
            f"{place.schema or 'main'} ({place.spell(Invoice.__table__.name)})" for place in first
        )
        raise NotAChinook(
            f"there are {len(first)} Chinooks in this database: {where}; "
            "set the search_path to the schema that holds the one you mean, alone"
        )
    return first[0]


def _nothing_here(places: Sequence[Place]) -> NotAChinook:
    if not places:
        missing = tuple(table.name for table in SALE_TABLES)
        return NotAChinook(
            f"no Chinook in this database: it has no table {', '.join(missing)}; "
            "`chinook-sim init` makes one in an empty database",
            missing=missing,
        )
    missing = min((place.missing(SALE_TABLES) for place in places), key=len)
    return NotAChinook(
        f"incomplete Chinook: {', '.join(missing)} not found; "
        "`alembic upgrade head` creates missing tables, and alters no existing ones",
        missing=missing,
    )


_POSTGRESQL_COLUMNS = text(
    """
    SELECT n.nspname AS schema, c.relname AS table_name, a.attname AS column_name,
           n.nspname = ANY (current_schemas(false)) AS on_path,
           pg_catalog.pg_table_is_visible(c.oid)
           AND ledger.visible AS visible, ledger.tables AS ledger_tables,
           coalesce(apart.nspname, n.nspname) AS ledger_schema,
           to_char(CAST(CURRENT_DATE AS timestamp), 'YYYY-MM-DD') AS today,
           """  # noqa: S608
    + UNUSUAL
    + """ AS unusual_settings,
           a.attidentity = 'a' AS always,
           CASE coalesce(nullif(y.typbasetype, 0), y.oid)
                WHEN 'int2'::regtype THEN 32767 WHEN 'int4'::regtype THEN 2147483647
                ELSE 9223372036854775807 END AS column_limit,
           quote_ident(home.nspname) || '.' || quote_ident(maker.relname) AS sequence,
           CASE WHEN home.oid <> n.oid THEN quote_ident(home.nspname) END AS sequence_schema,
           s.seqmax, s.seqincrement,
           CASE WHEN s.seqincrement < 0
                THEN format('nextval(%L::regclass)', CAST(s.seqrelid AS regclass))
                ELSE other.expression END AS expression,
           has_sequence_privilege(s.seqrelid, 'USAGE') AS usable,
           source.oid IS NOT NULL AS has_default,
           has_table_privilege(c.oid, 'SELECT') AS readable,
           has_table_privilege(c.oid, 'UPDATE, DELETE, TRUNCATE') AS lockable
      FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      JOIN pg_catalog.pg_type y ON y.oid = a.atttypid
      LEFT JOIN pg_catalog.pg_attrdef f
        ON f.adrelid = c.oid AND f.adnum = a.attnum AND a.attgenerated = ''
      LEFT JOIN LATERAL (
           -- a call of something, and not a constant
           SELECT pg_catalog.pg_get_expr(f.adbin, f.adrelid) AS expression) told
        ON told.expression LIKE '%(%'
      LEFT JOIN LATERAL (
           -- an identity column owns its sequence; a serial column's default is nextval of one
           SELECT d.objid AS oid FROM pg_catalog.pg_depend d
            WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
              AND d.refobjid = c.oid AND d.refobjsubid = a.attnum AND d.deptype = 'i'
           UNION ALL
           SELECT d.refobjid FROM pg_catalog.pg_depend d
             JOIN pg_catalog.pg_class q ON q.oid = d.refobjid AND q.relkind = 'S'
            WHERE d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
              AND d.refclassid = 'pg_class'::regclass
              -- a setting puts quotes around every name
              AND replace(told.expression, '"', '')
                  ~ '^nextval[(]E?''([^'']|'''')*''::regclass[)]$'
           LIMIT 1) source ON true
      LEFT JOIN LATERAL (
           SELECT told.expression WHERE source.oid IS NULL) other ON true
      -- a plain id column has no source, but may have a sequence beside it: ours, or the one of
      -- another program that numbers invoices
      LEFT JOIN pg_catalog.pg_class beside ON beside.relkind = 'S'
       AND source.oid IS NULL AND other.expression IS NULL
       AND beside.relnamespace = c.relnamespace AND beside.relname =
           CASE WHEN (c.relname, a.attname) IN (('Invoice', 'InvoiceId'), ('invoice', 'invoice_id'))
                THEN 'invoice_id_seq'
                WHEN (c.relname, a.attname) IN (('InvoiceLine', 'InvoiceLineId'),
                                                ('invoice_line', 'invoice_line_id'))
                THEN 'invoice_line_id_seq' END
      LEFT JOIN pg_catalog.pg_sequence s ON s.seqrelid = coalesce(source.oid, beside.oid)
      LEFT JOIN pg_catalog.pg_class maker ON maker.oid = s.seqrelid
      LEFT JOIN pg_catalog.pg_namespace home ON home.oid = maker.relnamespace
      -- a ledger in a schema of its own has a table that names the shop's schema in its comment
      LEFT JOIN (
           SELECT DISTINCT ON (told) h.oid, h.nspname,
                  pg_catalog.obj_description(m.oid, 'pg_class') AS told
             FROM pg_catalog.pg_class m JOIN pg_catalog.pg_namespace h ON h.oid = m.relnamespace
            WHERE m.relname = :marker AND m.relkind = 'r'
            ORDER BY told, h.nspname) apart
        ON apart.told = CAST(:mark AS text) || n.nspname
     CROSS JOIN LATERAL (
           SELECT string_agg(l.relname, ',') AS tables,
                  coalesce(bool_and(pg_catalog.pg_table_is_visible(l.oid)
                                    OR apart.oid IS NOT NULL), true) AS visible
             FROM pg_catalog.pg_class l
            WHERE l.relnamespace = coalesce(apart.oid, c.relnamespace) AND l.relkind = 'r'
              AND l.relname IN :ledger) ledger
     WHERE c.relkind IN ('r', 'p') AND c.relname IN :names
       AND left(n.nspname, 3) <> 'pg_' AND n.nspname <> 'information_schema'
       AND has_schema_privilege(n.oid, 'USAGE')
     ORDER BY array_position(current_schemas(false), n.nspname) NULLS LAST, n.nspname, a.attnum
    """
).bindparams(
    bindparam("names", expanding=True),
    bindparam("ledger", LEDGER_TABLES, expanding=True),
    bindparam("marker", VERSION_TABLE),
    bindparam("mark", LEDGER_MARK),
)


_CLOSED_SCHEMA = text(
    """
    SELECT quote_ident(n.nspname) FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p') AND c.relname IN :names
       AND NOT has_schema_privilege(n.oid, 'USAGE')
     GROUP BY 1 ORDER BY count(*) DESC LIMIT 1
    """
).bindparams(bindparam("names", expanding=True))


def hidden(connection: Connection) -> str | None:
    """Return the GRANT that shows a schema with tables of Chinook, if one is closed to us."""
    if connection.dialect.name != "postgresql":
        return None
    schema = connection.scalar(_CLOSED_SCHEMA, {"names": list(chinook_names())})
    role = connection.scalar(text("SELECT quote_ident(current_user)"))
    return None if schema is None else f"GRANT USAGE ON SCHEMA {schema} TO {role} may show it"


def _postgresql_columns(connection: Connection) -> Iterable[_Column]:
    for row in connection.execute(_POSTGRESQL_COLUMNS, {"names": list(chinook_names())}):
        if row.expression is not None:
            ids = IdSource(
                "expression", row.column_limit, expression=row.expression, always=row.always
            )
        elif row.sequence is None:
            ids = IdSource(
                "none",
                row.column_limit,
                default=False,
                readable=row.readable,
                lockable=row.lockable,
            )
        else:
            ids = IdSource(
                "sequence",
                min(row.column_limit, row.seqmax),
                sequence=row.sequence,
                bounded=row.seqmax < row.column_limit,
                sequence_schema=row.sequence_schema,
                increment=row.seqincrement,
                usable=row.usable,
                default=row.has_default,
                readable=row.readable,
                always=row.always,
            )
        yield _Column(
            row.schema,
            row.table_name,
            row.column_name,
            row.on_path,
            row.visible,
            row.ledger_schema,
            *_ledger(row.ledger_tables),
            date.fromisoformat(row.today),
            row.unusual_settings,
            ids,
        )


def _ledger(tables: str | None) -> tuple[bool, bool]:
    """Tell whether the ledger is there, and whether it is outdated, from the tables there are."""
    missing = set(LEDGER_TABLES) - set((tables or "").split(","))
    return not missing, bool(missing) and LEDGER_TABLES[0] not in missing


# SQLite compares names without regard to case, so a table is looked for in lower case and reported
# as Chinook spells it.
_SQLITE_COLUMNS = text(
    """
    SELECT t.name AS table_name, c.name AS column_name,
           (SELECT group_concat(l.name) FROM sqlite_master l
             WHERE l.type = 'table' AND l.name IN :ledger) AS ledger_tables,
           CURRENT_DATE AS today
      FROM sqlite_master t, pragma_table_info(t.name) c
     WHERE t.type = 'table' AND lower(t.name) IN :names ORDER BY t.name, c.cid
    """
).bindparams(
    bindparam("names", expanding=True),
    bindparam("ledger", LEDGER_TABLES, expanding=True),
)


@cache
def _lowered() -> dict[str, list[str]]:
    """Return the names of Chinook's tables and columns in every spelling, by lower case."""
    known: dict[str, set[str]] = defaultdict(set)
    for table in CHINOOK_TABLES:
        for name in (table.name, *(column.name for column in table.columns)):
            for spelling in get_args(Spelling):
                spelled = _spell(name, spelling)
                known[spelled.lower()].add(spelled)
    return {lower: sorted(names) for lower, names in known.items()}


def _sqlite_columns(connection: Connection) -> Iterable[_Column]:
    known = _lowered()
    ids = IdSource("rowid", 2**63 - 1)
    # One name may be right in both spellings (Album, album): it is reported in each.
    for row in connection.execute(_SQLITE_COLUMNS, {"names": list(known)}):
        today = date.fromisoformat(row.today)
        for name in known[row.table_name.lower()]:
            for column in known.get(row.column_name.lower(), [row.column_name]):
                yield _Column(
                    None,
                    name,
                    column,
                    True,
                    True,
                    None,
                    *_ledger(row.ledger_tables),
                    today,
                    False,
                    ids,
                )
