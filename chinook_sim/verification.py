"""Checks on the sales in a database, in SQL of their own.

Nothing here uses what makes the sales: the checks read the tables as a user would, and so would
find what sampling, the writers and the factory all got wrong in the same way. Nothing is printed.

Amounts are compared in rounded cents: SQLite's are floating-point numbers, and an exact
`Total = SUM(…)` fails for some invoices of the original Chinook as well.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from chinook_sim.naming import recognise
from chinook_sim.questions import Check, Questions
from chinook_sim.window import bounds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from sqlalchemy import Connection

    from chinook_sim.naming import Chinook

__all__ = ["verify_all", "verify_day"]

MIN_FOR_SPREAD = 120
"""Sales from which their spread over 24 hours can be judged: five expected in each."""

SPREAD_LIMIT = 80
"""The chi-square of fewer than one uniform day in a million exceeds this, however few its sales."""


def verify_day(connection: Connection, day: date, *, expect: int | None = None) -> list[Check]:
    """Check the sales of one day.

    Args:
        connection: on a Chinook.
        day: the day.
        expect: how many sales there must be; without it there must be some.

    Raises:
        NotAChinook: the database holds no Chinook.
    """
    chinook = recognise(connection)
    start, end = bounds(day)
    scope = "i.{date} >= :start AND i.{date} < :end"
    times: dict[str, Any] = {"start": start, "end": end}
    back = _days_back(connection) if chinook.ledger else 0
    if back:
        scope = _OF_THE_DAY
        times |= {
            "earliest": start - min(timedelta(days=back), start - start.min),
            "day": day,
            "latest": day + min(timedelta(days=back), day.max - day),
        }
    ask = Questions(connection, scope, times)
    found = ask.number("SELECT count(*) FROM {invoice} i WHERE {scope}")
    cancelled = late = 0
    if back:
        late = ask.number("SELECT count(*) FROM {invoice} i WHERE {scope} AND i.{date} < :start")
    if chinook.changes:
        cancelled = ask.number(_CANCELLED_SINCE)
    wanted = "" if expect is None else f", {expect} expected"
    return [
        Check(
            "sales of the day",
            found + cancelled == expect if expect is not None else found + cancelled > 0,
            f"{found}{f', {late} dated before it' if late else ''}"
            f"{f', and {cancelled} cancelled' if cancelled else ''}{wanted}",
        ),
        _totals(ask),
        ask.none(
            "1 to 5 tracks an invoice",
            (_TRACKS_AND_ADDED if chinook.changes else _TRACKS),
            "invoices with none or more",
        ),
        _distinct_tracks(ask),
        *_orphans(ask),
        ask.none(
            "unit prices as they were valid",
            _PRICES_THEN if chinook.changes else _PRICES_NOW,
            "lines with another",
        ),
        ask.none(
            "one of each track",
            "SELECT count(*) FROM {line} l JOIN {invoice} i ON i.{invoice_id} = l.{line_invoice} "
            "WHERE {scope} AND l.{quantity} <> 1",
            "lines with another quantity",
        ),
        _whole_seconds(connection, ask),
        _spread(ask, found, _declared(connection, day) if chinook.ledger else []),
        *_changes(connection, chinook, day),
    ]


def verify_all(connection: Connection, *, expect: int | None = None) -> list[Check]:
    """Check every sale there is for what must hold in any Chinook, simulated or not.

    Args:
        connection: on a Chinook.
        expect: how many sales there must be; without it there must be some.

    Raises:
        NotAChinook: the database holds no Chinook.
    """
    chinook = recognise(connection)
    ask = Questions(connection, "1 = 1", {})
    found = ask.number("SELECT count(*) FROM {invoice} i")
    wanted = "" if expect is None else f", {expect} expected"
    return [
        Check("sales", found == expect if expect is not None else found > 0, f"{found}{wanted}"),
        _totals(ask),
        ask.none(
            "at least one track an invoice",
            "SELECT count(*) FROM {invoice} i WHERE NOT EXISTS (SELECT 1 FROM {line} l "
            "WHERE l.{line_invoice} = i.{invoice_id})",
            "invoices with none",
        ),
        _distinct_tracks(ask),
        *_orphans(ask),
        *_changes(connection, chinook),
    ]


def _totals(ask: Questions) -> Check:
    """Check each total against its lines."""
    return ask.none(
        "totals equal the sum of their lines",
        "SELECT count(*) FROM {invoice} i WHERE {scope} "
        "AND coalesce(round(i.{total} * 100), -1) <> coalesce((SELECT "
        "sum(round(l.{price} * 100) * l.{quantity}) FROM {line} l "
        "WHERE l.{line_invoice} = i.{invoice_id}), -2)",
        "invoices differ",
    )


def _distinct_tracks(ask: Questions) -> Check:
    """Check that no invoice has a track twice."""
    return ask.none(
        "no track twice in an invoice",
        "SELECT count(*) FROM (SELECT 1 FROM {line} l JOIN {invoice} i "
        "ON i.{invoice_id} = l.{line_invoice} WHERE {scope} "
        "GROUP BY l.{line_invoice}, l.{line_track} HAVING count(*) > 1) repeated",
        "tracks repeated",
    )


def _orphans(ask: Questions) -> list[Check]:
    """Check that whatever is referred to is there; lines without an invoice have no day."""
    return [
        ask.none(
            "every invoice has its customer",
            "SELECT count(*) FROM {invoice} i WHERE {scope} AND NOT EXISTS (SELECT 1 FROM "
            "{customer} c WHERE c.{customer_id} = i.{invoice_customer})",
            "without",
        ),
        ask.none(
            "every line has its track",
            "SELECT count(*) FROM {line} l "
            "JOIN {invoice} i ON i.{invoice_id} = l.{line_invoice} WHERE {scope} AND NOT "
            "EXISTS (SELECT 1 FROM {track} t WHERE t.{track_id} = l.{line_track})",
            "without",
        ),
        ask.none(
            "every line has its invoice",
            "SELECT count(*) FROM {line} l WHERE NOT EXISTS (SELECT 1 FROM {invoice} i "
            "WHERE i.{invoice_id} = l.{line_invoice})",
            "without, on any day",
        ),
    ]


_PRICES_NOW = (
    "SELECT count(*) FROM {line} l JOIN {invoice} i ON i.{invoice_id} = l.{line_invoice} "
    "JOIN {track} t ON t.{track_id} = l.{line_track} WHERE {scope} "
    "AND coalesce(round(l.{price} * 100), -1) <> coalesce(round(t.{price} * 100), -2)"
)

_PRICES_THEN = (
    # Which change of a price each batch knew last; 0 for none, where the ledger says nothing.
    "WITH known AS (SELECT r.run_id, coalesce((SELECT k.subject_id FROM {change} k "
    "WHERE k.run_id = r.run_id AND k.subject = 'price'), 0) AS as_of, r.kind, r.invoice_ids "
    "FROM {run} r WHERE r.undone_at IS NULL AND r.kind IN ('generate', 'changes', 'live')), "
    "made AS MATERIALIZED (SELECT as_of, {first} AS first, {last} AS last, {step} AS step "
    "FROM known r, {ids_of_run} "
    "WHERE {last} >= (SELECT min(i.{invoice_id}) FROM {invoice} i WHERE {scope}) "
    "AND {first} <= (SELECT max(i.{invoice_id}) FROM {invoice} i WHERE {scope})), "
    # A line of a track whose price ever changed: what the run that wrote it knew.
    "written AS (SELECT l.{line_id} AS id, coalesce("
    "(SELECT n.as_of FROM {change} c JOIN known n ON n.run_id = c.run_id "
    "WHERE c.kind = 'update' AND c.subject = 'invoice' AND c.subject_id = l.{line_invoice} "
    "AND EXISTS (SELECT 1 FROM {kept_lines} WHERE {kept_line_id} = l.{line_id}) "
    "AND NOT EXISTS (SELECT 1 FROM {lines_before} WHERE {kept_line_id} = l.{line_id})), "
    "(SELECT max(m.as_of) FROM made m WHERE l.{line_invoice} BETWEEN m.first AND m.last "
    "AND (l.{line_invoice} - m.first) % m.step = 0)) AS as_of "
    "FROM {line} l JOIN {invoice} i ON i.{invoice_id} = l.{line_invoice} WHERE {scope} "
    "AND l.{line_track} IN (SELECT p.subject_id FROM {change} p WHERE p.subject = 'track')) "
    "SELECT count(*) FROM {line} l JOIN {invoice} i ON i.{invoice_id} = l.{line_invoice} "
    "JOIN {track} t ON t.{track_id} = l.{line_track} LEFT JOIN written w ON w.id = l.{line_id} "
    "WHERE {scope} AND CASE WHEN l.{line_track} NOT IN "
    "(SELECT p.subject_id FROM {change} p WHERE p.subject = 'track') "
    "THEN coalesce(round(l.{price} * 100), -1) <> coalesce(round(t.{price} * 100), -2) "
    # Of a sale that no run recorded any price will do that the track ever had.
    "WHEN w.as_of IS NULL THEN round(l.{price} * 100) <> round(t.{price} * 100) "
    "AND NOT EXISTS (SELECT 1 FROM {change} c WHERE c.subject = 'track' "
    "AND c.subject_id = l.{line_track} AND round(l.{price} * 100) "
    "IN (round({price_before} * 100), round({price_after} * 100))) "
    # What it was before the first change that was not known yet, or what it is.
    "ELSE round(l.{price} * 100) <> coalesce((SELECT round({price_before} * 100) FROM {change} c "
    "WHERE c.subject = 'track' AND c.subject_id = l.{line_track} AND c.change_id > w.as_of "
    "ORDER BY c.change_id LIMIT 1), round(t.{price} * 100)) END"
)

_IN_RUN = (
    # Of no other runs than those that can have late sales on the day.
    "EXISTS (SELECT 1 FROM {run} r, {ids_of_run} WHERE r.undone_at IS NULL "
    "AND r.digest IS NOT NULL AND r.day BETWEEN :day AND :latest "
    "AND r.parameters LIKE '%\"late_days\"%' AND i.{invoice_id} BETWEEN {first} AND {last} "
    "AND (i.{invoice_id} - {first}) % {step} = 0 AND r.day "
)

_OF_THE_DAY = (
    # What is dated on the day and did not come late on another, and what came late on this one.
    "i.{date} >= :earliest AND i.{date} < :end AND CASE WHEN i.{date} >= :start "
    "THEN NOT " + _IN_RUN + "> :day) ELSE " + _IN_RUN + "= :day) END"
)

_CANCELLED_SINCE = (
    "SELECT count(*) FROM {change} c JOIN {run} r ON r.run_id = c.run_id "
    "WHERE r.undone_at IS NULL AND c.kind = 'cancellation' "
    "AND {date_before} >= :start AND {date_before} < :end"
)


def _days_back(connection: Connection) -> int:
    """Return by how many days sales of any run may be dated back."""
    ask = Questions(connection, "1 = 1", {})
    rows = ask.rows("SELECT r.parameters FROM {run} r WHERE r.parameters LIKE '%\"late_days\"%'")
    return max((int(json.loads(row.parameters)["late_days"]) for row in rows), default=0)


def _declared(connection: Connection, day: date) -> list[str]:
    """Return what the runs of a day say of how its sales are spread over the hours."""
    ask = Questions(connection, "1 = 1", {"day": day})
    rows = ask.rows(
        "SELECT DISTINCT r.profile, CASE r.kind WHEN 'live' THEN 1 ELSE 0 END AS live "
        "FROM {run} r WHERE r.day = :day AND r.undone_at IS NULL "
        "AND r.digest IS NOT NULL AND r.sales > 0 ORDER BY live, r.profile"
    )
    return [
        "dated when they came"
        if row.live
        else f"as profile {row.profile} has them, which --shape checks"
        for row in rows
        if row.live or row.profile != "uniform"
    ]


_TRACKS = (
    "SELECT count(*) FROM {invoice} i WHERE {scope} AND (SELECT count(*) FROM {line} l "
    "WHERE l.{line_invoice} = i.{invoice_id}) NOT BETWEEN 1 AND 5"
)

_TRACKS_AND_ADDED = (
    # Beside those that runs added to it later, where no invoice with fewer was left.
    "WITH added AS (SELECT c.subject_id AS id, count(*) AS tracks FROM {change} c "
    "JOIN {run} r ON r.run_id = c.run_id "
    "WHERE c.kind = 'update' AND c.subject = 'invoice' AND r.undone_at IS NULL "
    "GROUP BY c.subject_id) "
    "SELECT count(*) FROM {invoice} i LEFT JOIN added a ON a.id = i.{invoice_id} WHERE {scope} "
    "AND (SELECT count(*) FROM {line} l WHERE l.{line_invoice} = i.{invoice_id}) "
    "NOT BETWEEN 1 AND 5 + coalesce(a.tracks, 0)"
)

_LATEST = (
    # Of several changes of one thing the last is what can be seen. The last of all are found in
    # one go: asked for each change by itself, it would take the square of their number.
    "WITH latest AS (SELECT max(c.change_id) AS change_id FROM {change} c "
    "JOIN {run} r ON r.run_id = c.run_id WHERE {of_them} GROUP BY c.subject_id) "
    "SELECT count(*) FROM latest JOIN {change} c ON c.change_id = latest.change_id "
    "JOIN {run} r ON r.run_id = c.run_id WHERE {scope} AND "
)

_INVOICES = "c.subject = 'invoice' AND c.kind IN ('update', 'cancellation') AND r.undone_at IS NULL"

_CUSTOMERS = "c.subject = 'customer' AND r.undone_at IS NULL"

# That a price was put back is one more change of it, of the run that was undone.
_PRICES = "c.subject = 'track'"

_STILL_THERE = (
    "c.kind = 'cancellation' "
    "AND EXISTS (SELECT 1 FROM {invoice} i WHERE i.{invoice_id} = c.subject_id)"
)

_OTHERWISE = (
    "c.kind = 'update' AND (NOT EXISTS (SELECT 1 FROM {invoice} i "
    "WHERE i.{invoice_id} = c.subject_id AND round(i.{total} * 100) = round({kept_total} * 100) "
    "AND {same_bill}) "
    "OR (SELECT count(*) FROM {line} l WHERE l.{line_invoice} = c.subject_id) "
    "<> (SELECT count(*) FROM {kept_lines}) OR EXISTS (SELECT 1 FROM {kept_lines} "
    "WHERE NOT EXISTS (SELECT 1 FROM {line} l WHERE l.{line_id} = {kept_line_id} "
    "AND l.{line_invoice} = c.subject_id AND l.{line_track} = {kept_line_track} "
    "AND round(l.{price} * 100) = round({kept_price} * 100) AND l.{quantity} = {kept_quantity})))"
)


_LIVES_ELSEWHERE = (
    "NOT EXISTS (SELECT 1 FROM {customer} t WHERE t.{customer_id} = c.subject_id "
    "AND {same_address}) "
    # Who moved to one address twice is moved back by undoing the first time alone.
    "AND NOT EXISTS (SELECT 1 FROM {change} b JOIN {run} u ON u.run_id = b.run_id "
    "JOIN {customer} t ON t.{customer_id} = b.subject_id WHERE b.subject = 'customer' "
    "AND b.subject_id = c.subject_id AND b.change_id < c.change_id "
    "AND u.undone_at >= r.created_at AND {same_address_before})"
)

_COSTS_OTHERWISE = (
    "NOT EXISTS (SELECT 1 FROM {track} t WHERE t.{track_id} = c.subject_id "
    "AND round(t.{price} * 100) = round({price_after} * 100))"
)


def _changes(connection: Connection, chinook: Chinook, day: date | None = None) -> list[Check]:
    """Check that what runs changed, on one day or ever, is as the ledger says they left it."""
    if not chinook.changes:
        return []
    scope = "1 = 1" if day is None else "r.day = :day"
    parameters = {} if day is None else {"day": day}
    invoices, customers, prices = (
        Questions(connection, scope, parameters, of_them=of_them)
        for of_them in (_INVOICES, _CUSTOMERS, _PRICES)
    )
    return [
        invoices.none("cancelled invoices are gone", _LATEST + _STILL_THERE, "are there"),
        invoices.none("updated invoices are as they were left", _LATEST + _OTHERWISE, "differ"),
        customers.none(
            "moved and new customers are as they were left", _LATEST + _LIVES_ELSEWHERE, "differ"
        ),
        prices.none("changed prices are as they were left", _LATEST + _COSTS_OTHERWISE, "differ"),
    ]


def _whole_seconds(connection: Connection, ask: Questions) -> Check:
    # SQLite keeps whatever text it is given; PostgreSQL keeps a timestamp, perhaps with fractions.
    broken = (
        "i.{date} NOT GLOB '????-??-?? [0-2][0-9]:[0-5][0-9]:[0-5][0-9]'"
        if connection.dialect.name == "sqlite"
        else "date_trunc('second', i.{date}) <> i.{date}"
    )
    return ask.none(
        "moments in the day, to the second",
        f"SELECT count(*) FROM {{invoice}} i WHERE {{scope}} AND {broken}",  # noqa: S608
        "otherwise",
    )


def _spread(ask: Questions, found: int, declared: Sequence[str]) -> Check:
    rows = ask.rows(
        "SELECT {hour} AS hour, count(*) AS sales FROM {invoice} i WHERE {scope} GROUP BY {hour}"
    )
    name, hours = "spread over the hours", f"{len(rows)} of 24 hours"
    if declared:
        return Check(name, True, f"{hours}; {' and '.join(dict.fromkeys(declared))}")
    if found < MIN_FOR_SPREAD:
        return Check(name, True, f"{hours}; too few sales to judge")
    expected = found / 24
    seen = [int(row.sales) for row in rows] + [0] * (24 - len(rows))
    chi_square = sum((count - expected) ** 2 / expected for count in seen)
    return Check(
        name,
        chi_square <= SPREAD_LIMIT,
        f"{hours}, chi-square {chi_square:.1f} (at most {SPREAD_LIMIT})",
    )
