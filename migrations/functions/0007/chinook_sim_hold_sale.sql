-- As of revision 0007. migrations/README.md explains the placeholders in braces.
CREATE OR REPLACE FUNCTION {schema}.chinook_sim_hold_sale(p_invoice integer, p_from timestamp, p_to timestamp, p_referred text)
RETURNS boolean
LANGUAGE plpgsql AS $function$
-- Locks a sale if it is of a time and nothing refers to it; tells whether it is, and is locked.
-- One that another session is changing is passed over, so that sessions do not wait for each other.
#variable_conflict use_variable
DECLARE
    referred boolean := false;
BEGIN
    IF p_referred IS NOT NULL THEN
        EXECUTE p_referred INTO referred USING p_invoice;
        IF referred THEN
            RETURN false;
        END IF;
    END IF;
    PERFORM 1 FROM {invoice} i
      WHERE i.{invoice_id} = p_invoice AND i.{invoice_date} BETWEEN p_from AND p_to
        FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    -- Asked again now that it is locked: another session may have added a reference before.
    IF p_referred IS NOT NULL THEN
        EXECUTE p_referred INTO referred USING p_invoice;
    END IF;
    RETURN NOT referred;
END
$function$;
