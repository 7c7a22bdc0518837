-- As of revision 0010. migrations/README.md explains the placeholders in braces.
CREATE OR REPLACE FUNCTION {schema}.simulate_sales(p_day date, p_count integer)
RETURNS TABLE (run_id text, day date, sales integer, lines bigint, revenue numeric, digest text, first_invoice_id bigint, last_invoice_id bigint)
LANGUAGE plpgsql AS $function$
-- Adds p_count sales of a day, spread over its 24 hours, in one statement, and records the run.
#variable_conflict use_variable
DECLARE
    missing text := {missing_for_sales};
    customers integer[];
    customer_codes bigint[];
    customer_prints bigint[];
    billing_prints bigint[];
    tracks integer[];
    track_codes bigint[];
    cents bigint[];
    cents_codes bigint[];
    whole_cents boolean;
    largest integer;
    last_invoice bigint;
    last_line bigint;
    short record;
    made record;
    new_run text := gen_random_uuid();
BEGIN
    IF missing IS NOT NULL THEN
        RAISE insufficient_privilege USING
            MESSAGE = 'simulate_sales: missing privileges. Run: ' || missing;
    END IF;
    IF p_day IS NULL OR p_day < '0001-01-01' OR p_day >= '9999-12-31' THEN
        RAISE invalid_parameter_value USING
            MESSAGE = 'simulate_sales: the day must be a date of the years 1 to 9999';
    END IF;
    IF p_count IS NULL OR p_count < 0 THEN
        RAISE invalid_parameter_value USING
            MESSAGE = 'simulate_sales: the number of sales must be 0 or more';
    END IF;
    -- Arrays of integers, because an element of one is found at once; prices in cents therefore. A
    -- code is the number whose bytes, the highest first, are those of another, the lowest first.
    -- Prints are what the fingerprint of a sale has of its customer, in the upper 32 bits.
    SELECT array_agg(it.id), array_agg({id_code}), array_agg((it.id::bigint & 4294967295) << 32),
           array_agg(('x' || encode(it.billing, 'hex'))::bit(32)::bigint << 32)
      INTO customers, customer_codes, customer_prints, billing_prints
      FROM (SELECT c.{customer_id} AS id, {billing_print} AS billing FROM {customer} c) it;
    SELECT array_agg(it.id), array_agg({id_code}), array_agg(it.price), array_agg({price_code}),
           bool_and(it.price IS NOT NULL)
      INTO tracks, track_codes, cents, cents_codes, whole_cents
      FROM (SELECT t.{track_id} AS id,
                   CASE WHEN {whole_cents} THEN (t.{price} * 100)::bigint END AS price
              FROM {track} t OFFSET 0) it;
    largest := least(5, cardinality(tracks));
    IF customers IS NULL THEN
        RAISE no_data_found USING
            MESSAGE = 'simulate_sales: {customer_text} is empty, so there is nobody to sell to';
    END IF;
    IF tracks IS NULL THEN
        RAISE no_data_found USING
            MESSAGE = 'simulate_sales: {track_text} is empty, so there is nothing to sell';
    END IF;
    IF NOT whole_cents THEN
        RAISE data_exception USING
            MESSAGE = 'simulate_sales: a price in {track_text} is not in whole cents; correct it';
    END IF;
    SELECT (SELECT max(i.{invoice_id}) FROM {invoice} i),
           (SELECT max(l.{line_id}) FROM {line} l) INTO last_invoice, last_line;
    PERFORM {schema}.chinook_sim_in_step({invoice_sequence}, last_invoice);
    PERFORM {schema}.chinook_sim_in_step({line_sequence}, last_line);

    SELECT t.name, t.ids_left INTO short
      FROM (VALUES ('{invoice_text}', {invoices_left}, p_count::bigint),
                   ('{line_text}', {lines_left}, p_count::bigint * largest))
           AS t (name, ids_left, needed)
     WHERE t.needed > t.ids_left LIMIT 1;
    IF FOUND THEN
        RAISE sequence_generator_limit_exceeded USING
            MESSAGE = 'simulate_sales: ' || short.name || ' has ' || short.ids_left
                || ' ids left; make a smaller day, or widen its id column to BIGINT';
    END IF;

    WITH drawn AS (
        SELECT n, nextval({invoice_sequence}) AS id,
               1 + floor(random() * cardinality(customers))::integer AS buyer,
               {second} AS second,
               1 + floor(random() * largest)::integer AS size,
               random() AS r1, random() AS r2, random() AS r3, random() AS r4, random() AS r5
          FROM generate_series(1, p_count) n OFFSET 0
    ), one AS (
        -- Floyd's way of choosing `size` of all tracks: the i-th is drawn from the first
        -- all - size + i, and if it is taken, the last of these, which cannot be, is. OFFSET 0 has
        -- each step worked out once a sale; without it the next would repeat its expression.
        SELECT *, cardinality(tracks) - size AS others,
               1 + floor(r1 * (cardinality(tracks) - size + 1))::integer AS t1
          FROM drawn OFFSET 0
    ), two AS (
        SELECT *, CASE WHEN size < 2 THEN NULL WHEN d2 = t1 THEN others + 2 ELSE d2 END AS t2
          FROM (SELECT *, 1 + floor(r2 * (others + 2))::integer AS d2 FROM one OFFSET 0) d
        OFFSET 0
    ), three AS (
        SELECT *, CASE WHEN size < 3 THEN NULL WHEN d3 IN (t1, t2) THEN others + 3 ELSE d3 END AS t3
          FROM (SELECT *, 1 + floor(r3 * (others + 3))::integer AS d3 FROM two OFFSET 0) d
        OFFSET 0
    ), four AS (
        SELECT *, CASE WHEN size < 4 THEN NULL
                       WHEN d4 IN (t1, t2, t3) THEN others + 4 ELSE d4 END AS t4
          FROM (SELECT *, 1 + floor(r4 * (others + 4))::integer AS d4 FROM three OFFSET 0) d
        OFFSET 0
    ), sale AS MATERIALIZED (
        SELECT n, id, buyer, second, size, t1, t2, t3, t4, t5,
               customers[buyer] AS customer, p_day + second * interval '1 second' AS moment,
               cents[t1] + coalesce(cents[t2], 0) + coalesce(cents[t3], 0)
                         + coalesce(cents[t4], 0) + coalesce(cents[t5], 0) AS total,
               int8send(customer_prints[buyer] | second)
                   || int8send(billing_prints[buyer] | {lines_print}) AS fingerprint
          FROM (SELECT *, CASE WHEN size < 5 THEN NULL
                               WHEN d5 IN (t1, t2, t3, t4) THEN others + 5 ELSE d5 END AS t5
                  FROM (SELECT *, 1 + floor(r5 * (others + 5))::integer AS d5 FROM four OFFSET 0) d
                OFFSET 0) e
    ), invoices AS (
        INSERT INTO {invoice} ({invoice_columns}) OVERRIDING SYSTEM VALUE
        -- Every name is qualified here: the table may have columns named like the variables.
        SELECT s.id, c.{customer_id}, s.moment, {billing}, s.total / 100.0
          FROM sale s JOIN {customer} c ON c.{customer_id} = s.customer
        RETURNING 1
    ), lines AS (
        INSERT INTO {line} ({line_columns}) OVERRIDING SYSTEM VALUE
        SELECT nextval({line_sequence}), s.id, tracks[v.t], cents[v.t] / 100.0, 1
          FROM sale s, LATERAL (VALUES (s.t1), (s.t2), (s.t3), (s.t4), (s.t5)) v (t)
         WHERE v.t IS NOT NULL
        RETURNING 1
    ), ranges AS (
        INSERT INTO {run_invoices} (run_id, first_id, last_id, step, fingerprints)
        SELECT new_run, min(s.id), max(s.id), q.seqincrement,
               string_agg(s.fingerprint, '' ORDER BY s.n)
          FROM sale s, pg_sequence q
         WHERE q.seqrelid = {invoice_sequence}
         -- Where another session took ids in between, another range begins.
         GROUP BY s.id - s.n * q.seqincrement, q.seqincrement, (s.n - 1) / 2000
    ), added AS (
        SELECT count(*) AS sales, coalesce(sum(size), 0) AS lines,
               coalesce(sum(total), 0) / 100.0 AS revenue, min(id) AS first_id, max(id) AS last_id,
               string_agg(int8send(customer_codes[buyer]), '' ORDER BY n) AS customer_bytes,
               string_agg(int8send({second_code}), '' ORDER BY n) AS second_bytes,
               string_agg(int8send({size_code}), '' ORDER BY n) AS size_bytes,
               string_agg({track_bytes}, '' ORDER BY n) AS track_bytes,
               string_agg({price_bytes}, '' ORDER BY n) AS price_bytes
          FROM sale
    )
    SELECT added.sales, added.lines, added.revenue, added.first_id, added.last_id,
           -- As in the library: the day, and each column as little-endian 64-bit integers.
           encode(sha256(convert_to(to_char(p_day::timestamp, 'YYYY-MM-DD'), 'UTF8')
               || sha256(coalesce(customer_bytes, '')) || sha256(coalesce(second_bytes, ''))
               || sha256(coalesce(size_bytes, '')) || sha256(coalesce(track_bytes, ''))
               || sha256(coalesce(price_bytes, ''))), 'hex') AS digest,
           (SELECT json_agg(coalesce(sold, 0) ORDER BY h)::text
              FROM generate_series(0, 23) h
              LEFT JOIN (SELECT second / 3600 AS hour, count(*) AS sold FROM sale GROUP BY 1) s
                ON s.hour = h) AS hours,
           CASE WHEN (SELECT count(*) FROM invoices) < added.sales THEN '{invoice_text}'
                WHEN (SELECT count(*) FROM lines) < added.lines THEN '{line_text}' END AS skipped
      INTO made FROM added;
    IF made.skipped IS NOT NULL THEN
        RAISE triggered_action_exception USING MESSAGE = 'simulate_sales: a trigger or a rule on '
            || made.skipped || ' skipped rows; change or disable it';
    END IF;

    INSERT INTO {run} AS r (run_id, kind, day, requested, profile, parameters_hash, sales, lines,
                            revenue, digest, first_invoice_id, last_invoice_id, hours, version)
    VALUES (new_run, 'simulate_sales', p_day, p_count, 'uniform',
            encode(sha256(convert_to(
                to_char(p_day::timestamp, 'YYYY-MM-DD') || ' ' || p_count || ' uniform ' || '{{}}',
                'UTF8')), 'hex'),
            made.sales, made.lines, made.revenue, made.digest, made.first_id, made.last_id,
            made.hours, 'revision {revision}')
    RETURNING r.run_id, r.day, r.sales, r.lines, r.revenue, r.digest, r.first_invoice_id,
              r.last_invoice_id
      INTO run_id, day, sales, lines, revenue, digest, first_invoice_id, last_invoice_id;
    RETURN NEXT;
END
$function$;
