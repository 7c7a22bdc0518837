"""SQLite: row by row, a slice of subjects at a time."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from itertools import islice
from typing import TYPE_CHECKING, Any

from sqlalchemy import Integer, literal_column

from chinook_sim.changes.snapshots.tables import Part, parts_of
from chinook_sim.database.identifiers import json_value, plain, quoted
from chinook_sim.database.names import lowered
from chinook_sim.models import Change, Invoice

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy import ColumnElement, Connection

    from chinook_sim.kinds import ChangeKind, Subject

__all__ = ["SqliteSnapshots"]

CHUNK_ROWS = 1_000
"""Subjects whose rows are read in one piece."""


Rows = list[dict[str, Any]]


Document = dict[str, Rows]


class SqliteSnapshots:
    """Row by row, a slice of subjects at a time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def customer_before(self) -> ColumnElement[int]:
        """See `Snapshots.customer_before`."""
        name = plain(self._connection, Invoice.__table__.c.CustomerId.name)
        kept = quoted(self._connection, Change.__table__.c.before.name)
        found: ColumnElement[int] = literal_column(json_value(kept, "Invoice", 0, name), Integer)
        return found

    def capture_before(self, run_id: str, kind: ChangeKind, ids: Sequence[int]) -> None:
        """See `Snapshots.capture_before`."""
        self._insert("before", run_id, kind, ids)

    def capture_inserted(self, run_id: str, kind: ChangeKind, ids: Sequence[int]) -> None:
        """See `Snapshots.capture_inserted`."""
        self._insert("after", run_id, kind, ids)

    def _insert(self, when: str, run_id: str, kind: ChangeKind, ids: Sequence[int]) -> None:
        subject = kind.subject
        _, *others = parts_of(subject)
        for some in _slices(ids):
            now = self._now(subject, some)
            self._many(
                "INSERT INTO chinook_sim_change "  # noqa: S608
                f"(run_id, kind, subject, subject_id, last_line_id, {when}) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (
                        run_id,
                        kind,
                        subject,
                        number,
                        max(
                            (key for part in others for key in self._by_key(now[number], part)),
                            default=None,
                        ),
                        _text(now[number]),
                    )
                    for number in some
                ],
            )

    def capture_after(self, run_id: str, kind: ChangeKind) -> None:
        """See `Snapshots.capture_after`."""
        subject = kind.subject
        for some in _slices(self._ids([run_id], subject, kind)):
            now = self._now(subject, some)
            self._many(
                # Not by the index of runs, which would look through the whole run for each.
                "UPDATE chinook_sim_change SET after = ? "
                "WHERE +run_id = ? AND kind = ? AND subject = ? AND subject_id = ?",
                [(_text(now.get(number)), run_id, kind, subject, number) for number in some],
            )

    def changed_since(self, runs: Sequence[str], subject: Subject) -> list[int]:
        """See `Snapshots.changed_since`."""
        changed = []
        for some in _slices(self._ids(runs, subject)):
            now, kept = self._now(subject, some), self._kept(runs, subject, some)
            for number in some:
                # After each change: what the next one found, or the current row after the last one.
                found = [*(before for before, _ in kept[number][1:]), now.get(number)]
                if not all(
                    self._same(part, then, after)
                    for then, (_, after) in zip(found, kept[number], strict=True)
                    for part in parts_of(subject)
                ):
                    changed.append(number)
        return changed

    def restore(self, runs: Sequence[str], subject: Subject) -> None:
        """See `Snapshots.restore`."""
        for some in _slices(self._ids(runs, subject)):
            now, kept = self._now(subject, some), self._kept(runs, subject, some)
            before = {number: changes[0][0] for number, changes in kept.items()}
            latest = {number: changes[-1][0] for number, changes in kept.items()}
            for part in parts_of(subject):
                self._put_rows(part, now, before, latest)
            for part in reversed(parts_of(subject)):
                table, key = self._names(part)[:2]
                gone = [
                    (number,)
                    for found in now
                    for number in self._by_key(now[found], part).keys()
                    - self._by_key(before[found], part).keys()
                ]
                self._many(f"DELETE FROM {table} WHERE {key} = ?", gone)  # noqa: S608

    def unlike_before(self, runs: Sequence[str], subject: Subject) -> list[int]:
        """See `Snapshots.unlike_before`."""
        unlike = []
        for some in _slices(self._ids(runs, subject)):
            now, kept = self._now(subject, some), self._kept(runs, subject, some)
            unlike += [
                number
                for number in some
                if not all(
                    self._same(part, now.get(number), kept[number][0][0])
                    for part in parts_of(subject)
                )
            ]
        return unlike

    def _put_rows(
        self,
        part: Part,
        now: dict[int, Document],
        before: dict[int, Document | None],
        latest: dict[int, Document | None],
    ) -> None:
        table, key = self._names(part)[:2]
        columns, compared = set(self._columns(part)), self._compared(part)
        statements: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
        for found, document in before.items():
            there = self._by_key(now.get(found), part)
            last = self._by_key(latest[found], part)
            for number, row in self._by_key(document, part).items():
                known = {_quote(name): it for name, it in row.items() if name in columns}
                if number not in there:
                    # Moved between the first change and the one that took it away.
                    known |= {
                        _quote(name): it
                        for name, it in last.get(number, row).items()
                        if name in columns and self._is(name, part.unrestored_column)
                    }
                    marks = ", ".join("?" * len(known))
                    insert = f"INSERT INTO {table} ({', '.join(known)}) VALUES ({marks})"  # noqa: S608
                    statements[insert].append(tuple(known.values()))
                elif not _same_row(there[number], row, compared):
                    names = [it for it in row if it in columns and lowered(it) in compared]
                    assigned = ", ".join(f"{_quote(name)} = ?" for name in names)
                    update = f"UPDATE {table} SET {assigned} WHERE {key} = ?"  # noqa: S608
                    statements[update].append((*(row[name] for name in names), number))
        for statement, rows in statements.items():
            self._many(statement, rows)

    def _same(self, part: Part, now: Document | None, kept: Document | None) -> bool:
        there, then = self._by_key(now, part), self._by_key(kept, part)
        compared = self._compared(part)
        return there.keys() == then.keys() and all(
            _same_row(there[number], row, compared) for number, row in then.items()
        )

    def _by_key(self, document: Document | None, part: Part) -> dict[int, dict[str, Any]]:
        return {
            next(value for name, value in row.items() if self._is(name, part.key)): row
            for row in (document[part.name] if document else ())
        }

    def _is(self, name: str, known: str | None) -> bool:
        """Return whether a column is the one that Chinook knows by that name."""
        return known is not None and lowered(name) == lowered(plain(self._connection, known))

    def _compared(self, part: Part) -> set[str]:
        """Return Chinook's columns of a table, folded, without those that are left alone.

        Columns of the owner's are no part of a change: a trigger may set them at any time.
        """
        names = (
            column.name for column in part.table.columns if column.name != part.unrestored_column
        )
        return {lowered(plain(self._connection, name)) for name in names}

    def _now(self, subject: Subject, ids: Sequence[int]) -> dict[int, Document]:
        """Return the rows of those that are there."""
        found: dict[int, Document] = {}
        for part in parts_of(subject):
            table, key, owner = self._names(part)
            names = self._columns(part)
            answer = self._connection.exec_driver_sql(
                f"SELECT r.{owner}, {', '.join(f'r.{_quote(name)}' for name in names)} "  # noqa: S608
                f"FROM {table} r WHERE r.{owner} IN (SELECT j.value FROM json_each(?) j) "
                f"ORDER BY r.{key}",
                (json.dumps(list(ids)),),
            )
            for number, *values in answer:
                document = found.setdefault(number, {part.name: [] for part in parts_of(subject)})
                document[part.name].append(dict(zip(names, values, strict=True)))
        return found

    def _kept(
        self, runs: Sequence[str], subject: Subject, ids: Sequence[int]
    ) -> dict[int, list[tuple[Document | None, Document | None]]]:
        """Return what was kept of each before and after its changes, in their order."""
        answer = self._connection.exec_driver_sql(
            "SELECT subject_id, before, after FROM chinook_sim_change "
            "WHERE run_id IN (SELECT value FROM json_each(?)) AND subject = ? "
            "AND subject_id IN (SELECT value FROM json_each(?)) ORDER BY change_id",
            (json.dumps(list(runs)), subject, json.dumps(list(ids))),
        )
        found = defaultdict(list)
        for number, before, after in answer:
            found[number].append((_document(before), _document(after)))
        return found

    def _ids(self, runs: Sequence[str], subject: Subject, kind: str | None = None) -> list[int]:
        which = "" if kind is None else " AND kind = ?"
        return list(
            self._connection.exec_driver_sql(
                "SELECT DISTINCT subject_id FROM chinook_sim_change "  # noqa: S608
                "WHERE run_id IN (SELECT value FROM json_each(?)) "
                f"AND subject = ?{which} ORDER BY subject_id",
                (json.dumps(list(runs)), subject, *([] if kind is None else [kind])),
            ).scalars()
        )

    def _names(self, part: Part) -> tuple[str, str, str]:
        key, owner = (quoted(self._connection, name) for name in (part.key, part.owner))
        return quoted(self._connection, part.table), key, owner

    def _columns(self, part: Part) -> list[str]:
        """Return the columns of a table that can be written, Chinook's as we spell them."""
        name = plain(self._connection, part.table.name)
        ours = (plain(self._connection, column.name) for column in part.table.columns)
        # Keys of a JSON object have a case.
        known = {lowered(name): name for name in ours}
        found = self._connection.exec_driver_sql(
            "SELECT name FROM pragma_table_info(?) ORDER BY cid", (name,)
        )
        return [known.get(lowered(name), name) for name in found.scalars()]

    def _many(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        if rows:
            self._connection.exec_driver_sql(statement, rows)


def _same_row(there: dict[str, Any], kept: dict[str, Any], compared: set[str]) -> bool:
    """Return whether the compared columns are equal; one may have been dropped since."""
    return all(
        name not in there
        or lowered(name) not in compared
        or (type(there[name]) is type(value) and there[name] == value)
        for name, value in kept.items()
    )


def _slices(ids: Iterable[int]) -> Iterator[list[int]]:
    rest = iter(ids)
    while some := list(islice(rest, CHUNK_ROWS)):
        yield some


def _text(document: Document | None) -> str | None:
    if document is None:
        return None
    plain = {
        name: [{column: _plain(value) for column, value in row.items()} for row in rows]
        for name, rows in document.items()
    }
    # What Python would write for an infinity, SQLite's own JSON functions do not read.
    return json.dumps(plain, ensure_ascii=False, allow_nan=False)


def _document(kept: str | None) -> Document | None:
    return None if kept is None else json.loads(kept, object_hook=_value)


def _plain(value: Any) -> Any:
    """Return a JSON representation of a value that JSON cannot hold."""
    if isinstance(value, bytes):
        return {"blob": value.hex()}
    if isinstance(value, float) and not math.isfinite(value):
        return {"real": str(value)}
    return value


def _value(found: dict[str, Any]) -> Any:
    """Decode `{"blob": …}` or `{"real": …}`; return any other object unchanged."""
    if found.keys() == {"blob"}:
        return bytes.fromhex(found["blob"])
    return float(found["real"]) if found.keys() == {"real"} else found


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
