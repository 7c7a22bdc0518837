"""The SQL functions simulate_new_sale, simulate_update_sale, simulate_delete_sale, simulate_sales.

Revision ID: 0004
Revises: 0003

Every name in them is qualified, and their search path holds pg_catalog first, so no temporary table
and no schema of somebody else's is ever found in place of the shop's. The shop's own schema is in
it for triggers on its tables, which run with the same path. They run with the rights of who calls
them. A function of one of these names that is there already is not replaced, and one that was
changed since is not dropped.
"""

from __future__ import annotations

import hashlib

from sqlalchemy import text

from chinook_sim.errors import MigrationRefused
from chinook_sim.models import Customer, Invoice, InvoiceLine, Track
from chinook_sim.provisioning.revision_context import Site, execute, leave_out, mark, marked, site

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

LOCK = 0x6368696E6F6F6B  # taken by everything of ours that moves a sequence forward

FUNCTIONS = {
    "chinook_sim_in_step": (
        "p_sequence regclass, p_highest bigint",
        "void",
        """
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
""",
    ),
    "chinook_sim_any_tracks": (
        "p_size integer, p_without integer[]",
        "integer[]",
        """
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
""",
    ),
    "chinook_sim_any_sale": (
        "p_from timestamp, p_to timestamp, p_lines integer",
        "integer",
        """
-- Chooses a sale of a time, with fewer than p_lines lines, and locks it; NULL where there is none.
-- One that another session is changing is passed over, so that sessions do not wait for each other.
DECLARE
    lowest bigint;
    highest bigint;
    candidate bigint;
    chosen integer;
    rest integer[];
BEGIN
    SELECT min(i.{invoice_id}), max(i.{invoice_id}) INTO lowest, highest FROM {invoice} i;
    FOR attempt IN 1 .. CASE WHEN highest IS NULL THEN 0 ELSE 100 END LOOP
        candidate := lowest + floor(random() * (highest - lowest + 1))::bigint;
        SELECT i.{invoice_id} INTO chosen FROM {invoice} i
         WHERE i.{invoice_id} = candidate AND i.{invoice_date} BETWEEN p_from AND p_to
           AND (SELECT count(*) FROM {line} l WHERE l.{line_invoice} = i.{invoice_id}) < p_lines
           FOR UPDATE SKIP LOCKED;
        -- Counted again now that it is locked: another session may have added a line before.
        IF FOUND AND (SELECT count(*) FROM {line} l WHERE l.{line_invoice} = chosen) < p_lines THEN
            RETURN chosen;
        END IF;
    END LOOP;
    -- Few of all sales are of that time: look for them.
    SELECT array_agg(i.{invoice_id}) INTO rest FROM {invoice} i
     WHERE i.{invoice_date} BETWEEN p_from AND p_to
       AND (SELECT count(*) FROM {line} l WHERE l.{line_invoice} = i.{invoice_id}) < p_lines;
    WHILE cardinality(rest) > 0 LOOP
        candidate := rest[1 + floor(random() * cardinality(rest))::integer];
        SELECT i.{invoice_id} INTO chosen FROM {invoice} i
         WHERE i.{invoice_id} = candidate AND i.{invoice_date} BETWEEN p_from AND p_to
           FOR UPDATE SKIP LOCKED;
        -- Counted again now that it is locked: another session may have added a line before.
        IF FOUND AND (SELECT count(*) FROM {line} l WHERE l.{line_invoice} = chosen) < p_lines THEN
            RETURN chosen;
        END IF;
        rest := array_remove(rest, candidate::integer);
    END LOOP;
    RETURN NULL;
END
""",
    ),
    "simulate_new_sale": (
        "p_invoice_date timestamp",
        "TABLE (generated_invoice_id integer, generated_total numeric)",
        """
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
""",
    ),
    "simulate_update_sale": (
        "ts timestamp",
        "integer",
        """
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
""",
    ),
    "simulate_delete_sale": (
        "ts timestamp",
        "integer",
        """
-- Cancels a sale of the 90 days before ts, with its lines, and returns its id; NULL for none.
DECLARE
    missing text := {missing_for_delete_sale};
    chosen integer;
BEGIN
    IF missing IS NOT NULL THEN
        RAISE insufficient_privilege USING
            MESSAGE = 'simulate_delete_sale: missing privileges. Run: ' || missing;
    END IF;
    IF ts IS NULL OR NOT isfinite(ts) THEN
        RAISE invalid_parameter_value USING
            MESSAGE = 'simulate_delete_sale: ts must be a finite timestamp';
    END IF;
    chosen := {schema}.chinook_sim_any_sale(ts - interval '90 days', ts, 2147483647);
    IF chosen IS NOT NULL THEN
        DELETE FROM {line} l WHERE l.{line_invoice} = chosen;
        DELETE FROM {invoice} i WHERE i.{invoice_id} = chosen;
    END IF;
    RETURN chosen;
END
""",
    ),
    "simulate_sales": (
        "p_day date, p_count integer",
        "TABLE (run_id text, day date, sales integer, lines bigint, revenue numeric, digest text,"
        " first_invoice_id bigint, last_invoice_id bigint)",
        """
-- Adds p_count sales of a day, spread over its 24 hours, in one statement, and records the run.
#variable_conflict use_column
DECLARE
    missing text := {missing_for_sales};
    customers integer[];
    customer_codes bigint[];
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
    SELECT array_agg(it.id), array_agg({id_code}) INTO customers, customer_codes
      FROM (SELECT c.{customer_id} AS id FROM {customer} c) it;
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
               floor(random() * 86400)::integer AS second,
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
               cents[t1] + coalesce(cents[t2], 0) + coalesce(cents[t3], 0)
                         + coalesce(cents[t4], 0) + coalesce(cents[t5], 0) AS total
          FROM (SELECT *, CASE WHEN size < 5 THEN NULL
                               WHEN d5 IN (t1, t2, t3, t4) THEN others + 5 ELSE d5 END AS t5
                  FROM (SELECT *, 1 + floor(r5 * (others + 5))::integer AS d5 FROM four OFFSET 0) d
                OFFSET 0) e
    ), invoices AS (
        INSERT INTO {invoice} ({invoice_columns}) OVERRIDING SYSTEM VALUE
        SELECT s.id, c.{customer_id}, p_day + s.second * interval '1 second',
               {billing}, s.total / 100.0
          FROM sale s JOIN {customer} c ON c.{customer_id} = customers[s.buyer]
    ), lines AS (
        INSERT INTO {line} ({line_columns}) OVERRIDING SYSTEM VALUE
        SELECT nextval({line_sequence}), s.id, tracks[v.t], cents[v.t] / 100.0, 1
          FROM sale s, LATERAL (VALUES (s.t1), (s.t2), (s.t3), (s.t4), (s.t5)) v (t)
         WHERE v.t IS NOT NULL
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
    SELECT sales, lines, revenue, first_id, last_id,
           -- As in the library: the day, and each column as little-endian 64-bit integers.
           encode(sha256(convert_to(to_char(p_day::timestamp, 'YYYY-MM-DD'), 'UTF8')
               || sha256(coalesce(customer_bytes, '')) || sha256(coalesce(second_bytes, ''))
               || sha256(coalesce(size_bytes, '')) || sha256(coalesce(track_bytes, ''))
               || sha256(coalesce(price_bytes, ''))), 'hex') AS digest,
           (SELECT coalesce(json_agg(json_build_array(low, high, step) ORDER BY low), '[]')::text
              FROM (SELECT min(id) AS low, max(id) AS high, q.seqincrement AS step
                      FROM sale, pg_sequence q
                     WHERE q.seqrelid = {invoice_sequence}
                     -- Where another session took ids in between, another island begins.
                     GROUP BY id - n * q.seqincrement, q.seqincrement) islands) AS ids,
           (SELECT json_agg(coalesce(sold, 0) ORDER BY h)::text
              FROM generate_series(0, 23) h
              LEFT JOIN (SELECT second / 3600 AS hour, count(*) AS sold FROM sale GROUP BY 1) s
                ON s.hour = h) AS hours
      INTO made FROM added;

    INSERT INTO {run} AS r (run_id, kind, day, requested, profile, parameters_hash, sales, lines,
                            revenue, digest, first_invoice_id, last_invoice_id, invoice_ids, hours,
                            version)
    VALUES (gen_random_uuid(), 'simulate_sales', p_day, p_count, 'uniform',
            encode(sha256(convert_to(
                to_char(p_day::timestamp, 'YYYY-MM-DD') || ' ' || p_count || ' uniform ' || '{{}}',
                'UTF8')), 'hex'),
            made.sales, made.lines, made.revenue, made.digest, made.first_id, made.last_id,
            made.ids, made.hours, 'revision {revision}')
    RETURNING r.run_id, r.day, r.sales, r.lines, r.revenue, r.digest, r.first_invoice_id,
              r.last_invoice_id
      INTO run_id, day, sales, lines, revenue, digest, first_invoice_id, last_invoice_id;
    RETURN NEXT;
END
""",
    ),
}


def upgrade() -> None:
    here = site()
    if not here.postgresql:
        leave_out("functions, which SQLite does not have")
        return
    refuse_taken(here, "p.proname = ANY (:names)", names=list(FUNCTIONS))
    install(here, FUNCTIONS, names_in(here))


def refuse_taken(here: Site, condition: str, **parameters: list[str]) -> None:
    """Refuse to replace functions of somebody else.

    Args:
        here: the database.
        condition: which functions `p` of the shop's schema must not be there, as SQL.
        parameters: of the condition.

    Raises:
        MigrationRefused: some are there; it gives the statements that rename them.
    """
    taken = here.look.execute(
        text(
            "SELECT quote_ident(n.nspname) || '.' || quote_ident(p.proname) || '(' "
            "|| pg_get_function_identity_arguments(p.oid) || ')' AS routine, "
            "quote_ident(p.proname || '_earlier') AS name FROM pg_proc p "
            "JOIN pg_namespace n ON n.oid = p.pronamespace "
            f"WHERE n.nspname = :schema AND {condition} ORDER BY 1"
        ),
        {"schema": here.schema, **parameters},
    ).all()
    if taken:
        renames = " ".join(f"ALTER ROUTINE {one.routine} RENAME TO {one.name};" for one in taken)
        raise MigrationRefused(
            f"not upgraded: {', '.join(one.routine for one in taken)} is there already, and not "
            f"made by chinook_sim. Rename or drop it, and upgrade again. Run: {renames} "
            "(docs/from-the-earlier-simulator.md says more)"
        )


def install(here: Site, functions: dict[str, tuple[str, str, str]], names: dict[str, str]) -> None:
    """Create functions, or replace them by others of the same parameters and results.

    Args:
        here: the database.
        functions: parameters, result and body of each, by name.
        names: what stands in braces in the bodies.
    """
    if other_defaults(here):
        leave_out(f"functions, as {other_defaults(here)}")
        return
    for name, (parameters, result, template) in functions.items():
        body = template.format(**names)
        install_one(here, name, parameters, result, body, settings_of(here, name))


def other_defaults(here: Site) -> str:
    """Say which ids the functions cannot take, as a column has a default of the owner's."""
    found = []
    for table in (Invoice.__table__, InvoiceLine.__table__):
        ids = here.place.ids_of(table) if here.place and here.place.has(table) else None
        if ids and ids.expression:
            found.append(f"the ids of {here.spell(table)} are {ids.expression}")
    return " and ".join(found)


def settings_of(here: Site, name: str) -> str:
    """Return the settings that a function runs with, as SQL."""
    shops = f"{here.spell(here.schema or 'public')}, " if name.startswith("simulate_") else ""
    # Planning anew at each call takes longer than the look-ups of one sale.
    plans = "" if name == "simulate_sales" else " SET plan_cache_mode = force_generic_plan"
    return f"SET search_path = pg_catalog, {shops}pg_temp{plans}"


def install_one(
    here: Site, name: str, parameters: str, result: str, body: str, settings: str
) -> None:
    """Create a function, or replace it by another of the same parameters and result."""
    quote = _dollars(body)
    # Only a name can bring a backslash in; the setting would make it an escape in a string.
    strings = " SET standard_conforming_strings = on" if "\\" in body else ""
    execute(
        f"CREATE OR REPLACE FUNCTION {here.ours(name)}({parameters}) RETURNS {result} "
        f"LANGUAGE plpgsql SECURITY INVOKER {settings}{strings} AS {quote}{body}{quote}"
    )
    # So that a downgrade knows whether it is still the one that was installed.
    digest = hashlib.md5(body.encode(), usedforsecurity=False).hexdigest()
    mark("FUNCTION", signature_of(here, name, parameters), f", {digest}")


def downgrade() -> None:
    here = site()
    if not here.postgresql:
        return
    for signature in refuse_changed(here, signatures(here)):
        execute(f"DROP FUNCTION {signature}")


def signatures(here: Site) -> list[str]:
    """Return the signatures of the functions, the last made first."""
    made = [signature_of(here, name, parameters) for name, (parameters, *_) in FUNCTIONS.items()]
    return made[::-1]


def refuse_changed(here: Site, signatures: list[str]) -> list[str]:
    """Return the signatures of those functions that are there.

    Raises:
        MigrationRefused: one of them was changed since it was installed.
    """
    there = []
    for signature in signatures:
        found = here.look.scalar(
            text("SELECT md5(prosrc) FROM pg_proc WHERE oid = to_regprocedure(:signature)"),
            {"signature": signature},
        )
        if found is not None and marked(here, "pg_proc", signature) != f", {found}":
            raise MigrationRefused(
                f"not migrated: {signature} was changed since it was installed. To keep it, rename "
                f"it (ALTER FUNCTION {signature} RENAME TO …); or drop it. Then run it again"
            )
        if found is not None:
            there.append(signature)
    return there


def _dollars(body: str) -> str:
    """Return a quote for a function's text, which holds the schema's name, that is not in it."""
    tag = "function"
    while f"${tag}$" in body:
        tag += "_"
    return f"${tag}$"


def signature_of(here: Site, name: str, parameters: str) -> str:
    """Return a function's name and the types of its parameters as SQL."""
    types = ", ".join(parameter.partition(" ")[2] for parameter in parameters.split(", "))
    return f"{here.ours(name)}({types})" if parameters else f"{here.ours(name)}()"


NEW_LINES = "SELECT line, INSERT line, USAGE line_sequence"

NEW_SALES = (
    f"SELECT customer, SELECT track, SELECT invoice, INSERT invoice, {NEW_LINES}, "
    "USAGE invoice_sequence"
)
"""The rights that making lines, and sales, takes, each on one of `objects_of`."""


def objects_of(here: Site) -> dict[str, str]:
    """Return the tables and sequences that the functions use, as SQL."""
    customer, track = Customer.__table__, Track.__table__
    invoice, line = Invoice.__table__, InvoiceLine.__table__
    separate = here.ledger_schema if here.ledger_schema != here.schema else None
    return {
        "ledger_schema": here.spell(separate) if separate else "",
        "customer": here.spell(customer),
        "track": here.spell(track),
        "invoice": here.spell(invoice),
        "line": here.spell(line),
        "run": here.ledgers("chinook_sim_run"),
        "invoice_sequence": here.sequence_of(invoice) or here.ours("invoice_id_seq"),
        "line_sequence": here.sequence_of(line) or here.ours("invoice_line_id_seq"),
    }


def names_in(here: Site) -> dict[str, str]:
    """Return what stands in braces in the functions."""
    customer, track = Customer.__table__, Track.__table__
    invoice, line = Invoice.__table__, InvoiceLine.__table__
    columns = {
        "customer_id": customer.c.CustomerId,
        "address": customer.c.Address,
        "track_id": track.c.TrackId,
        "price": track.c.UnitPrice,
        "invoice_id": invoice.c.InvoiceId,
        "invoice_date": invoice.c.InvoiceDate,
        "total": invoice.c.Total,
        "line_id": line.c.InvoiceLineId,
        "line_invoice": line.c.InvoiceId,
        "line_track": line.c.TrackId,
        "line_price": line.c.UnitPrice,
        "quantity": line.c.Quantity,
    }
    names = {key: here.spell(column.name) for key, column in columns.items()}
    address = [
        f"c.{here.spell(customer.c[column].name)}"
        for column in ("Address", "City", "State", "Country", "PostalCode")
    ]
    price = f"t.{here.spell(track.c.UnitPrice.name)}"
    objects = objects_of(here)
    change = "SELECT invoice, UPDATE invoice"
    return {
        **names,
        **objects,
        "schema": here.spell(here.schema or "public"),
        "lock": str(LOCK),
        "revision": revision,
        "customer_text": quote(objects["customer"]),
        "track_text": quote(objects["track"]),
        "invoice_sequence": f"'{quote(objects['invoice_sequence'])}'::regclass",
        "line_sequence": f"'{quote(objects['line_sequence'])}'::regclass",
        "invoice_columns": here.spell(*(column.name for column in invoice.columns)),
        "line_columns": here.spell(*(column.name for column in line.columns)),
        "billing": ", ".join(address),
        "invoice_text": quote(objects["invoice"]),
        "line_text": quote(objects["line"]),
        "invoices_left": _left(
            objects["invoice_sequence"], objects["invoice"], names["invoice_id"]
        ),
        "lines_left": _left(objects["line_sequence"], objects["line"], names["line_id"]),
        "whole_cents": f"coalesce({price} >= 0 AND {price} < 100000000"
        f" AND {price} * 100 = floor({price} * 100), false)",
        "id_code": _code("it.id"),
        "price_code": _code("it.price"),
        "second_code": _code("second", 3),
        "size_code": _code("size", 1),
        "track_bytes": _basket("track_codes"),
        "price_bytes": _basket("cents_codes"),
        "missing_for_new_sale": missing(objects, NEW_SALES),
        "missing_for_update_sale": missing(objects, f"{change}, SELECT track, {NEW_LINES}"),
        "missing_for_delete_sale": missing(
            objects, f"{change}, DELETE invoice, SELECT line, DELETE line"
        ),
        "missing_for_sales": missing(
            objects, f"{NEW_SALES}, USAGE ledger_schema, SELECT run, INSERT run"
        ),
    }


def _left(sequence: str, table: str, column: str) -> str:
    """Return an expression for the ids that a sequence, and the column it is for, have left."""
    return (
        "(SELECT greatest(0, (least(q.seqmax, "
        "CASE a.atttypid WHEN 'int4'::regtype THEN 2147483647 ELSE q.seqmax END) "
        "- coalesce(pg_sequence_last_value(q.seqrelid), q.seqstart - 1)) "
        "/ q.seqincrement) FROM pg_sequence q, pg_attribute a "
        f"WHERE q.seqrelid = '{quote(sequence)}'::regclass "
        f"AND a.attrelid = '{quote(table)}'::regclass "
        # Not quote_ident, which depends on a setting.
        f"AND a.attname = (parse_ident('{quote(column)}'))[1])"
    )


def missing(objects: dict[str, str], rights: str) -> str:
    """Return an expression for the GRANT statements that the caller lacks, or NULL."""
    grants = []
    for right in rights.split(", "):
        verb, name = right.split()
        thing = quote(objects[name])
        if name == "ledger_schema" and not thing:
            continue
        kind, of, it = "table", "", f"'{thing}'::regclass"
        if name == "ledger_schema":
            kind, of, it = "schema", "SCHEMA ", f"'{thing}'::regnamespace::oid"
        elif verb == "USAGE":
            kind, of = "sequence", "SEQUENCE "
        elif verb in ("SELECT", "INSERT", "UPDATE"):
            kind = "any_column"
        if objects["ledger_schema"] and name.startswith("run"):
            # In a schema that is closed to the caller, a regclass is an error.
            schema, table = quote(objects["ledger_schema"]), thing.rpartition(".")[2]
            it = (
                f"(SELECT c.oid FROM pg_class c WHERE c.relname = '{table}' "
                f"AND c.relnamespace = '{schema}'::regnamespace)"
            )
        grants.append(
            f"CASE WHEN NOT has_{kind}_privilege({it}, '{verb}') "
            f"THEN 'GRANT {verb} ON {of}{thing} TO ' || quote_ident(current_user) END"
        )
    return "nullif(concat_ws('; ', " + ",\n        ".join(grants) + "), '')"


def _code(number: str, width: int = 8) -> str:
    """Return an expression for the number whose bytes are those of another, turned round.

    Args:
        number: an expression for an integer.
        width: bytes of it that can be other than 0.
    """
    # Every pair in brackets of its own: these operators all bind equally.
    parts = [f"(({number}::bigint >> {8 * k} & 255) << {56 - 8 * k})" for k in range(width)]
    return f"({' | '.join(parts)})"


def _basket(codes: str) -> str:
    """Return an expression for the bytes of the tracks of a sale, of which later ones may lack."""
    return " || ".join(
        f"int8send({codes}[t{k}])" if k == 1 else f"coalesce(int8send({codes}[t{k}]), '')"
        for k in range(1, 6)
    )


def quote(name: str) -> str:
    return name.replace("'", "''")
