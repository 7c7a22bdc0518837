-- As of revision 0007. migrations/README.md explains the placeholders in braces.
CREATE OR REPLACE FUNCTION {schema}.simulate_new_sale(p_invoice_date text)
RETURNS TABLE (generated_invoice_id integer, generated_total numeric)
LANGUAGE plpgsql AS $function$
-- See simulate_new_sale(timestamp). Literals of no other type come here, and are read as they would be for a timestamp.
BEGIN
    RETURN QUERY SELECT s.* FROM {schema}.simulate_new_sale(p_invoice_date::timestamp) s;
END
$function$;
