"""PostgreSQL: one statement for each step and table, independent of the number of rows.

A row is always written `r.*`: if its table has a column `r`, `r` alone is that column. Columns are
always qualified, since a table may have columns of any name besides Chinook's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import ARRAY, BigInteger, String, bindparam, cast, func

from chinook_sim.changes.snapshots.tables import Part, parts_of
from chinook_sim.database.identifiers import plain, quoted, sql_text
from chinook_sim.models import Change, Invoice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Connection

    from chinook_sim.kinds import ChangeKind, Subject

__all__ = ["PostgresqlSnapshots"]


class PostgresqlSnapshots:
    """One statement for each step and table, independent of the number of rows."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._change = quoted(connection, Change.__table__)

    def customer_before(self) -> ColumnElement[int]:
        """See `Snapshots.customer_before`."""
        from sqlalchemy.dialects.postgresql import JSONB  # with all its drivers: not for SQLite

        name = plain(self._connection, Invoice.__table__.c.CustomerId.name)
        kept = cast(Change.before, JSONB)
        return cast(func.jsonb_extract_path_text(kept, "Invoice", "0", name), BigInteger)

    def capture_before(self, run_id: str, kind: ChangeKind, ids: Sequence[int]) -> None:
        """See `Snapshots.capture_before`."""
        self._insert("before", run_id, kind, ids)

    def capture_inserted(self, run_id: str, kind: ChangeKind, ids: Sequence[int]) -> None:
        """See `Snapshots.capture_inserted`."""
        self._insert("after", run_id, kind, ids)

    def _insert(self, when: str, run_id: str, kind: ChangeKind, ids: Sequence[int]) -> None:
        subject = kind.subject
        _, *others = parts_of(subject)
        last = "NULL"
        for part in others:
            table, key, owner = self._names(part)
            # `+ 0` prevents a scan of the whole primary-key index; the index on the owner is used.
            last = f"(SELECT max(r.{key} + 0) FROM {table} r WHERE r.{owner} = s.id)"  # noqa: S608
        self._run(
            f"INSERT INTO {self._change} "  # noqa: S608
            f"(run_id, kind, subject, subject_id, last_line_id, {when}) "
            f"SELECT :run, :kind, :subject, s.id, {last}, {self._state(subject, 's.id')} "
            "FROM unnest(:ids) s (id) ORDER BY 4",
            run=run_id,
            kind=kind,
            subject=subject,
            ids=ids,
        )

    def capture_after(self, run_id: str, kind: ChangeKind) -> None:
        """See `Snapshots.capture_after`."""
        state = self._state(kind.subject, "c.subject_id")
        self._run(
            f"UPDATE {self._change} c SET after = {state} "  # noqa: S608
            "WHERE c.run_id = :run AND c.kind = :kind",
            run=run_id,
            kind=kind,
        )

    def changed_since(self, runs: Sequence[str], subject: Subject) -> list[int]:
        """See `Snapshots.changed_since`."""
        changed = set(self._unlike("after", "DESC", runs, subject))
        kept = " AND ".join(self._kept_same(part) for part in parts_of(subject))
        changed.update(
            self._run(
                "SELECT c.subject_id FROM (SELECT subject_id, change_id, after, "  # noqa: S608
                "lead(change_id) OVER w AS next, lead(before) OVER w AS found "
                f"FROM {self._change} WHERE run_id = ANY(:runs) AND subject = :subject "
                "WINDOW w AS (PARTITION BY subject_id ORDER BY change_id)) c "
                "WHERE c.next IS NOT NULL AND (c.after IS NULL OR c.found IS NULL "
                f"OR NOT ({kept}))",
                runs=runs,
                subject=subject,
            ).scalars()
        )
        return sorted(changed)

    def restore(self, runs: Sequence[str], subject: Subject) -> None:
        """See `Snapshots.restore`."""
        for part in parts_of(subject):
            table, key = self._names(part)[:2]
            columns = self._columns(part, runs, subject)
            if not columns:
                continue
            names = ", ".join(columns)
            kept = (
                f"c, {self._rows('c.before', part, 'json')} a, "
                f"json_populate_record(CAST(NULL AS {table}), a.value) k"
            )
            # Only invoices can have been deleted. Other subjects skip the INSERT, since it needs a
            # privilege even if no row is inserted. Rows are first inserted as the last change found
            # them, since the columns that are not compared keep these values.
            for order in ("DESC", "") if subject == "invoice" else ():
                self._run(
                    f"INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE "  # noqa: S608
                    f"SELECT {', '.join(f'k.{name}' for name in columns)} "
                    f"FROM {self._one(order)} {kept} "
                    f"WHERE NOT EXISTS (SELECT 1 FROM {table} r WHERE r.{key} = k.{key}) "
                    f"ORDER BY k.{key}",
                    runs=runs,
                    subject=subject,
                )
            compared = [name for name in self._compared(part) if name in columns]
            self._run(
                f"UPDATE {table} r SET "  # noqa: S608
                f"{', '.join(f'{name} = k.{name}' for name in compared)} "
                f"FROM {self._one()} {kept} WHERE r.{key} = k.{key} "
                f"AND NOT {self._same_row(part, 'r', 'k')}",
                runs=runs,
                subject=subject,
            )
        # Runs never insert tracks, so none is deleted.
        for part in reversed(parts_of(subject)) if subject != "track" else ():
            table, key, owner = self._names(part)
            self._run(
                f"DELETE FROM {table} r USING {self._one()} c "  # noqa: S608
                f"WHERE r.{owner} = c.subject_id AND NOT EXISTS "
                f"(SELECT 1 FROM {self._rows('c.before', part)} a "
                f"WHERE {self._key('a.value', part)} = r.{key})",
                runs=runs,
                subject=subject,
            )

    def unlike_before(self, runs: Sequence[str], subject: Subject) -> list[int]:
        """See `Snapshots.unlike_before`."""
        return self._unlike("before", "", runs, subject)

    def _unlike(self, when: str, order: str, runs: Sequence[str], subject: Subject) -> list[int]:
        """Return the ids of what is not as it was before the first change, or after the last."""
        same = " AND ".join(self._same(part, f"c.{when}") for part in parts_of(subject))
        found = self._run(
            f"SELECT c.subject_id FROM {self._one(order)} c WHERE NOT ({same}) ORDER BY 1",  # noqa: S608
            runs=runs,
            subject=subject,
        )
        return list(found.scalars())

    def _one(self, order: str = "") -> str:
        """Return the first change of each subject in some runs, or the last."""
        return (
            "(SELECT DISTINCT ON (subject_id) subject_id, before, after "  # noqa: S608
            f"FROM {self._change} WHERE run_id = ANY(:runs) AND subject = :subject "
            f"ORDER BY subject_id, change_id {order})"
        )

    def _run(self, statement: str, **values: Any) -> Any:
        query = sql_text(statement)
        if "ids" in values:
            query = query.bindparams(bindparam("ids", type_=ARRAY(BigInteger)))
        if "runs" in values:
            query = query.bindparams(bindparam("runs", type_=ARRAY(String)))
            values["runs"] = list(values["runs"])
        return self._connection.execute(query, values)

    def _names(self, part: Part) -> tuple[str, str, str]:
        key, owner = (quoted(self._connection, name) for name in (part.key, part.owner))
        return quoted(self._connection, part.table), key, owner

    def _state(self, subject: Subject, number: str) -> str:
        """Return the expression for the rows of a subject as they are now; NULL for none."""
        parts = []
        for part in parts_of(subject):
            table, key, owner = self._names(part)
            rows = (
                f"SELECT coalesce(json_agg(r.* ORDER BY r.{key}), '[]') "  # noqa: S608
                f"FROM {table} r WHERE r.{owner} = {number}"
            )
            parts.append(f"'{part.name}', ({rows})")
        root, key, _ = self._names(parts_of(subject)[0])
        there = f"EXISTS (SELECT 1 FROM {root} r WHERE r.{key} = {number})"  # noqa: S608
        # Not jsonb, which would not keep a column of type json as it is spelled.
        state = f"CAST(json_build_object({', '.join(parts)}) AS text)"
        return f"CASE WHEN {there} THEN {state} END"

    def _same(self, part: Part, document: str) -> str:
        """Return the condition that a subject's rows in a table are those of a document."""
        table, key, owner = self._names(part)
        rows = self._rows(document, part)
        return (
            # A deleted row counts 0.
            f"(SELECT count(*) FROM {table} r WHERE r.{owner} = c.subject_id) "  # noqa: S608
            f"= (SELECT count(*) FROM {rows} a) "
            f"AND NOT EXISTS (SELECT 1 FROM {rows} a WHERE NOT EXISTS "
            f"(SELECT 1 FROM {table} r, jsonb_populate_record(r.*, a.value) k "
            f"WHERE r.{key} = {self._key('a.value', part)} AND {self._same_row(part, 'r', 'k')}))"
        )

    def _kept_same(self, part: Part) -> str:
        """Return the condition that the rows of `c.found` are those of `c.after`."""
        table = self._names(part)[0]
        after, found = self._rows("c.after", part), self._rows("c.found", part)
        # Both become rows of the table, so that values are compared and not their text.
        there, then = (f"jsonb_populate_record(CAST(NULL AS {table}), {row}.value)" for row in "ra")
        return (
            f"(SELECT count(*) FROM {found} r) = (SELECT count(*) FROM {after} a) "  # noqa: S608
            f"AND NOT EXISTS (SELECT 1 FROM {after} a WHERE NOT EXISTS "
            f"(SELECT 1 FROM {found} r, {there} h, {then} k "
            f"WHERE {self._key('r.value', part)} = {self._key('a.value', part)} "
            f"AND {self._same_row(part, 'h', 'k')}))"
        )

    def _same_row(self, part: Part, one: str, other: str) -> str:
        """Return the condition that two rows have the same in the columns that are compared."""
        names = self._compared(part)
        left, right = (", ".join(f"{row}.{name}" for name in names) for row in (one, other))
        return f"(({left}) IS NOT DISTINCT FROM ({right}))"

    def _compared(self, part: Part) -> list[str]:
        """Return Chinook's columns of a table, quoted, without the key and what is left alone.

        Columns of the owner's are no part of a change: a trigger may set them at any time.
        """
        names = (column.name for column in part.table.columns)
        return [
            quoted(self._connection, it)
            for it in names
            if it not in (part.key, part.unrestored_column)
        ]

    def _rows(self, document: str, part: Part, kind: str = "jsonb") -> str:
        return f"{kind}_array_elements(CAST({document} AS {kind}) -> '{part.name}')"

    def _key(self, row: str, part: Part) -> str:
        return f"CAST({row} ->> '{self._name(part.key)}' AS bigint)"

    def _name(self, name: str) -> str:
        """Return the name of a column of Chinook's as it is spelled, without quotes."""
        return plain(self._connection, name)

    def _columns(self, part: Part, runs: Sequence[str], subject: Subject) -> list[str]:
        """Return the columns of a table that a snapshot holds and that can be written, quoted."""
        table = self._names(part)[0]
        found = self._run(
            "SELECT quote_ident(a.attname) FROM pg_catalog.pg_attribute a "  # noqa: S608
            "WHERE a.attrelid = CAST(:table AS regclass) AND a.attnum > 0 "
            "AND NOT a.attisdropped AND a.attgenerated = '' "
            f"AND EXISTS (SELECT 1 FROM {self._change} c WHERE c.run_id = ANY(:runs) "
            "AND c.subject = :subject "
            f"AND CAST(c.before AS jsonb) -> '{part.name}' -> 0 -> CAST(a.attname AS text) "
            "IS NOT NULL) ORDER BY a.attnum",
            runs=runs,
            subject=subject,
            table=table,
        )
        return list(found.scalars())
