-- As of revision 0007. migrations/README.md explains the placeholders in braces.
CREATE OR REPLACE FUNCTION {schema}.simulate_update_sale(simulation_date date)
RETURNS integer
LANGUAGE plpgsql AS $function$
-- See simulate_update_sale(timestamp). A date would otherwise be converted to a moment, and some days have no midnight.
BEGIN
    RETURN {schema}.simulate_update_sale(simulation_date::timestamp);
END
$function$;
