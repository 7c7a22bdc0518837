-- As of revision 0007. migrations/README.md explains the placeholders in braces.
CREATE OR REPLACE FUNCTION {schema}.simulate_delete_sale(ts timestamp)
RETURNS integer
LANGUAGE plpgsql AS $function$
-- Cancels a sale of the 90 days before ts, with its lines, and returns its id; NULL for none.
-- Midnight means the whole day, and the 90 days before it. A sale that a row of another table
-- refers to stays.
#variable_conflict use_variable
DECLARE
    missing text := {missing_for_delete_sale};
    latest timestamp := CASE WHEN ts = date_trunc('day', ts) THEN ts + interval '1 day' - interval '1 microsecond' ELSE ts END;
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
    chosen := {schema}.chinook_sim_any_free_sale(ts - interval '90 days', latest);
    IF chosen IS NOT NULL THEN
        DELETE FROM {line} l WHERE l.{line_invoice} = chosen;
        IF EXISTS (SELECT 1 FROM {line} l WHERE l.{line_invoice} = chosen) THEN
            RAISE triggered_action_exception USING MESSAGE = 'simulate_delete_sale: a trigger or a '
                || 'rule on {line_text} skipped lines of the sale; change or disable it';
        END IF;
        DELETE FROM {invoice} i WHERE i.{invoice_id} = chosen;
        IF EXISTS (SELECT 1 FROM {invoice} i WHERE i.{invoice_id} = chosen) THEN
            RAISE triggered_action_exception USING MESSAGE = 'simulate_delete_sale: a trigger or a '
                || 'rule on {invoice_text} skipped the sale; change or disable it';
        END IF;
    END IF;
    RETURN chosen;
END
$function$;
