-- As of revision 0007. migrations/README.md explains the placeholders in braces.
CREATE OR REPLACE FUNCTION {schema}.simulate_new_sale(p_invoice_date timestamptz)
RETURNS TABLE (generated_invoice_id integer, generated_total numeric)
LANGUAGE plpgsql AS $function$
-- See simulate_new_sale(timestamp). The moment is taken to the clock of the session's TimeZone.
BEGIN
    RETURN QUERY SELECT s.* FROM {schema}.simulate_new_sale(p_invoice_date::timestamp) s;
END
$function$;
