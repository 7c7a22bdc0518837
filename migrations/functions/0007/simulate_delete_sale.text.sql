-- As of revision 0007. migrations/README.md explains the placeholders in braces.
CREATE OR REPLACE FUNCTION {schema}.simulate_delete_sale(simulation_date text)
RETURNS integer
LANGUAGE plpgsql AS $function$
-- See simulate_delete_sale(timestamp). Literals of no other type come here, and are read as they would be for a timestamp.
BEGIN
    RETURN {schema}.simulate_delete_sale(simulation_date::timestamp);
END
$function$;
