-- As of revision 0006. migrations/README.md explains the placeholders in braces.
CREATE OR REPLACE FUNCTION {schema}.simulate_new_sale(p_invoice_date timestamp)
RETURNS TABLE (generated_invoice_id integer, generated_total numeric)
LANGUAGE plpgsql AS $function$
#variable_conflict use_variable
-- Adds one sale: an existing customer, one to five different tracks, at that moment.
DECLARE
    missing text := {missing_for_new_sale};
    lowest bigint;
    highest bigint;
    first_track bigint;
    last_track bigint;
    beside text;
    last_invoice bigint;
    last_line bigint;
    candidate bigint;
    size integer;
    wanted bigint[];
    basket integer[];
    prices numeric[];
    amount numeric;
    sound boolean;
    written integer;
BEGIN
    IF missing IS NOT NULL THEN
        RAISE insufficient_privilege USING
            MESSAGE = 'simulate_new_sale: missing privileges. Run: ' || missing;
    END IF;
    -- Days that no client could read back are none.
    IF p_invoice_date IS NULL
       OR p_invoice_date < '0001-01-01' OR p_invoice_date >= '9999-12-31' THEN
        RAISE invalid_parameter_value USING
            MESSAGE = 'simulate_new_sale: the moment of the sale must be a timestamp of the '
                || 'years 1 to 9999';
    END IF;

    -- Lowest and highest ids, and ids that a sequence does not know of. Each time another column is
    -- read with the id: an index-only scan would copy a whole page of the index, and min and max
    -- in one statement take longer than in two.
    SELECT c.{customer_id}, c.{address} INTO lowest, beside
      FROM {customer} c ORDER BY c.{customer_id} LIMIT 1;
    SELECT c.{customer_id}, c.{address} INTO highest, beside
      FROM {customer} c ORDER BY c.{customer_id} DESC LIMIT 1;
    IF lowest IS NULL THEN
        RAISE no_data_found USING
            MESSAGE = 'simulate_new_sale: {customer_text} is empty, so there is nobody to sell to';
    END IF;
    SELECT t.{track_id}, t.{price} INTO first_track, beside
      FROM {track} t ORDER BY t.{track_id} LIMIT 1;
    SELECT t.{track_id}, t.{price} INTO last_track, beside
      FROM {track} t ORDER BY t.{track_id} DESC LIMIT 1;
    IF first_track IS NULL THEN
        RAISE no_data_found USING
            MESSAGE = 'simulate_new_sale: {track_text} is empty, so there is nothing to sell';
    END IF;
    last_invoice := coalesce(pg_sequence_last_value({invoice_sequence}), 0);
    SELECT i.{invoice_id}, i.{total} INTO candidate, beside
      FROM {invoice} i WHERE i.{invoice_id} > last_invoice ORDER BY i.{invoice_id} DESC LIMIT 1;
    IF FOUND THEN
        PERFORM {schema}.chinook_sim_in_step({invoice_sequence}, candidate);
    END IF;
    last_line := coalesce(pg_sequence_last_value({line_sequence}), 0);
    SELECT l.{line_id}, l.{line_invoice} INTO candidate, beside
      FROM {line} l WHERE l.{line_id} > last_line ORDER BY l.{line_id} DESC LIMIT 1;
    IF FOUND THEN
        PERFORM {schema}.chinook_sim_in_step({line_sequence}, candidate);
    END IF;

    size := 1 + floor(random() * least(5, last_track - first_track + 1))::integer;
    wanted := ARRAY[first_track + floor(random() * (last_track - first_track + 1))::bigint];
    WHILE cardinality(wanted) < size LOOP
        candidate := first_track + floor(random() * (last_track - first_track + 1))::bigint;
        IF NOT candidate = ANY (wanted) THEN
            wanted := wanted || candidate;
        END IF;
    END LOOP;
    LOOP
        SELECT array_agg(t.{track_id}), array_agg(t.{price}), sum(t.{price}),
               bool_and({whole_cents})
          INTO basket, prices, amount, sound FROM {track} t WHERE t.{track_id} = ANY (wanted);
        EXIT WHEN cardinality(basket) = size;
        -- One of the ids is a gap. All are drawn again, as each basket of a size must be as likely
        -- as any other; the size stays, so that small ones do not become more likely, unless there
        -- are not so many tracks at all.
        SELECT count(*) INTO candidate FROM (SELECT 1 FROM {track} LIMIT 5) t;
        IF candidate < size THEN
            size := 1 + floor(random() * candidate)::integer;
        END IF;
        wanted := {schema}.chinook_sim_any_tracks(size, ARRAY[]::integer[]);
    END LOOP;

    IF NOT sound THEN
        RAISE data_exception USING MESSAGE =
            'simulate_new_sale: a price in {track_text} is not in whole cents; correct it';
    END IF;

    FOR attempt IN 1 .. 201 LOOP
        candidate := lowest + floor(random() * (highest - lowest + 1))::bigint;
        IF attempt > 200 THEN
            -- Ids with very wide gaps: look at all.
            SELECT c.{customer_id} INTO candidate FROM {customer} c
            OFFSET floor(random() * (SELECT count(*) FROM {customer}))::bigint LIMIT 1;
        END IF;
        INSERT INTO {invoice} AS i ({invoice_columns}) OVERRIDING SYSTEM VALUE
        SELECT nextval({invoice_sequence}), c.{customer_id}, date_trunc('second', p_invoice_date),
               {billing}, amount
          FROM {customer} c WHERE c.{customer_id} = candidate
        RETURNING i.{invoice_id}, i.{total} INTO generated_invoice_id, generated_total;
        EXIT WHEN FOUND;
    END LOOP;
    IF generated_invoice_id IS NULL THEN
        RAISE triggered_action_exception USING MESSAGE = 'simulate_new_sale: a trigger or a rule '
            || 'on {invoice_text} skipped the sale; change or disable it';
    END IF;
    INSERT INTO {line} ({line_columns}) OVERRIDING SYSTEM VALUE
    SELECT nextval({line_sequence}), generated_invoice_id, u.track, u.price, 1
      FROM unnest(basket, prices) u (track, price);
    GET DIAGNOSTICS written = ROW_COUNT;
    IF written < size THEN
        RAISE triggered_action_exception USING MESSAGE = 'simulate_new_sale: a trigger or a rule '
            || 'on {line_text} skipped lines of the sale; change or disable it';
    END IF;
    RETURN NEXT;
END
$function$;
