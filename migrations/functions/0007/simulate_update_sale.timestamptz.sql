-- As of revision 0007. migrations/README.md explains the placeholders in braces.
CREATE OR REPLACE FUNCTION {schema}.simulate_update_sale(simulation_date timestamptz)
RETURNS integer
LANGUAGE plpgsql AS $function$
-- See simulate_update_sale(timestamp). The moment is taken to the clock of the session's TimeZone.
BEGIN
    RETURN {schema}.simulate_update_sale(CASE
        -- A day begins later than at midnight where daylight saving skips midnight.
        WHEN simulation_date = date_trunc('day', simulation_date) THEN simulation_date::date
        ELSE simulation_date::timestamp END);
END
$function$;
