"""What PostgreSQL's catalogue says of the tables of a Chinook."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import date
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Row, text

from chinook_sim.database.backends.postgresql_ledger import ledger_without_shop
from chinook_sim.database.backends.postgresql_names import is_key, is_one_of, literals, which
from chinook_sim.database.identifiers import sql_text
from chinook_sim.database.names import (
    CHINOOK_TABLES,
    SALE_TABLES,
    NameMap,
    stated_names,
)
from chinook_sim.database.schema import (
    LEDGER_MARK,
    LEDGER_TABLES,
    VERSION_TABLE,
    ColumnType,
    IdSource,
    TableRow,
    ledger_state,
)
from chinook_sim.database.session_settings import UNUSUAL
from chinook_sim.models import Invoice, InvoiceLine

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import TextClause

__all__ = [
    "COMMENTS",
    "FOREIGN_KEYS",
    "SEARCHED_SCHEMAS",
    "chinook_tables",
    "closed_schema",
]


# Every batch runs it. Planning takes longer than the rest, and grows fast with the number of tables
# that are joined: so the tables, their schemas and their keys are queries of their own, which
# MATERIALIZED and LIMIT keep apart. LIMIT also makes PostgreSQL look types up, where it would read
# all of them. All that is compared is constant, and is no parameter.
@lru_cache(maxsize=8)
def _tables(stated: NameMap) -> TextClause:
    """Return the query for the tables of all Chinooks."""
    return sql_text(f"""
    WITH found AS MATERIALIZED (
        SELECT c.oid, c.relname, n.oid AS schema, n.nspname
          FROM pg_catalog.pg_class c
          JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'p') AND {is_one_of(CHINOOK_TABLES, "c", stated)}
           AND left(n.nspname, 3) <> 'pg_' AND n.nspname <> 'information_schema'
           AND has_schema_privilege(n.oid, 'USAGE')),
    apart AS MATERIALIZED (
        -- a ledger in a schema of its own has a table that names the shop's schema in its comment
        SELECT DISTINCT ON (comment) h.oid, h.nspname,
               pg_catalog.obj_description(m.oid, 'pg_class') AS comment
          FROM pg_catalog.pg_class m JOIN pg_catalog.pg_namespace h ON h.oid = m.relnamespace
         WHERE m.relname = '{VERSION_TABLE}' AND m.relkind = 'r'
         ORDER BY comment, h.nspname),
    place AS MATERIALIZED (
        SELECT n.schema, coalesce(apart.nspname, n.nspname) AS ledger_schema, ledger.*
          FROM (SELECT DISTINCT schema, nspname FROM found) n
          LEFT JOIN apart ON apart.comment = '{LEDGER_MARK}' || n.nspname
         CROSS JOIN LATERAL (
               SELECT string_agg(l.relname, ',') AS tables,
                      string_agg(l.relname, ',') FILTER (WHERE row_security_active(l.oid))
                          AS hidden,
                      coalesce(bool_and(pg_catalog.pg_table_is_visible(l.oid)
                                        OR apart.oid IS NOT NULL), true) AS visible
                 FROM pg_catalog.pg_class l
                WHERE l.relnamespace = coalesce(apart.oid, n.schema) AND l.relkind = 'r'
                  AND l.relname IN ({literals(LEDGER_TABLES)})) ledger)
    SELECT c.oid, c.nspname AS schema, c.relname AS table_name,
           (SELECT json_agg(json_build_array(
                       a.attname, format_type(y.base, NULL),
                       CASE WHEN y.base = 'numeric'::regtype AND y.modifier > 0
                            THEN ((y.modifier - 4) & 2047 # 1024) - 1024 END,
                       (a.attnotnull OR y.typnotnull) AND NOT a.atthasdef AND a.attidentity = ''
                       AND y.typdefault IS NULL AND NOT filled.by_trigger, a.attgenerated <> ''))
              FROM pg_catalog.pg_attribute a
             CROSS JOIN LATERAL (
                   SELECT coalesce(nullif(t.typbasetype, 0), t.oid) AS base, t.typnotnull,
                          t.typdefault,
                          CASE t.typtype WHEN 'd' THEN t.typtypmod ELSE a.atttypmod END AS modifier
                     FROM pg_catalog.pg_type t WHERE t.oid = a.atttypid LIMIT 1) y
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)::text AS columns,
           (SELECT json_agg(json_build_array(a.attname, CASE WHEN t.relnamespace = c.schema
                                                             THEN t.relname END))
              FROM pg_catalog.pg_constraint k
              JOIN pg_catalog.pg_class t ON t.oid = k.confrelid
              JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
             WHERE k.conrelid = c.oid AND k.contype = 'f' AND cardinality(k.conkey) = 1)::text
               AS foreign_keys,
           c.nspname = ANY (current_schemas(false)) AS on_path,
           pg_catalog.pg_table_is_visible(c.oid) AND place.visible AS visible,
           place.ledger_schema, place.tables AS ledger_tables,
           -- asked once, and only where a shop has no ledger
           CASE WHEN place.tables IS NULL THEN (
               SELECT quote_ident(h.nspname) FROM {ledger_without_shop(stated)}
                  AND EXISTS (SELECT FROM pg_catalog.pg_class r
                               WHERE r.relnamespace = h.oid AND r.relname = '{LEDGER_TABLES[0]}'
                                 AND r.relkind = 'r')
                ORDER BY 1 LIMIT 1) END AS stray_ledger,
           row_security_active(c.oid) AS hides_rows, place.hidden AS hidden_ledger,
           to_char(CAST(CURRENT_DATE AS timestamp), 'YYYY-MM-DD') AS today,
           {UNUSUAL} AS unusual_settings,
           has_table_privilege(c.oid, 'SELECT') AS readable,
           has_table_privilege(c.oid, 'UPDATE, DELETE, TRUNCATE') AS lockable,
           key.*
      FROM found c JOIN place ON place.schema = c.schema
     CROSS JOIN LATERAL (
           -- before each row that is inserted
           SELECT EXISTS (SELECT FROM pg_catalog.pg_trigger g
                           WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgtype & 7 = 7
                             AND g.tgenabled <> 'D')
                  AS by_trigger) filled
      LEFT JOIN LATERAL (
           SELECT a.attname AS key, a.attidentity = 'a' AS always,
                  CASE coalesce(nullif(y.typbasetype, 0), y.oid)
                       WHEN 'int2'::regtype THEN 32767 WHEN 'int4'::regtype THEN 2147483647
                       ELSE 9223372036854775807 END AS column_limit,
                  maker.sequence, maker.elsewhere AS sequence_schema, maker.seqmax,
                  maker.seqincrement, maker.usable,
                  CASE WHEN maker.seqincrement < 0
                       THEN format('nextval(%L::regclass)', CAST(maker.seqrelid AS regclass))
                       WHEN source.oid IS NULL THEN call.expression END AS expression,
                  source.oid IS NOT NULL AS has_default
             FROM pg_catalog.pg_attribute a
             JOIN pg_catalog.pg_type y ON y.oid = a.atttypid
             LEFT JOIN LATERAL (
                  -- a call of something, and not a constant
                  SELECT f.oid, pg_catalog.pg_get_expr(f.adbin, f.adrelid) AS expression
                    FROM pg_catalog.pg_attrdef f
                   WHERE f.adrelid = a.attrelid AND f.adnum = a.attnum AND a.attgenerated = ''
                     AND pg_catalog.pg_get_expr(f.adbin, f.adrelid) LIKE '%(%'
                   LIMIT 1) call ON true
             LEFT JOIN LATERAL (
                  -- an identity column owns its sequence; a serial column's default is nextval of
                  -- one
                  SELECT d.objid AS oid FROM pg_catalog.pg_depend d
                   WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
                     AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum AND d.deptype = 'i'
                  UNION ALL
                  SELECT d.refobjid FROM pg_catalog.pg_depend d
                    JOIN pg_catalog.pg_class q ON q.oid = d.refobjid AND q.relkind = 'S'
                   WHERE d.classid = 'pg_attrdef'::regclass AND d.objid = call.oid
                     AND d.refclassid = 'pg_class'::regclass
                     -- a setting puts quotes around every name
                     AND replace(call.expression, '"', '')
                         ~ '^nextval[(]E?''([^'']|'''')*''::regclass[)]$'
                  LIMIT 1) source ON true
             LEFT JOIN LATERAL (
                  SELECT s.seqrelid, s.seqmax, s.seqincrement,
                         quote_ident(home.nspname) || '.' || quote_ident(q.relname) AS sequence,
                         CASE WHEN home.oid <> c.schema THEN quote_ident(home.nspname) END
                             AS elsewhere,
                         has_sequence_privilege(s.seqrelid, 'USAGE') AS usable
                    FROM pg_catalog.pg_sequence s
                    JOIN pg_catalog.pg_class q ON q.oid = s.seqrelid
                    JOIN pg_catalog.pg_namespace home ON home.oid = q.relnamespace
                   WHERE s.seqrelid = coalesce(source.oid, CASE WHEN call.expression IS NULL THEN (
                         -- a plain id column has no source, but may have a sequence beside it:
                         -- ours, or the one of another program that numbers invoices
                         SELECT beside.oid FROM pg_catalog.pg_class beside
                          WHERE beside.relkind = 'S' AND beside.relnamespace = c.schema
                            AND beside.relname = CASE
                                WHEN {is_one_of([Invoice.__table__], "c", stated)}
                                THEN 'invoice_id_seq'
                                WHEN {is_one_of([InvoiceLine.__table__], "c", stated)}
                                THEN 'invoice_line_id_seq' END) END)
                  LIMIT 1) maker ON true
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
              AND {is_key("c", "a", stated)}) key ON true
     ORDER BY array_position(current_schemas(false), c.nspname) NULLS LAST, c.nspname, c.oid
    """)  # noqa: S608


def closed_schema(stated: NameMap) -> TextClause:
    """Return the query for a schema with the sale tables that is closed to the role."""
    return sql_text(f"""
    SELECT quote_ident(n.nspname) FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p') AND {is_one_of(CHINOOK_TABLES, "c", stated)}
       AND NOT has_schema_privilege(n.oid, 'USAGE')
     GROUP BY 1 HAVING count(DISTINCT {which(SALE_TABLES, "c", stated)}) = 4
     ORDER BY count(*) DESC LIMIT 1
    """)  # noqa: S608


FOREIGN_KEYS = text(
    """
    SELECT CAST(CAST(c.conrelid AS regclass) AS text) AS table_name, c.oid AS key,
           (SELECT CAST(CAST(t.relnamespace AS regnamespace) AS text)
              FROM pg_catalog.pg_class t WHERE t.oid = c.conrelid) AS schema,
           quote_ident(theirs.attname) AS from_column, quote_ident(ours.attname) AS to_column,
           c.confrelid = CAST(:invoice AS regclass) AS to_invoice,
           c.conrelid = CAST(:line AS regclass) AS own,
           row_security_active(c.conrelid) AND c.confdeltype IN ('c', 'n', 'd') AS hidden
      FROM pg_catalog.pg_constraint c
      CROSS JOIN LATERAL unnest(c.conkey, c.confkey) AS pair (theirs, ours)
      JOIN pg_catalog.pg_attribute theirs
        ON theirs.attrelid = c.conrelid AND theirs.attnum = pair.theirs
      JOIN pg_catalog.pg_attribute ours
        ON ours.attrelid = c.confrelid AND ours.attnum = pair.ours
     WHERE c.contype = 'f'
       AND c.confrelid IN (CAST(:invoice AS regclass), CAST(:line AS regclass))
       -- Each partition has a foreign key of its own.
       AND c.conparentid = 0
    """
)


SEARCHED_SCHEMAS = text(
    """
    SELECT quote_ident(nspname) FROM pg_namespace
     WHERE nspname = ANY (string_to_array(
               translate(current_setting('search_path'), '" ', ''), ','))
    """
)
"""Schemas on the search path. `current_schemas` leaves out those that are closed to the role."""


COMMENTS = {
    "pg_class": text("SELECT obj_description(to_regclass(:name), 'pg_class')"),
    "pg_proc": text("SELECT obj_description(to_regprocedure(:name), 'pg_proc')"),
}
"""The comment on a table, a sequence or a function, by the catalogue that has it."""


def chinook_tables(connection: Connection) -> Iterable[TableRow]:
    """Return all tables with a name that one of Chinook's may have, in all schemas."""
    # A row for each column that may be the key of a table.
    for _, rows in groupby(
        connection.execute(_tables(stated_names(connection))), lambda row: row.oid
    ):
        row, *others = rows
        foreign_keys = defaultdict(set)
        for column, table in json.loads(row.foreign_keys or "[]"):
            foreign_keys[column].add(table)
        ids = {it.key: _id_source(it) for it in (row, *others) if it.key is not None}
        yield TableRow(
            row.schema,
            row.table_name,
            {name: ColumnType(*rest) for name, *rest in json.loads(row.columns or "[]")},
            {column: frozenset(tables) for column, tables in foreign_keys.items()},
            ids,
            row.on_path,
            row.visible,
            row.ledger_schema,
            *ledger_state(row.ledger_tables),
            row.stray_ledger,
            row.hides_rows,
            tuple(row.hidden_ledger.split(",")) if row.hidden_ledger else (),
            date.fromisoformat(row.today),
            row.unusual_settings,
        )


def _id_source(row: Row[Any]) -> IdSource:
    """Return where the ids of a column come from."""
    if row.expression is not None:
        return IdSource(
            "expression", row.column_limit, expression=row.expression, always=row.always
        )
    if row.sequence is None:
        return IdSource(
            "none",
            row.column_limit,
            default=False,
            readable=row.readable,
            lockable=row.lockable,
        )
    return IdSource(
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
