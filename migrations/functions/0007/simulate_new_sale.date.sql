-- As of revision 0007. migrations/README.md explains the placeholders in braces.
CREATE OR REPLACE FUNCTION {schema}.simulate_new_sale(p_invoice_date date)
RETURNS TABLE (generated_invoice_id integer, generated_total numeric)
LANGUAGE plpgsql AS $function$
-- See simulate_new_sale(timestamp). A date would otherwise be converted to a moment, and some days have no midnight.
BEGIN
    RETURN QUERY SELECT s.* FROM {schema}.simulate_new_sale(p_invoice_date::timestamp) s;
END
$function$;
