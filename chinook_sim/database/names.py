"""What a database calls the tables and columns of Chinook."""

from __future__ import annotations

import re
from functools import cached_property, lru_cache
from string import ascii_lowercase, ascii_uppercase
from typing import TYPE_CHECKING, Any, Literal

from chinook_sim.errors import InvalidInput, NotAChinook
from chinook_sim.models import Base, ChinookName, Customer, Invoice, InvoiceLine, Track

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection, Table

__all__ = [
    "CHINOOK_TABLES",
    "SALE_TABLES",
    "SPELLINGS",
    "SPELLING_NAMES",
    "NameMap",
    "Spelling",
    "column_names",
    "folded",
    "key_of",
    "lowered",
    "stated_names",
    "table_names",
]

Spelling = Literal["camel", "snake"]

SPELLING_NAMES: dict[Spelling, str] = {"camel": "CamelCase", "snake": "snake_case"}
"""Names of the spellings, for messages."""

CHINOOK_TABLES: tuple[Table, ...] = tuple(
    table for table in Base.metadata.sorted_tables if isinstance(table.name, ChinookName)
)
"""The eleven tables of Chinook, each after those it refers to."""

SALE_TABLES = tuple(model.__table__ for model in (Customer, Track, Invoice, InvoiceLine))
"""The tables without which no sale can be made."""

_ALIASES = {
    "InvoiceLine": "InvoiceItem",
    "InvoiceLine.InvoiceLineId": "InvoiceItemId",
    "Invoice.BillingPostalCode": "BillingPostal",
}
"""Other names that many Chinooks have."""

_ASCII = str.maketrans(ascii_uppercase, ascii_lowercase)


# Every batch compares the same few hundred names.
@lru_cache(maxsize=4096)
def lowered(name: str) -> str:
    """Return a name as SQLite compares it, which ignores the case of ASCII letters only."""
    return name.translate(_ASCII)


@lru_cache(maxsize=4096)
def folded(name: str) -> str:
    """Return a name without case and underscores."""
    return lowered(name).replace("_", "")


def table_names(table: Table) -> frozenset[str]:
    """Return the folded names by which a table of Chinook is recognised."""
    names = [table.name, *filter(None, [_ALIASES.get(table.name)])]
    return frozenset(folded(name) + end for name in names for end in ("", "s"))


def column_names(table: Table, column: str) -> list[str]:
    """Return the folded names by which a column is recognised, the preferred one first."""
    alias = _ALIASES.get(f"{table.name}.{column}")
    return [folded(column), *([folded(alias)] if alias else [])]


class NameMap:
    """The names that one database has for the tables and columns of Chinook.

    The keys are the CamelCase names: `Invoice` for a table, `Invoice.InvoiceId` for a column. What
    the database does not have is not in the map.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = dict(names)
        self._hash = hash(frozenset(self._names.items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NameMap) and self._names == other._names

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[Any, ...]:
        # Hashes of strings differ between processes.
        return NameMap, (self._names,)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: str) -> bool:
        return key_of(name) in self._names

    def get(self, name: str) -> str | None:
        """Return the name that the database has, or None."""
        return self._names.get(key_of(name))

    def __getitem__(self, name: str) -> str:
        """Return the name that the database has for a table or column.

        Args:
            name: as a `ChinookName`, or as a key.

        Raises:
            NotAChinook: it has no such table or column.
        """
        found = self._names.get(key_of(name))
        if found is None:
            raise NotAChinook(self._lacks(key_of(name)), missing=(key_of(name),))
        return found

    def _lacks(self, name: str) -> str:
        table, _, column = name.partition(".")
        if column and table in self._names:
            return f"the table {self._names[table]} of this database has no column {column}"
        return f"this Chinook has no table {table}"

    @cached_property
    def spelling(self) -> Spelling | None:
        """The spelling that all names follow; None if they follow neither."""
        for spelling, names in SPELLINGS.items():
            if self._names.items() <= names._names.items():
                return spelling
        return None

    @property
    def description(self) -> str:
        """The spelling, for messages."""
        return SPELLING_NAMES[self.spelling] if self.spelling else "other names"

    @cached_property
    def completed(self) -> NameMap:
        """These names, and those that missing tables and columns would have."""
        return NameMap({**self._nearest._names, **self._names})

    def first_missing_from(self, *others: NameMap) -> tuple[str, str] | None:
        """Return the first key, with its name, that no other map has; None if there is none."""
        for key, name in self._names.items():
            if all(it.get(key) is None for it in others):
                return key, name
        return None

    @property
    def unusual(self) -> dict[str, str]:
        """The names of all tables, and of the columns that differ from the usual spelling.

        Empty if no name differs.
        """
        if self.spelling is not None:
            return {}
        usual = self._nearest._names
        return {
            key: name for key, name in self._names.items() if "." not in key or usual[key] != name
        }

    @cached_property
    def _nearest(self) -> NameMap:
        """The usual spelling that most names have; on a tie, the first."""
        return max(
            SPELLINGS.values(), key=lambda names: len(names._names.items() & self._names.items())
        )


def stated_names(connection: Connection) -> NameMap:
    """Return the names that the engine of a connection was made with; see `load_names`."""
    stated: Any = connection.get_execution_options().get("chinook_names")
    if stated is not None and not isinstance(stated, NameMap):
        raise InvalidInput(
            f"chinook_names must be what load_names returns, got {type(stated).__name__}"
        )
    return stated or _NO_NAMES


def key_of(name: str) -> str:
    """Return the key of a table or column in a `NameMap`."""
    return name.key if isinstance(name, ChinookName) else name


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


_KEYS = [
    name
    for table in CHINOOK_TABLES
    for name in (table.name, *(column.name for column in table.columns))
    if isinstance(name, ChinookName)
]

_NO_NAMES = NameMap({})

SPELLINGS: dict[Spelling, NameMap] = {
    "camel": NameMap({name.key: str(name) for name in _KEYS}),
    "snake": NameMap({name.key: _snake(name) for name in _KEYS}),
}
"""The names of the two usual spellings."""
