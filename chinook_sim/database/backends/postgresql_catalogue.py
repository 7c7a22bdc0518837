"""What PostgreSQL's catalogue says of the tables of a Chinook."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, get_args

from sqlalchemy import Connection, bindparam, text

from chinook_sim.database.identifiers import Spelling, spell
from chinook_sim.database.schema import (
    LEDGER_MARK,
    LEDGER_TABLES,
    SALE_TABLES,
    VERSION_TABLE,
    ColumnRow,
    IdSource,
    chinook_names,
    ledger_state,
)
from chinook_sim.database.session_settings import UNUSUAL

if TYPE_CHECKING:
    from collections.abc import Iterable


__all__ = ["CLOSED_SCHEMA", "FOREIGN_KEYS", "LEDGER_WITHOUT_SHOP", "read_columns"]

SALE_NAMES = [
    spell(table.name, spelling) for table in SALE_TABLES for spelling in get_args(Spelling)
]


LEDGER_WITHOUT_SHOP = """
    pg_catalog.pg_class m JOIN pg_catalog.pg_namespace h ON h.oid = m.relnamespace
     WHERE m.relname = :marker AND m.relkind = 'r' AND left(h.nspname, 3) <> 'pg_'
       -- in the schema of the ledger, or in the one that it is for
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_class s
                         JOIN pg_catalog.pg_namespace o ON o.oid = s.relnamespace
                        WHERE s.relname IN :names AND s.relkind IN ('r', 'p')
                          AND (o.oid = h.oid OR pg_catalog.obj_description(m.oid, 'pg_class')
                                                = CAST(:mark AS text) || o.nspname))
"""
"""What follows FROM for the version tables `m` of ledgers, and their schemas `h`, whose shop is not
there: batches refuse a shop without a ledger then, and migrations refuse to make it another one."""


_COLUMNS = text(
    """
    SELECT n.nspname AS schema, c.relname AS table_name, a.attname AS column_name,
           n.nspname = ANY (current_schemas(false)) AS on_path,
           pg_catalog.pg_table_is_visible(c.oid)
           AND ledger.visible AS visible, ledger.tables AS ledger_tables,
           coalesce(apart.nspname, n.nspname) AS ledger_schema,
           -- asked once, and only where a shop has no ledger
           CASE WHEN ledger.tables IS NULL THEN (
               SELECT quote_ident(h.nspname) FROM """  # noqa: S608
    + LEDGER_WITHOUT_SHOP
    + """ AND EXISTS (SELECT FROM pg_catalog.pg_class r
                               WHERE r.relnamespace = h.oid AND r.relname = :run
                                 AND r.relkind = 'r')
                ORDER BY 1 LIMIT 1) END AS stray_ledger,
           concat_ws(',', CASE WHEN row_security_active(c.oid) AND c.relname IN :sales
                               THEN c.relname END, ledger.hidden) AS row_security,
           to_char(CAST(CURRENT_DATE AS timestamp), 'YYYY-MM-DD') AS today,
           """
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
                  string_agg(l.relname, ',') FILTER (WHERE row_security_active(l.oid)) AS hidden,
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
    bindparam("sales", SALE_NAMES, expanding=True),
    bindparam("ledger", LEDGER_TABLES, expanding=True),
    bindparam("run", LEDGER_TABLES[0]),
    bindparam("marker", VERSION_TABLE),
    bindparam("mark", LEDGER_MARK),
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


def read_columns(connection: Connection) -> Iterable[ColumnRow]:
    """Return the columns of all tables that have a name of Chinook's, in all schemas."""
    for row in connection.execute(_COLUMNS, {"names": list(chinook_names())}):
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
        yield ColumnRow(
            row.schema,
            row.table_name,
            row.column_name,
            row.on_path,
            row.visible,
            row.ledger_schema,
            *ledger_state(row.ledger_tables),
            row.stray_ledger,
            tuple(row.row_security.split(",")) if row.row_security else (),
            date.fromisoformat(row.today),
            row.unusual_settings,
            ids,
        )
