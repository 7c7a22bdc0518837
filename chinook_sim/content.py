"""The whole content of invoices, kept in the ledger: taken down, compared, and put back.

Rows are kept as JSON with all their columns, those too that Chinook does not have: PostgreSQL makes
and reads the JSON itself, so that no row makes the way to the client and back; for SQLite, which
writes floating-point numbers into JSON with fewer digits than they have, Python does.

Rows are compared column by column, as values and not as text, in the columns that were there when
they were taken down; a column that a table got since is left alone.
"""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from sqlalchemy import ARRAY, BigInteger, bindparam, text

from chinook_sim.models import Change, Invoice, InvoiceLine
from chinook_sim.naming import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy import Connection

__all__ = ["Content", "content_of"]

SLICE = 1_000
"""Invoices that SQLite's rows are read of in one piece."""


class _Part(NamedTuple):
    """A table whose rows are part of an invoice, and which of its columns says of which one."""

    name: str
    table: Any
    owner: str
    aside: str | None = None
    """A column that is left alone in rows that are there: `align` may have moved it since."""

    @property
    def key(self) -> str:
        """The primary key's name, not yet as the database spells it."""
        (column,) = self.table.primary_key.columns
        name: str = column.name
        return name


_PARTS = (
    _Part(
        "Invoice",
        Invoice.__table__,
        Invoice.__table__.c.InvoiceId.name,
        aside=Invoice.__table__.c.InvoiceDate.name,
    ),
    _Part("InvoiceLine", InvoiceLine.__table__, InvoiceLine.__table__.c.InvoiceId.name),
)


class Content(Protocol):
    """Keeps the content of invoices on one connection, in the rows of `Change`."""

    def keep_before(self, run_id: str, kind: str, ids: Sequence[int]) -> None:
        """Take down invoices as they are, before a run changes them."""

    def keep_after(self, run_id: str, kind: str) -> None:
        """Take down the same invoices as they are now that the run has changed them."""

    def changed_since(self, run_id: str) -> list[int]:
        """Return the invoices of a run's changes that are not as the run left them."""

    def put_back(self, run_id: str) -> None:
        """Make the invoices of a run's changes what they were before it, ids included."""


def content_of(connection: Connection) -> Content:
    """Return what keeps content on a connection to a recognised Chinook."""
    if connection.dialect.name == "sqlite":
        return _SqliteContent(connection)
    return _PostgresqlContent(connection)


class _PostgresqlContent:
    """One statement for each step and table, however many invoices there are."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._change = quoted(connection, Change.__table__)

    def keep_before(self, run_id: str, kind: str, ids: Sequence[int]) -> None:
        line, key, owner = self._names(_PARTS[1])
        self._run(
            f"INSERT INTO {self._change} (run_id, kind, subject_id, last_line_id, before) "  # noqa: S608
            f"SELECT :run, :kind, s.id, (SELECT max(r.{key}) FROM {line} r "
            f"WHERE r.{owner} = s.id), {self._state('s.id')} FROM unnest(:ids) s (id) ORDER BY 3",
            run=run_id,
            kind=kind,
            ids=ids,
        )

    def keep_after(self, run_id: str, kind: str) -> None:
        self._run(
            f"UPDATE {self._change} c SET after = {self._state('c.subject_id')} "  # noqa: S608
            "WHERE c.run_id = :run AND c.kind = :kind",
            run=run_id,
            kind=kind,
        )

    def changed_since(self, run_id: str) -> list[int]:
        same = " AND ".join(self._same(part) for part in _PARTS)
        return list(
            self._run(
                f"SELECT c.subject_id FROM {self._change} c "  # noqa: S608
                f"WHERE c.run_id = :run AND NOT ({same}) ORDER BY 1",
                run=run_id,
            ).scalars()
        )

    def put_back(self, run_id: str) -> None:
        for part in _PARTS:
            table, key = self._names(part)[:2]
            columns = self._columns(part, run_id)
            if not columns:
                continue
            names = ", ".join(columns)
            kept = (
                f"FROM {self._change} c, {self._rows('c.before', part)} a, "
                f"jsonb_populate_record(CAST(NULL AS {table}), a.value) k WHERE c.run_id = :run"
            )
            self._run(
                f"INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE "  # noqa: S608
                f"SELECT {', '.join(f'k.{name}' for name in columns)} {kept} "
                f"AND NOT EXISTS (SELECT 1 FROM {table} r WHERE r.{key} = k.{key}) "
                f"ORDER BY k.{key}",
                run=run_id,
            )
            left_alone = {key, part.aside and quoted(self._connection, part.aside)}
            others = [name for name in columns if name not in left_alone]
            self._run(
                f"UPDATE {table} r SET {', '.join(f'{name} = k.{name}' for name in others)} {kept} "  # noqa: S608
                f"AND r.{key} = k.{key} "
                "AND to_jsonb(r) <> to_jsonb(jsonb_populate_record(r, a.value))",
                run=run_id,
            )
        for part in reversed(_PARTS):
            table, key, owner = self._names(part)
            self._run(
                f"DELETE FROM {table} r USING {self._change} c "  # noqa: S608
                f"WHERE c.run_id = :run AND r.{owner} = c.subject_id AND NOT EXISTS "
                f"(SELECT 1 FROM {self._rows('c.before', part)} a "
                f"WHERE {self._key('a.value', part)} = r.{key})",
                run=run_id,
            )

    def _run(self, statement: str, **values: Any) -> Any:
        question = text(statement)
        if "ids" in values:
            question = question.bindparams(bindparam("ids", type_=ARRAY(BigInteger)))
        return self._connection.execute(question, values)

    def _names(self, part: _Part) -> tuple[str, str, str]:
        key, owner = (quoted(self._connection, name) for name in (part.key, part.owner))
        return quoted(self._connection, part.table), key, owner

    def _state(self, number: str) -> str:
        """Return the expression for the rows of an invoice as they are now; NULL for none."""
        parts = []
        for part in _PARTS:
            table, key, owner = self._names(part)
            rows = (
                f"SELECT coalesce(jsonb_agg(to_jsonb(r) ORDER BY r.{key}), '[]') "  # noqa: S608
                f"FROM {table} r WHERE r.{owner} = {number}"
            )
            parts.append(f"'{part.name}', ({rows})")
        root, key, _ = self._names(_PARTS[0])
        there = f"EXISTS (SELECT 1 FROM {root} r WHERE r.{key} = {number})"  # noqa: S608
        state = f"CAST(jsonb_build_object({', '.join(parts)}) AS text)"
        return f"CASE WHEN {there} THEN {state} END"

    def _same(self, part: _Part) -> str:
        """Return the condition that an invoice's rows in a table are those of `c.after`."""
        table, key, owner = self._names(part)
        rows = self._rows("c.after", part)
        # What is not in the record that a row is populated with stays as it is in the row.
        kept = f"a.value - '{self._name(part.aside)}'" if part.aside else "a.value"
        return (
            # Of one that is gone there are no rows.
            f"(SELECT count(*) FROM {table} r WHERE r.{owner} = c.subject_id) "  # noqa: S608
            f"= (SELECT count(*) FROM {rows} a) "
            f"AND NOT EXISTS (SELECT 1 FROM {rows} a WHERE NOT EXISTS "
            f"(SELECT 1 FROM {table} r WHERE r.{key} = {self._key('a.value', part)} "
            f"AND to_jsonb(r) = to_jsonb(jsonb_populate_record(r, {kept}))))"
        )

    def _rows(self, document: str, part: _Part) -> str:
        return f"jsonb_array_elements(CAST({document} AS jsonb) -> '{part.name}')"

    def _key(self, row: str, part: _Part) -> str:
        return f"CAST({row} ->> '{self._name(part.key)}' AS bigint)"

    def _name(self, name: str) -> str:
        """Return the name of a column of Chinook's as it is spelled, without quotes."""
        return quoted(self._connection, name).strip('"')

    def _columns(self, part: _Part, run_id: str) -> list[str]:
        """Return the columns of a table that were taken down and can be written, quoted."""
        table = self._names(part)[0]
        found = self._run(
            "SELECT quote_ident(a.attname) FROM pg_catalog.pg_attribute a "  # noqa: S608
            "WHERE a.attrelid = CAST(:table AS regclass) AND a.attnum > 0 "
            "AND NOT a.attisdropped AND a.attgenerated = '' "
            f"AND EXISTS (SELECT 1 FROM {self._change} c WHERE c.run_id = :run "
            f"AND CAST(c.before AS jsonb) -> '{part.name}' -> 0 -> CAST(a.attname AS text) "
            "IS NOT NULL) ORDER BY a.attnum",
            run=run_id,
            table=table,
        )
        # A colon is no parameter here.
        return [name.replace(":", r"\:") for name in found.scalars()]


Rows = list[dict[str, Any]]
Document = dict[str, Rows]


class _SqliteContent:
    """Row by row, a slice of invoices at a time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def keep_before(self, run_id: str, kind: str, ids: Sequence[int]) -> None:
        for some in _slices(ids):
            now = self._now(some)
            self._many(
                "INSERT INTO chinook_sim_change (run_id, kind, subject_id, last_line_id, before) "
                "VALUES (?, ?, ?, ?, ?)",
                [
                    (
                        run_id,
                        kind,
                        number,
                        max(self._by_key(now.get(number), _PARTS[1]), default=None),
                        _text(now.get(number)),
                    )
                    for number in some
                ],
            )

    def keep_after(self, run_id: str, kind: str) -> None:
        for some in _slices(self._subjects(run_id, kind)):
            now = self._now(some)
            self._many(
                "UPDATE chinook_sim_change SET after = ? WHERE run_id = ? AND subject_id = ?",
                [(_text(now.get(number)), run_id, number) for number in some],
            )

    def changed_since(self, run_id: str) -> list[int]:
        changed = []
        for some in _slices(self._subjects(run_id)):
            now, kept = self._now(some), self._kept(run_id, "after", some)
            changed += [number for number in some if not self._same(now.get(number), kept[number])]
        return changed

    def put_back(self, run_id: str) -> None:
        for some in _slices(self._subjects(run_id)):
            now, before = self._now(some), self._kept(run_id, "before", some)
            for part in _PARTS:
                self._put_rows(part, now, before)
            for part in reversed(_PARTS):
                table, key = self._names(part)[:2]
                gone = [
                    (number,)
                    for subject in now
                    for number in self._by_key(now[subject], part).keys()
                    - self._by_key(before[subject], part).keys()
                ]
                self._many(f"DELETE FROM {table} WHERE {key} = ?", gone)  # noqa: S608

    def _put_rows(
        self, part: _Part, now: dict[int, Document], before: dict[int, Document | None]
    ) -> None:
        table, key = self._names(part)[:2]
        columns = set(self._columns(part))
        statements: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
        for subject, document in before.items():
            there = self._by_key(now.get(subject), part)
            for number, row in self._by_key(document, part).items():
                known = {_quote(name): it for name, it in row.items() if name in columns}
                if number not in there:
                    marks = ", ".join("?" * len(known))
                    insert = f"INSERT INTO {table} ({', '.join(known)}) VALUES ({marks})"  # noqa: S608
                    statements[insert].append(tuple(known.values()))
                elif not self._same_row(part, there[number], row):
                    values = [
                        there[number][name] if self._is(name, part.aside) else row[name]
                        for name in row
                        if name in columns
                    ]
                    assigned = ", ".join(f"{name} = ?" for name in known)
                    update = f"UPDATE {table} SET {assigned} WHERE {key} = ?"  # noqa: S608
                    statements[update].append((*values, number))
        for statement, rows in statements.items():
            self._many(statement, rows)

    def _same(self, now: Document | None, kept: Document | None) -> bool:
        for part in _PARTS:
            there, then = self._by_key(now, part), self._by_key(kept, part)
            if there.keys() != then.keys():
                return False
            if not all(self._same_row(part, there[number], row) for number, row in then.items()):
                return False
        return True

    def _same_row(self, part: _Part, there: dict[str, Any], kept: dict[str, Any]) -> bool:
        """Tell whether all columns that were taken down hold the same; one may be gone since."""
        return all(
            name not in there
            or self._is(name, part.aside)
            or (type(there[name]) is type(value) and there[name] == value)
            for name, value in kept.items()
        )

    def _by_key(self, document: Document | None, part: _Part) -> dict[int, dict[str, Any]]:
        return {
            next(value for name, value in row.items() if self._is(name, part.key)): row
            for row in (document[part.name] if document else ())
        }

    def _is(self, name: str, known: str | None) -> bool:
        """Tell whether a column is the one that Chinook knows by that name."""
        # SQLite's names have no case.
        return (
            known is not None and name.lower() == quoted(self._connection, known).strip('"').lower()
        )

    def _now(self, ids: Sequence[int]) -> dict[int, Document]:
        """Return the rows of the invoices that are there."""
        found: dict[int, Document] = {}
        for part in _PARTS:
            table, key, owner = self._names(part)
            names = self._columns(part)
            answer = self._connection.exec_driver_sql(
                f"SELECT {owner}, {', '.join(map(_quote, names))} FROM {table} "  # noqa: S608
                f"WHERE {owner} IN (SELECT value FROM json_each(?)) ORDER BY {key}",
                (json.dumps(list(ids)),),
            )
            for subject, *values in answer:
                document = found.setdefault(subject, {part.name: [] for part in _PARTS})
                document[part.name].append(dict(zip(names, values, strict=True)))
        return found

    def _kept(self, run_id: str, when: str, ids: Sequence[int]) -> dict[int, Document | None]:
        answer = self._connection.exec_driver_sql(
            f"SELECT subject_id, {when} FROM chinook_sim_change "  # noqa: S608
            "WHERE run_id = ? AND subject_id IN (SELECT value FROM json_each(?))",
            (run_id, json.dumps(list(ids))),
        )
        return {
            subject: None if kept is None else json.loads(kept, object_hook=_blob)
            for subject, kept in answer
        }

    def _subjects(self, run_id: str, kind: str | None = None) -> list[int]:
        which = "" if kind is None else " AND kind = ?"
        return list(
            self._connection.exec_driver_sql(
                f"SELECT subject_id FROM chinook_sim_change WHERE run_id = ?{which} "  # noqa: S608
                "ORDER BY subject_id",
                (run_id,) if kind is None else (run_id, kind),
            ).scalars()
        )

    def _names(self, part: _Part) -> tuple[str, str, str]:
        key, owner = (quoted(self._connection, name) for name in (part.key, part.owner))
        return quoted(self._connection, part.table), key, owner

    def _columns(self, part: _Part) -> list[str]:
        """Return the columns of a table that can be written, Chinook's as we spell them."""
        name = quoted(self._connection, part.table).strip('"')
        ours = (quoted(self._connection, column.name) for column in part.table.columns)
        # SQLite's names have no case; those in a JSON object do.
        known = {name.lower(): name for name in (name.strip('"') for name in ours)}
        found = self._connection.exec_driver_sql(
            "SELECT name FROM pragma_table_info(?) ORDER BY cid", (name,)
        )
        return [known.get(name.lower(), name) for name in found.scalars()]

    def _many(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        if rows:
            self._connection.exec_driver_sql(statement, rows)


def _slices(ids: Iterable[int]) -> Iterator[list[int]]:
    rest = iter(ids)
    while some := list(islice(rest, SLICE)):
        yield some


def _text(document: Document | None) -> str | None:
    if document is None:
        return None
    return json.dumps(document, ensure_ascii=False, default=lambda blob: {"blob": blob.hex()})


def _blob(found: dict[str, Any]) -> Any:
    return bytes.fromhex(found["blob"]) if found.keys() == {"blob"} else found


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
