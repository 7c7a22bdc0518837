-- As of revision 0007. migrations/README.md explains the placeholders in braces.
CREATE OR REPLACE FUNCTION {schema}.chinook_sim_referred()
RETURNS text
LANGUAGE plpgsql AS $function$
-- Returns the condition on a sale `i` that a row of another table refers to it or to one of its
-- lines; NULL where there are no such foreign keys.
#variable_conflict use_variable
DECLARE
    missing text;
    hidden regclass;
    condition text;
BEGIN
    SELECT string_agg(DISTINCT 'GRANT SELECT ON ' || f.conrelid::regclass::text || ' TO '
                   || quote_ident(current_user), '; ')
      INTO missing FROM pg_constraint f
     WHERE {foreign_key} AND NOT has_any_column_privilege(f.conrelid, 'SELECT');
    IF missing IS NOT NULL THEN
        RAISE insufficient_privilege USING
            MESSAGE = 'simulate_delete_sale: missing privileges. Run: ' || missing;
    END IF;
    -- Rows that a policy hides would be deleted or changed by the foreign key.
    SELECT f.conrelid INTO hidden FROM pg_constraint f
     WHERE f.contype = 'f' AND f.confrelid IN ('{invoice_text}'::regclass, {line_oid})
       AND f.confdeltype IN ('c', 'n', 'd') AND row_security_active(f.conrelid) LIMIT 1;
    IF FOUND THEN
        RAISE insufficient_privilege USING
            MESSAGE = 'simulate_delete_sale: row-level security on ' || hidden::text || ' may hide '
                || 'rows that refer to sales; use a role with BYPASSRLS';
    END IF;
    SELECT string_agg(
               'EXISTS (SELECT 1 FROM ' || CASE WHEN k.to_line THEN
                   '{line_text} s JOIN ' || k.referring || ' r ON ' || k.same
                   || ' WHERE s.{line_invoice_text} = i.{invoice_id_text})'
               ELSE k.referring || ' r WHERE ' || k.same || ')' END, ' OR ')
      INTO condition
      FROM (SELECT f.conrelid::regclass::text AS referring, f.confrelid = {line_oid} AS to_line,
                   string_agg('r.' || quote_ident(theirs.attname) || ' = '
                       || CASE WHEN f.confrelid = {line_oid} THEN 's.' ELSE 'i.' END
                       || quote_ident(ours.attname), ' AND ') AS same
              FROM pg_constraint f
             CROSS JOIN LATERAL unnest(f.conkey, f.confkey) pair (theirs, ours)
              JOIN pg_attribute theirs
                ON theirs.attrelid = f.conrelid AND theirs.attnum = pair.theirs
              JOIN pg_attribute ours ON ours.attrelid = f.confrelid AND ours.attnum = pair.ours
             WHERE {foreign_key}
             GROUP BY f.oid, f.conrelid, f.confrelid) k;
    RETURN condition;
END
$function$;
