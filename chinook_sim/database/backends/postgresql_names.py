"""Conditions on PostgreSQL's catalogue: which tables and columns have names of Chinook's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chinook_sim.database.identifiers import literal
from chinook_sim.database.names import CHINOOK_TABLES, NameMap, column_names, table_names

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Table

__all__ = ["is_key", "is_one_of", "literals", "which"]


def literals(names: Iterable[str]) -> str:
    """Return names as a list in SQL."""
    return ", ".join(map(literal, names))


def _folded(name: str) -> str:
    """Return the expression for a name without case and underscores."""
    return f"replace(lower(CAST({name} AS text)), '_', '')"


def is_one_of(tables: Iterable[Table], row: str, stated: NameMap) -> str:
    """Return the condition that a row of pg_class may be one of some tables of Chinook's."""
    known: set[str] = set()
    exact = []
    for table in tables:
        name = stated.get(table.name)
        if name is None:
            known |= table_names(table)
        else:
            exact.append(name)
    conditions = [f"{_folded(f'{row}.relname')} IN ({literals(sorted(known))})"] if known else []
    conditions += [f"{row}.relname IN ({literals(exact)})"] if exact else []
    return f"({' OR '.join(conditions)})"


def which(tables: Iterable[Table], row: str, stated: NameMap) -> str:
    """Return the expression for which of some tables a row of pg_class may be."""
    cases = [
        f"WHEN {is_one_of([table], row, stated)} THEN {place}" for place, table in enumerate(tables)
    ]
    return f"CASE {' '.join(cases)} END"


def is_key(table: str, column: str, stated: NameMap) -> str:
    """Return the condition that a row of pg_attribute may be the key of a table of Chinook's."""
    conditions = []
    for it in CHINOOK_TABLES:
        key, *others = it.primary_key.columns
        name = stated.get(key.name)
        if others or (name is None and stated.get(it.name) is None):
            continue
        known = literals(column_names(it, key.name))
        is_key = (
            f"{_folded(f'{column}.attname')} IN ({known})"
            if name is None
            else f"{column}.attname = {literal(name)}"
        )
        conditions.append(f"{is_one_of([it], table, stated)} AND {is_key}")
    joined = _folded(f"{table}.relname || '.' || {column}.attname")
    return f"({' OR '.join([f'{joined} IN ({_KEYS})', *conditions])})"


_KEYS = literals(
    sorted(
        f"{name}.{key}"
        for table in CHINOOK_TABLES
        if len(table.primary_key.columns) == 1
        for name in table_names(table)
        for key in column_names(table, table.primary_key.columns[0].name)
    )
)
