-- As of revision 0006. migrations/README.md explains the placeholders in braces.
CREATE OR REPLACE FUNCTION {schema}.chinook_sim_in_step(p_sequence regclass, p_highest bigint)
RETURNS void
LANGUAGE plpgsql AS $function$
#variable_conflict use_variable
-- Moves a sequence that is behind its table forward, and never back.
DECLARE
    position bigint;
BEGIN
    IF coalesce(pg_sequence_last_value(p_sequence), 0) >= coalesce(p_highest, 0) THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock({lock});
    -- Another session may have done it while we waited. Of a sequence that was restarted, where
    -- it stands is only known from what it gives.
    position := coalesce(pg_sequence_last_value(p_sequence), nextval(p_sequence));
    IF p_highest - position > 1000000 THEN
        IF NOT has_sequence_privilege(p_sequence, 'UPDATE') THEN
            RAISE insufficient_privilege USING
                MESSAGE = 'chinook_sim: a sequence is far behind its table; '
                    || 'GRANT UPDATE ON SEQUENCE ' || p_sequence || ' TO '
                    || quote_ident(current_user);
        END IF;
        PERFORM setval(p_sequence, p_highest);
        RETURN;
    END IF;
    -- Unlike setval, this cannot go back, whoever else uses the sequence meanwhile.
    WHILE position < p_highest LOOP
        position := nextval(p_sequence);
    END LOOP;
END
$function$;
