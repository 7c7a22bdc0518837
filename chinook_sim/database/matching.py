"""Which tables of a schema are which of Chinook's, by their names, columns and foreign keys."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, NamedTuple

from chinook_sim.database.names import (
    CHINOOK_TABLES,
    SALE_TABLES,
    SPELLINGS,
    NameMap,
    column_names,
    folded,
    key_of,
    lowered,
    table_names,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from sqlalchemy import Table

    from chinook_sim.database.schema import ColumnType, IdSource, TableRow

__all__ = ["Match", "match_tables", "may_be_chinook_table"]


class Match(NamedTuple):
    """One way of reading the tables of a schema as a Chinook.

    Attributes:
        names: of the tables and columns that were found.
        tables: the tables that were found, by the names in `models`.
        ids: where the ids of these tables come from, without those that have no key.
        types: the types of the columns that were found, by their keys in `names`.
        required: by table, the user's NOT NULL columns that have no default.
        unclear: by key, the columns that match equally well.
        conflict: the foreign key that rules a complete set of sale tables out, for messages.
    """

    names: NameMap
    tables: Mapping[str, TableRow]
    ids: Mapping[str, IdSource]
    types: Mapping[str, ColumnType]
    required: Mapping[str, Sequence[str]]
    unclear: Mapping[str, Sequence[str]]
    conflict: str | None


class _Found(NamedTuple):
    """A table that may be one of Chinook's.

    Attributes:
        row: the table.
        table: Chinook's.
        names: of the table, and of those of its columns that were found, by key.
        unclear: see `Match`.
    """

    row: TableRow
    table: Table
    names: dict[str, str]
    unclear: dict[str, list[str]]

    @property
    def complete(self) -> bool:
        """Whether all columns were found."""
        return len(self.names) == 1 + len(self.table.columns)


_Chosen = dict[str, _Found]
"""Tables, by the names in `models`."""

_Link = tuple[_Found, str, frozenset[str | None], _Found]
"""A foreign key: its table and column, the tables that it refers to, and the one that it should.

None is a table in another schema.
"""


def match_tables(rows: Sequence[TableRow], stated: NameMap, *, ignore_case: bool) -> list[Match]:
    """Return the ways of reading the tables of one schema as a Chinook.

    There are several if they rank equally. Without a complete set of sale tables there
    is one way, with what was found.

    Args:
        rows: tables of one schema.
        stated: names stated by the user; they take precedence.
        ignore_case: whether the database compares names without regard to the case of letters.
    """
    return _Matcher(stated, lowered if ignore_case else str).match(rows)


def may_be_chinook_table(name: str, columns: Iterable[str]) -> bool:
    """Return whether a table is probably Chinook's: by its usual name, or by name and columns."""
    usual = {spelled[table.name] for table in CHINOOK_TABLES for spelled in SPELLINGS.values()}
    columns = list(columns)
    matcher = _Matcher(NameMap({}), str)
    return name in usual or any(
        folded(name) in table_names(table)
        and len(matcher.columns(table, columns)[0]) == len(table.columns)
        for table in CHINOOK_TABLES
    )


class _Matcher:
    """Matches tables of one database."""

    def __init__(self, stated: NameMap, same: Callable[[str], str]) -> None:
        """Take the stated names, and how names are compared.

        Args:
            stated: see `match_tables`.
            same: returns equal texts for names that are the same to the database.
        """
        self._stated = stated
        self._same = same

    def match(self, rows: Sequence[TableRow]) -> list[Match]:
        """See `match_tables`."""
        found = {str(it.name): list(self._candidates(it, rows)) for it in CHINOOK_TABLES}
        matches = []
        for chosen in self._sale_tables(found) or [{}]:
            # Tables that refer to others first: their foreign keys decide which ones.
            found_all = bool(chosen)
            for table in reversed(CHINOOK_TABLES):
                if table.name not in chosen:
                    chosen = self._with_best(chosen, found[table.name])
            conflict = None if found_all else self._conflict(found, chosen)
            matches.append(self._result(chosen, conflict))
        return matches

    def columns(
        self, table: Table, names: Iterable[str]
    ) -> tuple[dict[str, str], dict[str, list[str]]]:
        """Return those names of columns that are Chinook's, and those that may be, by key."""
        there = {self._same(name): name for name in names}
        columns: dict[str, str] = {}
        rest = []
        for column in table.columns:
            stated = self._stated.get(column.name)
            if stated is None:
                rest.append(column.name)
            elif self._same(stated) in there:
                columns[key_of(column.name)] = there[self._same(stated)]
        free = {name: it for name, it in there.items() if it not in columns.values()}
        for spelling in SPELLINGS.values():
            # All columns have a usual spelling, so similar names are columns of the user's.
            spelled = {key_of(name): self._same(spelling[name]) for name in rest}
            if free.keys() >= set(spelled.values()):
                return {**columns, **{key: free[name] for key, name in spelled.items()}}, {}
        unclear: dict[str, list[str]] = {}
        for name in rest:
            for known in column_names(table, name):
                alike = [it for it in free.values() if folded(it) == known]
                if len(alike) == 1:
                    columns[key_of(name)] = alike[0]
                    break
                if alike:
                    unclear[key_of(name)] = sorted(alike)
                    break
        return columns, unclear

    def _candidates(self, table: Table, rows: Iterable[TableRow]) -> Iterator[_Found]:
        """Return the tables that may be a table of Chinook's."""
        stated = self._stated.get(table.name)
        known = table_names(table)
        keys = [key_of(column.name) for column in table.primary_key.columns]
        usual = {self._same(spelling[table.name]) for spelling in SPELLINGS.values()}
        for row in rows:
            name = self._same(row.table)
            if (folded(row.table) in known) if stated is None else (name == self._same(stated)):
                columns, unclear = self.columns(table, row.columns)
                names = {str(table.name): row.table, **columns}
                # A table with an unusual name and without the key belongs to another application.
                if stated is not None or name in usual or all(key in names for key in keys):
                    yield _Found(row, table, names, unclear)

    def _sale_tables(self, found: dict[str, list[_Found]]) -> list[_Chosen]:
        """Return the complete sets of sale tables between which nothing decides."""
        complete = [[it for it in found[table.name] if it.complete] for table in SALE_TABLES]
        return self._best([{str(it.table.name): it for it in some} for some in product(*complete)])

    def _with_best(self, chosen: _Chosen, candidates: list[_Found]) -> _Chosen:
        """Add the best candidate for a table; none if there are several."""
        best = self._best([{**chosen, str(it.table.name): it} for it in candidates])
        return best[0] if len(best) == 1 else chosen

    def _best(self, sets: list[_Chosen]) -> list[_Chosen]:
        """Return the best of several sets of tables, without those that foreign keys rule out."""
        linked = [(links, it) for it in sets if (links := self._links(it)) is not None]
        if len(linked) < 2:
            return [it for _, it in linked]
        # Foreign keys decide first, then that names are in a usual spelling, then the columns.
        ranks = [
            (links, self._usually_spelled(it), sum(len(one.names) for one in it.values()))
            for links, it in linked
        ]
        return [it for rank, (_, it) in zip(ranks, linked, strict=True) if rank == max(ranks)]

    def _links(self, chosen: _Chosen) -> int | None:
        """Return how many foreign keys link the tables; None if one is to another table."""
        links = list(self._foreign_keys(chosen))
        return None if any(self._wrong(links)) else len(links)

    def _wrong(self, links: Iterable[_Link]) -> Iterator[tuple[str, str, str]]:
        """Yield columns that refer to another table: column, what it refers to, Chinook's table."""
        for found, column, referred, target in links:
            tables = {self._same(it) for it in referred if it is not None}
            # What the user has stated is right in any case.
            stated = self._stated.get(target.table.name) is not None
            if self._same(target.row.table) not in tables and not stated:
                others = " and ".join(sorted(it or "another schema" for it in referred))
                yield f"{found.row.table}.{column}", others, target.row.table

    def _foreign_keys(self, chosen: _Chosen) -> Iterator[_Link]:
        """Yield what refers to one of the tables."""
        for found in chosen.values():
            for key in found.table.foreign_keys:
                target = chosen.get(key.column.table.name)
                column = found.names.get(key_of(key.parent.name), "")
                referred = found.row.foreign_keys.get(column)
                if target is not None and referred:
                    yield found, column, referred, target

    def _usually_spelled(self, chosen: _Chosen) -> bool:
        names = [pair for it in chosen.values() for pair in it.names.items()]
        return any(
            all(self._same(spelling[key]) == self._same(name) for key, name in names)
            for spelling in SPELLINGS.values()
        )

    def _conflict(self, found: dict[str, list[_Found]], chosen: _Chosen) -> str | None:
        """Return a foreign key that rules a complete set of sale tables out, if one does.

        Args:
            found: what may be a table of Chinook.
            chosen: the tables that were found, not all that sales need.
        """
        complete = [[it for it in found[table.name] if it.complete] for table in SALE_TABLES]
        for some in product(*complete):
            candidates = {str(it.table.name): it for it in some}
            for column, referred, target in self._wrong(self._foreign_keys(candidates)):
                return f"{column} refers to {referred}, not to {target}"
        # A table that is not found has another name, if a sale table refers to another one.
        for it in (chosen[table.name] for table in SALE_TABLES if table.name in chosen):
            for key in it.table.foreign_keys:
                column = it.names.get(key_of(key.parent.name), "")
                others = it.row.foreign_keys.get(column, frozenset())
                target_table = key.column.table
                if target_table.name in chosen or target_table not in SALE_TABLES:
                    continue
                if not all(folded(name or "") in table_names(target_table) for name in others):
                    shown = " and ".join(sorted(name or "another schema" for name in others))
                    return f"{it.row.table}.{column} refers to {shown}, not to {target_table.name}"
        return None

    def _result(self, chosen: _Chosen, conflict: str | None) -> Match:
        names = {key: name for it in chosen.values() for key, name in it.names.items()}
        ids = {
            table: it.row.ids[name]
            for table, it in chosen.items()
            for key in it.table.primary_key.columns
            if (name := it.names.get(key_of(key.name), "")) in it.row.ids
        }
        types = {
            key: it.row.columns[name]
            for it in chosen.values()
            for key, name in it.names.items()
            if key != it.table.name
        }
        required = {
            table: [
                name
                for name, column in it.row.columns.items()
                if column.required and name not in it.names.values()
            ]
            for table, it in chosen.items()
        }
        for spelling in SPELLINGS.values():
            # Where names differ only in case, the ledger's JSON always has the usual ones.
            if all(self._same(spelling[key]) == self._same(name) for key, name in names.items()):
                names = {key: spelling[key] for key in names}
        tables = {table: it.row for table, it in chosen.items()}
        unclear = {key: some for it in chosen.values() for key, some in it.unclear.items()}
        return Match(NameMap(names), tables, ids, types, required, unclear, conflict)
