"""Names as SQL: those of the database, its schema, and quoting.

If the names of a database differ from those in `models`, or its tables are off the search path,
`apply_names` makes the engine render them as the database has them. So `select(Invoice)` and the
unit of work of any session of that engine work.

The engine gets a copy of its dialect, whose identifier preparer looks each `ChinookName` up in the
`NameMap` of the database and puts the schema before our tables. It is a copy because SQLAlchemy
caches compiled statements by dialect: nothing that was compiled for other names can be used again.
Only this engine changes, and on it only names of ours.
"""

from __future__ import annotations

import copy
import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Table, text
from sqlalchemy.sql.compiler import IdentifierPreparer

from chinook_sim.database.names import SPELLINGS, NameMap
from chinook_sim.models import Base, ChinookName

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Dialect, TextClause

__all__ = ["apply_names", "json_value", "literal", "plain", "printing", "quoted", "sql_text"]


def quoted(connection: Connection, *names: Table | str) -> str:
    """Render tables and column names as SQL, as the database has them, joined by commas.

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


def plain(connection: Connection, name: str) -> str:
    """Return the name that the database has for a table or column, without quotes."""
    preparer = connection.dialect.identifier_preparer
    return preparer.actual(name) if isinstance(preparer, _ChinookPreparer) else name


def literal(text: str) -> str:
    """Return a text as a string in SQL."""
    return "'" + text.replace("'", "''") + "'"


def json_value(document: str, *path: str | int) -> str:
    """Return SQLite's expression for a value in a JSON document.

    Args:
        document: an expression.
        path: names and positions; the last is a name, which may be any.
    """
    *steps, name = path
    if '"' in str(name):
        # SQLite before 3.45 reads no escaped quote in a path.
        found = f"json_each({document}, {_json_path(steps)})"
        return f"(SELECT value FROM {found} WHERE key = {literal(str(name))})"  # noqa: S608
    return f"json_extract({document}, {_json_path(path)})"


def _json_path(path: Sequence[str | int]) -> str:
    steps = [
        f"[{it}]" if isinstance(it, int) else "." + json.dumps(it, ensure_ascii=False)
        for it in path
    ]
    return literal("$" + "".join(steps))


_QUOTED = re.compile(
    r"""
      "[^"]*"                                           # a name; a doubled quote is two of these
    | '[^']*'                                           # a string
    | --[^\n]*                                          # a comment
    | (?<![\w$]) \$ (?P<tag>([^\W\d]\w*)?) \$ .*? \$ (?P=tag) \$  # a string between dollar signs
    """,
    re.VERBOSE | re.DOTALL,
)


@lru_cache(maxsize=128)
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


def apply_names(
    connection: Connection,
    names: NameMap,
    schema: str | None,
    ledger_schema: str | None,
    *,
    zoned: bool = False,
) -> None:
    """Make a connection's engine render names of Chinook by a map.

    Args:
        connection: to the database.
        names: of the database.
        schema: before Chinook's tables; None for none.
        ledger_schema: before the tables of the ledger; None for none.
        zoned: whether dates of invoices have a time zone; see `models.base.Timestamp`.
    """
    current = connection.dialect.identifier_preparer
    applied = (
        (current.names, current.schema, current.ledger_schema, current.zoned)
        if isinstance(current, _ChinookPreparer)
        else (SPELLINGS["camel"], None, None, False)
    )
    wanted = (names, schema, ledger_schema, zoned)
    if applied == wanted:
        return
    dialect = copy.copy(connection.dialect)
    dialect.identifier_preparer = _preparer_for(current, *wanted)
    # The connection took its dialect from the engine when it was opened: both, or they disagree.
    connection.engine.dialect = connection.dialect = dialect


class _ChinookPreparer(IdentifierPreparer):
    """Mixed into a dialect's own preparer; see the module's docstring."""

    names: NameMap
    schema: str | None
    ledger_schema: str | None
    zoned: bool

    def actual(self, ident: str) -> str:
        """Return a name as the database has it; names that are not Chinook's stay as they are."""
        return self.names[ident] if isinstance(ident, ChinookName) else ident

    def quote(self, ident: str) -> str:
        return super().quote(self.actual(ident))

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
    current: IdentifierPreparer,
    names: NameMap,
    schema: str | None,
    ledger_schema: str | None,
    zoned: bool,
) -> IdentifierPreparer:
    own = type(current)
    if not issubclass(own, _ChinookPreparer):
        own = type(f"Chinook{own.__name__}", (_ChinookPreparer, own), {})
    preparer = own.__new__(own)
    preparer.__dict__.update(
        current.__dict__,
        names=names,
        schema=schema,
        ledger_schema=ledger_schema,
        zoned=zoned,
        _strings={},
    )
    return preparer
