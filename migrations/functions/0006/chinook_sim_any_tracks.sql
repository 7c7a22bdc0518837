-- As of revision 0006. migrations/README.md explains the placeholders in braces.
CREATE OR REPLACE FUNCTION {schema}.chinook_sim_any_tracks(p_size integer, p_without integer[])
RETURNS integer[]
LANGUAGE plpgsql AS $function$
#variable_conflict use_variable
-- Chooses p_size different tracks, uniformly, none of p_without; fewer where there are not enough.
DECLARE
    lowest bigint;
    highest bigint;
    candidate bigint;
    chosen integer[] := ARRAY[]::integer[];
    rest integer[];
    attempts integer := 0;
BEGIN
    SELECT min(t.{track_id}), max(t.{track_id}) INTO lowest, highest FROM {track} t;
    -- An id drawn between the lowest and the highest, and drawn again on a gap, is uniform, and
    -- costs a look into the index, however many tracks there are.
    WHILE cardinality(chosen) < p_size AND attempts < 200 LOOP
        attempts := attempts + 1;
        candidate := lowest + floor(random() * (highest - lowest + 1))::bigint;
        IF NOT candidate = ANY (chosen || p_without) THEN
            PERFORM 1 FROM {track} t WHERE t.{track_id} = candidate;
            IF FOUND THEN
                chosen := chosen || candidate::integer;
            END IF;
        END IF;
    END LOOP;
    -- Ids with very wide gaps, or hardly a track left to choose from: look at all of them.
    IF cardinality(chosen) < p_size THEN
        SELECT array_agg(t.{track_id}) INTO rest FROM {track} t
         WHERE NOT t.{track_id} = ANY (chosen || p_without);
        WHILE cardinality(chosen) < p_size AND cardinality(rest) > 0 LOOP
            candidate := rest[1 + floor(random() * cardinality(rest))::integer];
            chosen := chosen || candidate::integer;
            rest := array_remove(rest, candidate::integer);
        END LOOP;
    END IF;
    RETURN chosen;
END
$function$;
