-- As of revision 0006. migrations/README.md explains the placeholders in braces.
CREATE OR REPLACE FUNCTION {schema}.simulate_delete_sale(ts timestamp)
RETURNS integer
LANGUAGE plpgsql AS $function$
#variable_conflict use_variable
-- Cancels a sale of the 90 days before ts, with its lines, and returns its id; NULL for none.
DECLARE
    missing text := {missing_for_delete_sale};
    chosen integer;
BEGIN
    IF missing IS NOT NULL THEN
        RAISE insufficient_privilege USING
            MESSAGE = 'simulate_delete_sale: missing privileges. Run: ' || missing;
    END IF;
    IF ts IS NULL OR NOT isfinite(ts) THEN
        RAISE invalid_parameter_value USING
            MESSAGE = 'simulate_delete_sale: ts must be a finite timestamp';
    END IF;
    chosen := {schema}.chinook_sim_any_sale(ts - interval '90 days', ts, 2147483647);
    IF chosen IS NOT NULL THEN
        DELETE FROM {line} l WHERE l.{line_invoice} = chosen;
        DELETE FROM {invoice} i WHERE i.{invoice_id} = chosen;
    END IF;
    RETURN chosen;
END
$function$;
