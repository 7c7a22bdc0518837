"""SQL functions that take dates and now(), and leave alone sales that other tables refer to.

Revision ID: 0007
Revises: 0006

`simulate_update_sale` and `simulate_delete_sale` take midnight for the whole day. Overloads for
`timestamptz`, `date` and `text` make calls with `now()` work. Literals go to the one for `text`,
and dates to the one for `date`. Without these two PostgreSQL would prefer `timestamptz`, and
convert both through the session's TimeZone, where a moment that daylight saving skips becomes
another.
"""

# No percent sign anywhere in the functions: see revision 0004.

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import text

from chinook_sim.provisioning.migration_runner import revision_of
from chinook_sim.provisioning.revision_context import Site, execute, marked, site

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

REFERRED = """
-- Returns the condition on a sale `i` that a row of another table refers to it or to one of its
-- lines; NULL where there are no such foreign keys.
#variable_conflict use_variable
DECLARE
    missing text;
    hidden regclass;
    condition text;
BEGIN
    SELECT string_agg(DISTINCT 'GRANT SELECT ON ' || f.conrelid::regclass::text || ' TO '
                   || quote_ident(current_user), '; ')
      INTO missing FROM pg_constraint f
     WHERE {foreign_key} AND NOT has_any_column_privilege(f.conrelid, 'SELECT');
    IF missing IS NOT NULL THEN
        RAISE insufficient_privilege USING
            MESSAGE = 'simulate_delete_sale: missing privileges. Run: ' || missing;
    END IF;
    -- Rows that a policy hides would be deleted or changed by the foreign key.
    SELECT f.conrelid INTO hidden FROM pg_constraint f
     WHERE f.contype = 'f' AND f.confrelid IN ('{invoice_text}'::regclass, {line_oid})
       AND f.confdeltype IN ('c', 'n', 'd') AND row_security_active(f.conrelid) LIMIT 1;
    IF FOUND THEN
        RAISE insufficient_privilege USING
            MESSAGE = 'simulate_delete_sale: row-level security on ' || hidden::text || ' may hide '
                || 'rows that refer to sales; use a role with BYPASSRLS';
    END IF;
    SELECT string_agg(
               'EXISTS (SELECT 1 FROM ' || CASE WHEN k.to_line THEN
                   '{line_text} s JOIN ' || k.referring || ' r ON ' || k.same
                   || ' WHERE s.{line_invoice} = i.{invoice_id})'
               ELSE k.referring || ' r WHERE ' || k.same || ')' END, ' OR ')
      INTO condition
      FROM (SELECT f.conrelid::regclass::text AS referring, f.confrelid = {line_oid} AS to_line,
                   string_agg('r.' || quote_ident(theirs.attname) || ' = '
                       || CASE WHEN f.confrelid = {line_oid} THEN 's.' ELSE 'i.' END
                       || quote_ident(ours.attname), ' AND ') AS same
              FROM pg_constraint f
             CROSS JOIN LATERAL unnest(f.conkey, f.confkey) pair (theirs, ours)
              JOIN pg_attribute theirs
                ON theirs.attrelid = f.conrelid AND theirs.attnum = pair.theirs
              JOIN pg_attribute ours ON ours.attrelid = f.confrelid AND ours.attnum = pair.ours
             WHERE {foreign_key}
             GROUP BY f.oid, f.conrelid, f.confrelid) k;
    RETURN condition;
END
"""

HOLD_SALE = """
-- Locks a sale if it is of a time and nothing refers to it; tells whether it is, and is locked.
-- One that another session is changing is passed over, so that sessions do not wait for each other.
#variable_conflict use_variable
DECLARE
    referred boolean := false;
BEGIN
    IF p_referred IS NOT NULL THEN
        EXECUTE p_referred INTO referred USING p_invoice;
        IF referred THEN
            RETURN false;
        END IF;
    END IF;
    PERFORM 1 FROM {invoice} i
      WHERE i.{invoice_id} = p_invoice AND i.{invoice_date} BETWEEN p_from AND p_to
        FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    -- Asked again now that it is locked: another session may have added a reference before.
    IF p_referred IS NOT NULL THEN
        EXECUTE p_referred INTO referred USING p_invoice;
    END IF;
    RETURN NOT referred;
END
"""

ANY_FREE_SALE = """
-- Chooses a sale of a time that no row of another table refers to, and locks it; NULL for none.
#variable_conflict use_variable
DECLARE
    condition text := {schema}.chinook_sim_referred();
    referred text := 'SELECT ' || condition || ' FROM {invoice_text} i WHERE i.{invoice_id} = $1';
    lowest bigint;
    highest bigint;
    candidate bigint;
    rest integer[];
BEGIN
    SELECT min(i.{invoice_id}), max(i.{invoice_id}) INTO lowest, highest FROM {invoice} i;
    FOR attempt IN 1 .. CASE WHEN highest IS NULL THEN 0 ELSE 100 END LOOP
        candidate := lowest + floor(random() * (highest - lowest + 1))::bigint;
        PERFORM 1 FROM {invoice} i
          WHERE i.{invoice_id} = candidate AND i.{invoice_date} BETWEEN p_from AND p_to;
        IF FOUND AND {schema}.chinook_sim_hold_sale(
            candidate::integer, p_from, p_to, referred) THEN
            RETURN candidate;
        END IF;
    END LOOP;
    -- Few of all sales are of that time, and free: look for them.
    IF condition IS NULL THEN
        SELECT array_agg(i.{invoice_id}) INTO rest FROM {invoice} i
         WHERE i.{invoice_date} BETWEEN p_from AND p_to;
    ELSE
        EXECUTE 'SELECT array_agg(i.{invoice_id}) FROM {invoice_text} i '
            || 'WHERE i.{invoice_date} BETWEEN $1 AND $2 AND NOT (' || condition || ')'
           INTO rest USING p_from, p_to;
    END IF;
    WHILE cardinality(rest) > 0 LOOP
        candidate := rest[1 + floor(random() * cardinality(rest))::integer];
        IF {schema}.chinook_sim_hold_sale(candidate::integer, p_from, p_to, referred) THEN
            RETURN candidate;
        END IF;
        rest := array_remove(rest, candidate::integer);
    END LOOP;
    RETURN NULL;
END
"""

UPDATE_SALE = """
-- Adds one more track to a sale of the 90 days before ts, and returns its id; NULL where there is
-- no such sale, or none without all tracks. Sales with fewer than five tracks come first, so that
-- a sale keeps its one to five. Midnight means the whole day, and the 90 days before it.
#variable_conflict use_variable
DECLARE
    missing text := {missing_for_update_sale};
    earliest timestamp := ts - interval '90 days';
    latest timestamp := {latest};
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
    chosen := {schema}.chinook_sim_any_sale(earliest, latest, track_count);
    IF chosen IS NULL AND track_count = 5 THEN
        SELECT count(*) INTO track_count FROM {track};
        chosen := {schema}.chinook_sim_any_sale(earliest, latest, track_count);
    END IF;
    IF chosen IS NULL THEN
        RETURN NULL;
    END IF;
    added := {schema}.chinook_sim_any_tracks(
        1, ARRAY(SELECT l.{line_track}::integer FROM {line} l WHERE l.{line_invoice} = chosen));
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
    IF NOT FOUND THEN
        RAISE triggered_action_exception USING MESSAGE = 'simulate_update_sale: a trigger or a rule'
            || ' on {line_text} skipped the line; change or disable it';
    END IF;
    UPDATE {invoice} i SET {total} =
           (SELECT sum(l.{line_price} * l.{quantity}) FROM {line} l WHERE l.{line_invoice} = chosen)
     WHERE i.{invoice_id} = chosen;
    IF NOT FOUND THEN
        RAISE triggered_action_exception USING MESSAGE = 'simulate_update_sale: a trigger or a rule'
            || ' on {invoice_text} skipped the total; change or disable it';
    END IF;
    RETURN chosen;
END
"""

DELETE_SALE = """
-- Cancels a sale of the 90 days before ts, with its lines, and returns its id; NULL for none.
-- Midnight means the whole day, and the 90 days before it. A sale that a row of another table
-- refers to stays.
#variable_conflict use_variable
DECLARE
    missing text := {missing_for_delete_sale};
    latest timestamp := {latest};
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
    chosen := {schema}.chinook_sim_any_free_sale(ts - interval '90 days', latest);
    IF chosen IS NOT NULL THEN
        DELETE FROM {line} l WHERE l.{line_invoice} = chosen;
        IF EXISTS (SELECT 1 FROM {line} l WHERE l.{line_invoice} = chosen) THEN
            RAISE triggered_action_exception USING MESSAGE = 'simulate_delete_sale: a trigger or a '
                || 'rule on {line_text} skipped lines of the sale; change or disable it';
        END IF;
        DELETE FROM {invoice} i WHERE i.{invoice_id} = chosen;
        IF EXISTS (SELECT 1 FROM {invoice} i WHERE i.{invoice_id} = chosen) THEN
            RAISE triggered_action_exception USING MESSAGE = 'simulate_delete_sale: a trigger or a '
                || 'rule on {invoice_text} skipped the sale; change or disable it';
        END IF;
    END IF;
    RETURN chosen;
END
"""

INTERNAL = {
    "chinook_sim_referred": ("", "text", REFERRED),
    "chinook_sim_hold_sale": (
        "p_invoice integer, p_from timestamp, p_to timestamp, p_referred text",
        "boolean",
        HOLD_SALE,
    ),
    "chinook_sim_any_free_sale": ("p_from timestamp, p_to timestamp", "integer", ANY_FREE_SALE),
}
"""Functions that are new in this revision and that other functions call."""

REPLACED = {"simulate_update_sale": UPDATE_SALE, "simulate_delete_sale": DELETE_SALE}

SALE_CALL = """
-- See simulate_new_sale(timestamp). {why}
BEGIN
    RETURN QUERY SELECT s.* FROM {{schema}}.simulate_new_sale(p_invoice_date::timestamp) s;
END
"""

CHANGE_CALL = """
-- See {function}(timestamp). {why}
BEGIN
    RETURN {{schema}}.{function}({moment});
END
"""

DAY_OR_MOMENT = """CASE
        -- A day begins later than at midnight where daylight saving skips midnight.
        WHEN simulation_date = date_trunc('day', simulation_date) THEN simulation_date::date
        ELSE simulation_date::timestamp END"""

WHY = {
    "date": "A date would otherwise be converted to a moment, and some days have no midnight.",
    "timestamptz": "The moment is taken to the clock of the session's TimeZone.",
    "text": "Literals of no other type come here, and are read as they would be for a timestamp.",
}


class Routine(NamedTuple):
    """A SQL function in the names of one database."""

    name: str
    parameters: str
    result: str
    body: str
    settings: str


def upgrade() -> None:
    here = site()
    if not here.postgresql:
        return
    first = revision_of("0004")
    first.refuse_changed(here, first.signatures(here))
    first.refuse_taken(
        here,
        "p.oid = ANY (SELECT to_regprocedure(s) FROM unnest(CAST(:signatures AS text[])) AS s)",
        signatures=added(here),
    )
    if not first.other_defaults(here):
        for routine in routines(here):
            first.install_one(here, *routine)


def downgrade() -> None:
    here = site()
    if not here.postgresql:
        return
    first, earlier = revision_of("0004"), revision_of("0006")
    first.refuse_changed(here, first.signatures(here))
    kept = [] if first.other_defaults(here) else first.signatures(here)
    for signature in first.refuse_changed(here, first.signatures(here) + added(here)):
        if signature not in kept:
            execute(f"DROP FUNCTION {signature}")
    first.install(here, earlier.functions(), earlier.names_in(here))


def mend() -> None:
    """Write the functions anew that have names in them which are no longer the database's.

    Where ids come from a default that the functions cannot take, they are dropped; where they no
    longer do, they are created. One that was changed since it was installed is left alone.
    """
    here = site()
    if not here.postgresql:
        return
    first = revision_of("0004")
    if not first.other_defaults(here):
        # A column whose default was dropped has nothing that makes its ids.
        revision_of("0002").create(here)
        here = site()
    for routine in routines(here):
        signature = first.signature_of(here, routine.name, routine.parameters)
        row = here.look.execute(
            text(
                "SELECT prosrc, md5(prosrc) AS digest FROM pg_proc "
                "WHERE oid = to_regprocedure(:signature)"
            ),
            {"signature": signature},
        ).one_or_none()
        ours = row is not None and marked(here, "pg_proc", signature) == f", {row.digest}"
        if first.other_defaults(here):
            if ours:
                execute(f"DROP FUNCTION {signature}")
        elif row is None or (ours and row.prosrc != routine.body):
            first.install_one(here, *routine)


def added(here: Site) -> list[str]:
    """Return the signatures of the functions that this revision adds, the last made first."""
    first = revision_of("0004")
    made = [first.signature_of(here, name, row[0]) for name, row in INTERNAL.items()]
    made += [first.signature_of(here, row.name, row.parameters) for row in overloads(here)]
    return made[::-1]


def routines(here: Site) -> list[Routine]:
    """Return all functions as they are from this revision on, in the order of their making."""
    first, earlier = revision_of("0004"), revision_of("0006")
    templates = earlier.functions()
    for name, template in REPLACED.items():
        parameters, result, _ = templates[name]
        templates[name] = parameters, result, template
    names = names_in(here)
    made = [
        Routine(name, parameters, result, template.format(**names), first.settings_of(here, name))
        for name, (parameters, result, template) in (INTERNAL | templates).items()
    ]
    return made + overloads(here)


def names_in(here: Site) -> dict[str, str]:
    """Return what stands in braces in the functions."""
    names: dict[str, str] = revision_of("0006").names_in(here)
    line = f"'{names['line_text']}'::regclass"
    return names | {
        "revision": revision,
        "line_oid": line,
        "foreign_key": (
            f"f.contype = 'f' AND f.confrelid IN ('{names['invoice_text']}'::regclass, {line}) "
            # Each partition of the lines has a foreign key of its own.
            f"AND f.conrelid <> {line} AND f.conparentid = 0"
        ),
        "latest": (
            "CASE WHEN ts = date_trunc('day', ts) "
            "THEN ts + interval '1 day' - interval '1 microsecond' ELSE ts END"
        ),
    }


def overloads(here: Site) -> list[Routine]:
    """Return the functions that only take what others are given in another type."""
    schema = here.spell(here.schema or "public")
    made = []
    for kind, why in WHY.items():
        made.append(
            Routine(
                "simulate_new_sale",
                f"p_invoice_date {kind}",
                "TABLE (generated_invoice_id integer, generated_total numeric)",
                SALE_CALL.format(why=why).format(schema=schema),
                PATH,
            )
        )
        moment = DAY_OR_MOMENT if kind == "timestamptz" else "simulation_date::timestamp"
        for function in REPLACED:
            body = CHANGE_CALL.format(function=function, why=why, moment=moment)
            parameters = f"simulation_date {kind}"
            body = body.format(schema=schema)
            made.append(Routine(function, parameters, "integer", body, PATH))
    return made


PATH = "SET search_path = pg_catalog, pg_temp"
"""Nothing else: a literal is read as the caller's settings have it, DateStyle for example."""
