-- As of revision 0006. migrations/README.md explains the placeholders in braces.
CREATE OR REPLACE FUNCTION {schema}.chinook_sim_any_sale(p_from timestamp, p_to timestamp, p_lines integer)
RETURNS integer
LANGUAGE plpgsql AS $function$
#variable_conflict use_variable
-- Chooses a sale of a time, with fewer than p_lines lines, and locks it; NULL where there is none.
-- One that another session is changing is passed over, so that sessions do not wait for each other.
DECLARE
    lowest bigint;
    highest bigint;
    candidate bigint;
    chosen integer;
    rest integer[];
BEGIN
    SELECT min(i.{invoice_id}), max(i.{invoice_id}) INTO lowest, highest FROM {invoice} i;
    FOR attempt IN 1 .. CASE WHEN highest IS NULL THEN 0 ELSE 100 END LOOP
        candidate := lowest + floor(random() * (highest - lowest + 1))::bigint;
        SELECT i.{invoice_id} INTO chosen FROM {invoice} i
         WHERE i.{invoice_id} = candidate AND i.{invoice_date} BETWEEN p_from AND p_to
           AND (SELECT count(*) FROM {line} l WHERE l.{line_invoice} = i.{invoice_id}) < p_lines
           FOR UPDATE SKIP LOCKED;
        -- Counted again now that it is locked: another session may have added a line before.
        IF FOUND AND (SELECT count(*) FROM {line} l WHERE l.{line_invoice} = chosen) < p_lines THEN
            RETURN chosen;
        END IF;
    END LOOP;
    -- Few of all sales are of that time: look for them.
    SELECT array_agg(i.{invoice_id}) INTO rest FROM {invoice} i
     WHERE i.{invoice_date} BETWEEN p_from AND p_to
       AND (SELECT count(*) FROM {line} l WHERE l.{line_invoice} = i.{invoice_id}) < p_lines;
    WHILE cardinality(rest) > 0 LOOP
        candidate := rest[1 + floor(random() * cardinality(rest))::integer];
        SELECT i.{invoice_id} INTO chosen FROM {invoice} i
         WHERE i.{invoice_id} = candidate AND i.{invoice_date} BETWEEN p_from AND p_to
           FOR UPDATE SKIP LOCKED;
        -- Counted again now that it is locked: another session may have added a line before.
        IF FOUND AND (SELECT count(*) FROM {line} l WHERE l.{line_invoice} = chosen) < p_lines THEN
            RETURN chosen;
        END IF;
        rest := array_remove(rest, candidate::integer);
    END LOOP;
    RETURN NULL;
END
$function$;
