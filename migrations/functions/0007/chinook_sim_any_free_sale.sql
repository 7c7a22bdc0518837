-- As of revision 0007. migrations/README.md explains the placeholders in braces.
CREATE OR REPLACE FUNCTION {schema}.chinook_sim_any_free_sale(p_from timestamp, p_to timestamp)
RETURNS integer
LANGUAGE plpgsql AS $function$
-- Chooses a sale of a time that no row of another table refers to, and locks it; NULL for none.
#variable_conflict use_variable
DECLARE
    condition text := {schema}.chinook_sim_referred();
    referred text := 'SELECT ' || condition || ' FROM {invoice_text} i WHERE i.{invoice_id_text} = $1';
    lowest bigint;
    highest bigint;
    candidate bigint;
    rest integer[];
BEGIN
    SELECT min(i.{invoice_id}), max(i.{invoice_id}) INTO lowest, highest FROM {invoice} i;
    FOR attempt IN 1 .. CASE WHEN highest IS NULL THEN 0 ELSE 100 END LOOP
        candidate := lowest + floor(random() * (highest - lowest + 1))::bigint;
        PERFORM 1 FROM {invoice} i
          WHERE i.{invoice_id} = candidate AND i.{invoice_date} BETWEEN p_from AND p_to;
        IF FOUND AND {schema}.chinook_sim_hold_sale(
            candidate::integer, p_from, p_to, referred) THEN
            RETURN candidate;
        END IF;
    END LOOP;
    -- Few of all sales are of that time, and free: look for them.
    IF condition IS NULL THEN
        SELECT array_agg(i.{invoice_id}) INTO rest FROM {invoice} i
         WHERE i.{invoice_date} BETWEEN p_from AND p_to;
    ELSE
        EXECUTE 'SELECT array_agg(i.{invoice_id_text}) FROM {invoice_text} i '
            || 'WHERE i.{invoice_date_text} BETWEEN $1 AND $2 AND NOT (' || condition || ')'
           INTO rest USING p_from, p_to;
    END IF;
    WHILE cardinality(rest) > 0 LOOP
        candidate := rest[1 + floor(random() * cardinality(rest))::integer];
        IF {schema}.chinook_sim_hold_sale(candidate::integer, p_from, p_to, referred) THEN
            RETURN candidate;
        END IF;
        rest := array_remove(rest, candidate::integer);
    END LOOP;
    RETURN NULL;
END
$function$;
