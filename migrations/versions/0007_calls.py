"""SQL functions that take dates and now(), and leave alone sales that other tables refer to.

Revision ID: 0007
Revises: 0006

`simulate_update_sale` and `simulate_delete_sale` take midnight for the whole day. Overloads for
`timestamptz`, `date` and `text` make calls with `now()` work. Literals go to the one for `text`,
and dates to the one for `date`. Without these two PostgreSQL would prefer `timestamptz`, and
convert both through the session's TimeZone, where a moment that daylight saving skips becomes
another.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import text

from chinook_sim.provisioning.migration_runner import read_functions, revision_of
from chinook_sim.provisioning.revision_context import Site, execute, marked, site

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

INTERNAL = read_functions(
    revision, "chinook_sim_referred", "chinook_sim_hold_sale", "chinook_sim_any_free_sale"
)
"""Functions that are new in this revision and that other functions call."""

REPLACED = read_functions(revision, "simulate_update_sale", "simulate_delete_sale")

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
    templates = earlier.functions() | REPLACED
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
