-- As of revision 0006. migrations/README.md explains the placeholders in braces.
CREATE OR REPLACE FUNCTION {schema}.simulate_update_sale(ts timestamp)
RETURNS integer
LANGUAGE plpgsql AS $function$
#variable_conflict use_variable
-- Adds one more track to a sale of the 90 days before ts, and returns its id; NULL where there is
-- no such sale, or none without all tracks. Sales with fewer than five tracks come first, so that
-- a sale keeps its one to five.
DECLARE
    missing text := {missing_for_update_sale};
    chosen integer;
    track_count integer;
    added integer[];
    last_line bigint;
BEGIN
    IF missing IS NOT NULL THEN
        RAISE insufficient_privilege USING
            MESSAGE = 'simulate_update_sale: missing privileges. Run: ' || missing;
    END IF;
    IF ts IS NULL OR NOT isfinite(ts) THEN
        RAISE invalid_parameter_value USING
            MESSAGE = 'simulate_update_sale: ts must be a finite timestamp';
    END IF;
    SELECT count(*) INTO track_count FROM (SELECT 1 FROM {track} LIMIT 5) t;
    chosen := {schema}.chinook_sim_any_sale(ts - interval '90 days', ts, track_count);
    IF chosen IS NULL AND track_count = 5 THEN
        SELECT count(*) INTO track_count FROM {track};
        chosen := {schema}.chinook_sim_any_sale(ts - interval '90 days', ts, track_count);
    END IF;
    IF chosen IS NULL THEN
        RETURN NULL;
    END IF;
    added := {schema}.chinook_sim_any_tracks(
        1, ARRAY(SELECT l.{line_track} FROM {line} l WHERE l.{line_invoice} = chosen));
    IF cardinality(added) = 0 THEN
        RETURN NULL;
    END IF;
    PERFORM 1 FROM {track} t WHERE t.{track_id} = added[1] AND {whole_cents};
    IF NOT FOUND THEN
        RAISE data_exception USING MESSAGE =
            'simulate_update_sale: a price in {track_text} is not in whole cents; correct it';
    END IF;
    SELECT max(l.{line_id}) INTO last_line FROM {line} l;
    IF last_line > coalesce(pg_sequence_last_value({line_sequence}), 0) THEN
        PERFORM {schema}.chinook_sim_in_step({line_sequence}, last_line);
    END IF;
    INSERT INTO {line} ({line_columns}) OVERRIDING SYSTEM VALUE
    SELECT nextval({line_sequence}), chosen, t.{track_id}, t.{price}, 1
      FROM {track} t WHERE t.{track_id} = added[1];
    UPDATE {invoice} i SET {total} =
           (SELECT sum(l.{line_price} * l.{quantity}) FROM {line} l WHERE l.{line_invoice} = chosen)
     WHERE i.{invoice_id} = chosen;
    RETURN chosen;
END
$function$;
