"""Queries of PostgreSQL's catalogue for ledgers: without a shop, or of another owner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from chinook_sim.database.backends.postgresql_names import is_one_of
from chinook_sim.database.identifiers import sql_text
from chinook_sim.database.names import CHINOOK_TABLES
from chinook_sim.database.schema import LEDGER_MARK, VERSION_TABLE

if TYPE_CHECKING:
    from sqlalchemy import TextClause

    from chinook_sim.database.names import NameMap

__all__ = ["LEDGER_OWNER", "RENAMED_SHOP", "ledger_without_shop", "left_ledger"]


def ledger_without_shop(stated: NameMap) -> str:
    """Return what follows FROM for the version tables `m` of ledgers whose shop is not there.

    Their schemas are `h`. Batches refuse a shop without a ledger then, and migrations refuse to
    make it another one.
    """
    return f"""
    pg_catalog.pg_class m JOIN pg_catalog.pg_namespace h ON h.oid = m.relnamespace
     WHERE m.relname = '{VERSION_TABLE}' AND m.relkind = 'r' AND left(h.nspname, 3) <> 'pg_'
       -- in the schema of the ledger, or in the one that it is for
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_class s
                         JOIN pg_catalog.pg_namespace o ON o.oid = s.relnamespace
                        WHERE {is_one_of(CHINOOK_TABLES, "s", stated)} AND s.relkind IN ('r', 'p')
                          AND (o.oid = h.oid OR pg_catalog.obj_description(m.oid, 'pg_class')
                                                = '{LEDGER_MARK}' || o.nspname))
"""


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


def left_ledger(stated: NameMap) -> TextClause:
    """Return the query for a schema that has a ledger without its shop.

    The result has the statements that move the ledger to a schema, too.
    """
    return sql_text(f"""
    SELECT quote_ident(n.nspname), string_agg(
               format('ALTER %s SET SCHEMA %I', ours.thing, CAST(:schema AS text)), '; '
               ORDER BY ours.thing)
      FROM (SELECT h.oid, h.nspname FROM {ledger_without_shop(stated)}
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
    """)  # noqa: S608


LEDGER_OWNER = text(
    """
    SELECT quote_ident(pg_get_userbyid(c.relowner))
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = :schema AND c.relname = :marker AND NOT pg_has_role(c.relowner, 'USAGE')
    """
)
"""The owner of the ledger in a schema, if the current role has not the owner's privileges."""
