"""What PostgreSQL's catalogue says of the tables of a Chinook."""

from __future__ import annotations

import json
from datetime import date
from typing import TYPE_CHECKING, Any, get_args

from sqlalchemy import Connection, Row, bindparam, text

from chinook_sim.database.identifiers import Spelling, spell
from chinook_sim.database.schema import (
    CHINOOK_TABLES,
    LEDGER_MARK,
    LEDGER_TABLES,
    SALE_TABLES,
    VERSION_TABLE,
    IdSource,
    TableRow,
    chinook_names,
    ledger_state,
)
from chinook_sim.database.session_settings import UNUSUAL

if TYPE_CHECKING:
    from collections.abc import Iterable


__all__ = [
    "CLOSED_SCHEMA",
    "COMMENTS",
    "FOREIGN_KEYS",
    "LEDGER_OWNER",
    "LEFT_LEDGER",
    "RENAMED_SHOP",
    "SEARCHED_SCHEMAS",
    "chinook_tables",
]


def _literals(names: Iterable[str]) -> str:
    """Return names of ours as a list in SQL."""
    return ", ".join(f"'{name}'" for name in names)


_SPELLINGS = get_args(Spelling)

_NAMES = _literals(sorted(chinook_names()))

_SALE_NAMES = _literals(spell(table.name, it) for table in SALE_TABLES for it in _SPELLINGS)

_KEYS = _literals(
    f"{spell(table.name, it)}.{spell(table.primary_key.columns[0].name, it)}"
    for table in CHINOOK_TABLES
    for it in _SPELLINGS
    if len(table.primary_key.columns) == 1
)


LEDGER_WITHOUT_SHOP = f"""
    pg_catalog.pg_class m JOIN pg_catalog.pg_namespace h ON h.oid = m.relnamespace
     WHERE m.relname = '{VERSION_TABLE}' AND m.relkind = 'r' AND left(h.nspname, 3) <> 'pg_'
       -- in the schema of the ledger, or in the one that it is for
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_class s
                         JOIN pg_catalog.pg_namespace o ON o.oid = s.relnamespace
                        WHERE s.relname IN ({_NAMES}) AND s.relkind IN ('r', 'p')
                          AND (o.oid = h.oid OR pg_catalog.obj_description(m.oid, 'pg_class')
                                                = '{LEDGER_MARK}' || o.nspname))
"""
"""What follows FROM for the version tables `m` of ledgers, and their schemas `h`, whose shop is not
there: batches refuse a shop without a ledger then, and migrations refuse to make it another one."""


# Every batch runs it. Planning takes longer than the rest, and grows fast with the number of tables
# that are joined: so the tables, their schemas and their keys are queries of their own, which
# MATERIALIZED and LIMIT keep apart. All that is compared is constant, and is no parameter.
_TABLES = text(
    f"""
    WITH found AS MATERIALIZED (
        SELECT c.oid, c.relname, n.oid AS schema, n.nspname
          FROM pg_catalog.pg_class c
          JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'p') AND c.relname IN ({_NAMES})
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
                  AND l.relname IN ({_literals(LEDGER_TABLES)})) ledger)
    SELECT c.nspname AS schema, c.relname AS table_name,
           (SELECT json_agg(a.attname) FROM pg_catalog.pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)::text AS columns,
           c.nspname = ANY (current_schemas(false)) AS on_path,
           pg_catalog.pg_table_is_visible(c.oid) AND place.visible AS visible,
           place.ledger_schema, place.tables AS ledger_tables,
           -- asked once, and only where a shop has no ledger
           CASE WHEN place.tables IS NULL THEN (
               SELECT quote_ident(h.nspname) FROM {LEDGER_WITHOUT_SHOP}
                  AND EXISTS (SELECT FROM pg_catalog.pg_class r
                               WHERE r.relnamespace = h.oid AND r.relname = '{LEDGER_TABLES[0]}'
                                 AND r.relkind = 'r')
                ORDER BY 1 LIMIT 1) END AS stray_ledger,
           concat_ws(',', CASE WHEN row_security_active(c.oid) AND c.relname IN ({_SALE_NAMES})
                               THEN c.relname END, place.hidden) AS row_security,
           to_char(CAST(CURRENT_DATE AS timestamp), 'YYYY-MM-DD') AS today,
           {UNUSUAL} AS unusual_settings,
           has_table_privilege(c.oid, 'SELECT') AS readable,
           has_table_privilege(c.oid, 'UPDATE, DELETE, TRUNCATE') AS lockable,
           key.*
      FROM found c JOIN place ON place.schema = c.schema
      LEFT JOIN LATERAL (
           SELECT a.attidentity = 'a' AS always,
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
                                WHEN c.relname IN ('Invoice', 'invoice') THEN 'invoice_id_seq'
                                WHEN c.relname IN ('InvoiceLine', 'invoice_line')
                                THEN 'invoice_line_id_seq' END) END)
                  LIMIT 1) maker ON true
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
              AND c.relname || '.' || a.attname IN ({_KEYS})
            LIMIT 1) key ON true
     ORDER BY array_position(current_schemas(false), c.nspname) NULLS LAST, c.nspname, c.oid
    """  # noqa: S608
)


CLOSED_SCHEMA = text(
    """
    SELECT quote_ident(n.nspname) FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p') AND c.relname IN :names
       AND NOT has_schema_privilege(n.oid, 'USAGE')
     GROUP BY 1 ORDER BY count(*) DESC LIMIT 1
    """
).bindparams(bindparam("names", expanding=True))


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


RENAMED_SHOP = text(
    f"""
    SELECT quote_ident(h.nspname)
      FROM pg_class m JOIN pg_namespace h ON h.oid = m.relnamespace
     WHERE m.relname = '{VERSION_TABLE}' AND starts_with(obj_description(m.oid, 'pg_class'), :mark)
       AND NOT EXISTS (SELECT FROM pg_namespace n
                        WHERE obj_description(m.oid, 'pg_class')
                              = CAST(:mark AS text) || n.nspname)
       AND EXISTS (SELECT FROM pg_description d JOIN pg_proc p ON p.oid = d.objoid
                     JOIN pg_namespace n ON n.oid = p.pronamespace
                    WHERE d.classoid = 'pg_proc'::regclass AND starts_with(d.description, :ours)
                      AND n.nspname = :schema)
    """  # noqa: S608
)
"""The schemas of ledgers whose shop's schema was renamed, if a schema has our functions."""


LEFT_LEDGER = text(
    """
    SELECT quote_ident(n.nspname), string_agg(
               format('ALTER %s SET SCHEMA %I', ours.thing, CAST(:schema AS text)), '; '
               ORDER BY ours.thing)
      FROM (SELECT h.oid, h.nspname FROM """  # noqa: S608
    + LEDGER_WITHOUT_SHOP
    + """
            -- one in a schema of its own says of which shop it is
            AND starts_with(obj_description(m.oid, 'pg_class'), :mark) IS NOT TRUE) n
     CROSS JOIN LATERAL (
           SELECT format('%s %I.%I', CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
                         n.nspname, c.relname) AS thing
             FROM pg_class c
            WHERE c.relnamespace = n.oid
              AND (c.relkind = 'r' AND starts_with(c.relname, 'chinook_sim_')
                   OR c.relkind = 'S' AND starts_with(obj_description(c.oid, 'pg_class'), :ours))
           UNION ALL
           SELECT 'FUNCTION ' || CAST(CAST(p.oid AS regprocedure) AS text)
             FROM pg_proc p
            WHERE p.pronamespace = n.oid
              AND starts_with(obj_description(p.oid, 'pg_proc'), :ours)) ours
     GROUP BY n.oid, n.nspname ORDER BY n.nspname LIMIT 1
    """
)
"""A schema that has a ledger without its shop, and the statements that move it to a schema."""


LEDGER_OWNER = text(
    """
    SELECT quote_ident(pg_get_userbyid(c.relowner))
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = :schema AND c.relname = :marker AND NOT pg_has_role(c.relowner, 'USAGE')
    """
)
"""The owner of the ledger in a schema, if the current role has not the owner's privileges."""


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
    """Return all tables that have a name of Chinook's, in all schemas."""
    for row in connection.execute(_TABLES):
        yield TableRow(
            row.schema,
            row.table_name,
            frozenset(json.loads(row.columns or "[]")),
            row.on_path,
            row.visible,
            row.ledger_schema,
            *ledger_state(row.ledger_tables),
            row.stray_ledger,
            tuple(row.row_security.split(",")) if row.row_security else (),
            date.fromisoformat(row.today),
            row.unusual_settings,
            _id_source(row),
        )


def _id_source(row: Row[Any]) -> IdSource | None:
    """Return where the ids of a table come from, None if it has no key column."""
    if row.column_limit is None:
        return None
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
