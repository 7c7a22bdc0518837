"""The checks on the sales of a day, and on all sales.

Amounts are compared in rounded cents: SQLite's are floating-point numbers, and an exact
`Total = SUM(…)` fails for some invoices of the original Chinook as well.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from chinook_sim.dates import bounds
from chinook_sim.verification import statements
from chinook_sim.verification.as_made import check_runs
from chinook_sim.verification.changes import check_changes
from chinook_sim.verification.hours import hour_weights
from chinook_sim.verification.query import Check, CheckQuery, begun

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from sqlalchemy import Connection

    from chinook_sim.database.schema import Chinook

__all__ = ["verify_all", "verify_day"]

MIN_FOR_SPREAD = 120
"""Sales from which their spread over 24 hours can be judged: five expected in each."""

SPREAD_LIMIT = 80
"""The chi-square of fewer than one uniform day in a million exceeds this, however few its sales."""


def verify_day(connection: Connection, day: date, *, expect: int | None = None) -> list[Check]:
    """Check the sales of one day, and the runs with sales on it.

    Args:
        connection: on a Chinook. On PostgreSQL, its transaction, if it has not begun, becomes
            REPEATABLE READ and READ ONLY; begin it so yourself if others write meanwhile.
        day: the day. Late and cancelled sales count with the day of their run.
        expect: number of sales that there must be; at least one if None.

    Raises:
        NotAChinook: the database holds no Chinook.
        InvalidInput: the connection is in AUTOCOMMIT mode.
    """
    with begun(connection) as chinook:
        return _checks_of_day(connection, chinook, day, expect)


def _checks_of_day(
    connection: Connection, chinook: Chinook, day: date, expect: int | None
) -> list[Check]:
    start, end = bounds(day)
    scope = "i.{date} >= :start AND i.{date} < :end"
    times: dict[str, Any] = {"start": start, "end": end, "day": day}
    back = _days_back(connection) if chinook.ledger else 0
    baseline = _baseline(connection) if chinook.ledger else 0
    if back:
        scope = statements.OF_THE_DAY
        times |= {
            "earliest": start - min(timedelta(days=back), start - start.min),
            "latest": day + min(timedelta(days=back), day.max - day),
        }
    query = CheckQuery(
        connection,
        scope,
        times,
        in_a_run=statements.IN_A_RUN,
        lines_in_scope="WHERE {of_lines}",
    )
    found = query.number("SELECT count(*) FROM {invoice} i WHERE {scope}")
    cancelled = late = 0
    if back:
        late = query.number("SELECT count(*) FROM {invoice} i WHERE {scope} AND i.{date} < :start")
    if chinook.ledger:
        cancelled, _ = query.ids(statements.CANCELLED_SINCE)
    wanted = _wanted(found + cancelled, expect)
    expected = {} if expect is None else {"expected": expect}
    return [
        Check(
            "sales of the day",
            found + cancelled == expect if expect is not None else found + cancelled > 0,
            f"{found}{f', {late} dated before it' if late else ''}"
            f"{f', and {cancelled} cancelled' if cancelled else ''}{wanted}",
            count=found,
            measured={"late": late, "cancelled": cancelled, **expected},
        ),
        *check_runs(connection, chinook, day, baseline, back),
        _totals(query),
        *_rules_of_day(connection, chinook, scope, times, baseline),
        *_orphans(query),
        _spread(
            query,
            found,
            hour_weights(day, chinook.zone, [1 / 24] * 24),
            _declared(connection, day) if chinook.ledger else [],
        ),
        *(check_changes(connection, baseline, day) if chinook.ledger else []),
    ]


def verify_all(connection: Connection, *, expect: int | None = None) -> list[Check]:
    """Check every sale and every run for what must hold in any Chinook.

    Invoices that are older than the ledger need not follow the rules of simulated sales; those that
    do not are a remark. Eight bytes of each sale are kept in memory.

    Args:
        connection: as for `verify_day`.
        expect: number of sales that there must be; at least one if None.

    Raises:
        NotAChinook: the database holds no Chinook.
        InvalidInput: the connection is in AUTOCOMMIT mode.
    """
    with begun(connection) as chinook:
        return _checks_of_all(connection, chinook, expect)


def _checks_of_all(connection: Connection, chinook: Chinook, expect: int | None) -> list[Check]:
    baseline = _baseline(connection) if chinook.ledger else 0
    back = _days_back(connection) if chinook.ledger else 0
    query = CheckQuery(connection, "1 = 1", {}, lines_in_scope="")
    found = query.number("SELECT count(*) FROM {invoice} i")
    wanted = _wanted(found, expect)
    return [
        Check(
            "invoices",
            found == expect if expect is not None else found > 0,
            f"{found}{wanted}",
            count=found,
            measured={} if expect is None else {"expected": expect},
        ),
        *check_runs(connection, chinook, None, baseline, back),
        _totals(query),
        *_rules(connection, baseline if chinook.ledger else None),
        *_orphans(query),
        *(check_changes(connection, baseline) if chinook.ledger else []),
    ]


def _wanted(found: int, expect: int | None) -> str:
    """Return how many sales there must be, for a figure."""
    if expect is not None:
        return f", {expect} expected"
    return "" if found else ", at least 1 expected"


def _rules_of_day(
    connection: Connection, chinook: Chinook, scope: str, times: dict[str, Any], baseline: int
) -> list[Check]:
    """Check the rules of simulated sales on a day, and remark on older invoices."""
    newer, remarks = _by_age(connection, scope, times, baseline if chinook.ledger else None)
    tracks = statements.TRACKS_AND_ADDED if chinook.ledger else statements.TRACKS
    prices = statements.PRICES_THEN if chinook.ledger else statements.PRICES_NOW
    return [
        newer.expect_none(
            "1 to 5 tracks per invoice",
            tracks,
            "invoice with another number",
            "invoices with another number",
        ),
        _distinct_tracks(newer),
        newer.expect_none(
            "unit prices valid at the time of the sale",
            prices,
            "invoice with another price",
            "invoices with another price",
        ),
        newer.expect_none(
            "quantity of each line is 1",
            statements.QUANTITIES,
            "invoice with another quantity",
            "invoices with another quantity",
        ),
        _whole_seconds(newer),
        *remarks,
    ]


def _rules(connection: Connection, baseline: int | None) -> list[Check]:
    """Check what holds for all simulated sales, and remark on older invoices."""
    newer, remarks = _by_age(connection, "1 = 1", {}, baseline)
    return [
        newer.expect_none(
            "at least one track per invoice",
            statements.WITHOUT_TRACKS,
            "invoice without tracks",
            "invoices without tracks",
        ),
        _distinct_tracks(newer),
        *remarks,
    ]


def _by_age(
    connection: Connection, scope: str, parameters: dict[str, Any], baseline: int | None
) -> tuple[CheckQuery, list[Check]]:
    """Return a query for the simulated sales of a scope, and remarks on its older invoices."""
    if baseline is not None:
        older, called = "i.{invoice_id} <= :baseline", "invoices older than the ledger"
        parameters = parameters | {"baseline": baseline}
    else:
        # Without a ledger nothing else distinguishes them; few simulated sales are at midnight.
        older, called = "{at_midnight}", "invoices dated at midnight"
    newer, history = (
        CheckQuery(connection, f"{scope} AND {condition}", parameters)
        for condition in (f"NOT ({older})", older)
    )
    remarks = (
        history.expect_none(called, query, f"invoice {what}", f"invoices {what}", remark=True)
        for query, what in (
            (statements.WITHOUT_TRACKS, "without tracks"),
            (statements.REPEATED_TRACKS, "with a repeated track"),
        )
    )
    return newer, [remark for remark in remarks if remark.count]


def _totals(query: CheckQuery) -> Check:
    """Check each total against its lines."""
    return query.expect_none(
        "totals equal the sum of their lines",
        statements.TOTALS,
        "invoice differs",
        "invoices differ",
    )


def _distinct_tracks(query: CheckQuery) -> Check:
    """Check that no invoice has a track twice."""
    return query.expect_none(
        "no repeated track in an invoice",
        statements.REPEATED_TRACKS,
        "invoice with a repeated track",
        "invoices with a repeated track",
    )


def _orphans(query: CheckQuery) -> list[Check]:
    """Check that whatever is referred to is there; lines without an invoice have no day."""
    return [
        query.expect_none(
            "customers of invoices exist",
            statements.WITHOUT_CUSTOMER,
            "invoice without a customer",
            "invoices without a customer",
        ),
        query.expect_none(
            "tracks of lines exist",
            statements.WITHOUT_TRACK,
            "line without a track",
            "lines without a track",
        ),
        query.expect_none(
            "invoices of lines exist",
            statements.WITHOUT_INVOICE,
            "line without an invoice, on all days",
            "lines without an invoice, on all days",
        ),
    ]


def _days_back(connection: Connection) -> int:
    """Return by how many days sales of any run may be dated back."""
    query = CheckQuery(connection, "1 = 1", {})
    rows = query.rows("SELECT r.parameters FROM {run} r WHERE r.parameters LIKE '%\"late_days\"%'")
    return max((int(json.loads(row.parameters)["late_days"]) for row in rows), default=0)


def _baseline(connection: Connection) -> int:
    """Return the highest id of an invoice that is older than the ledger; 0 for none."""
    query = CheckQuery(connection, "r.kind = 'baseline'", {})
    rows = query.rows("SELECT coalesce(r.last_invoice_id, 0) AS id FROM {run} r WHERE {scope}")
    return max((int(row.id) for row in rows), default=0)


def _declared(connection: Connection, day: date) -> list[str]:
    """Return what the runs of a day say of how its sales are spread over the hours."""
    query = CheckQuery(connection, "1 = 1", {"day": day})
    rows = query.rows(
        "SELECT DISTINCT r.profile, CASE r.kind WHEN 'live' THEN 1 ELSE 0 END AS live "
        "FROM {run} r WHERE r.day = :day AND r.undone_at IS NULL "
        "AND r.digest IS NOT NULL AND r.sales > 0 ORDER BY live, r.profile"
    )
    return [
        "dated when they arrived"
        if row.live
        else f"as in profile {row.profile}, which the checks of the shape compare"
        for row in rows
        if row.live or row.profile != "uniform"
    ]


def _whole_seconds(query: CheckQuery) -> Check:
    # SQLite keeps whatever text it is given; PostgreSQL keeps a timestamp, perhaps with fractions.
    return query.expect_none(
        "timestamps in whole seconds",
        "SELECT i.{invoice_id} AS id FROM {invoice} i WHERE {scope} AND NOT ({in_whole_seconds})",
        "invoice with a fraction or an invalid timestamp",
        "invoices with a fraction or an invalid timestamp",
    )


def _spread(
    query: CheckQuery, found: int, shares: Sequence[float], declared: Sequence[str]
) -> Check:
    rows = query.rows(
        "SELECT {hour} AS hour, count(*) AS sales FROM {invoice} i WHERE {scope} GROUP BY {hour}"
    )
    there = [hour for hour, share in enumerate(shares) if share]
    name, hours = "distribution over the hours", f"{len(rows)} of {len(there)} hours"
    measured: dict[str, float] = {"hours": len(rows)}
    if declared:
        said = " and ".join(dict.fromkeys(declared))
        return Check(name, True, f"{hours}; {said}", measured=measured)
    if found < MIN_FOR_SPREAD:
        return Check(name, True, f"{hours}; too few sales to judge", measured=measured)
    seen = {int(row.hour): int(row.sales) for row in rows}
    # No sale can be in an hour that the clocks skip.
    expected = {hour: shares[hour] * found for hour in there}
    chi_square = sum((seen.get(hour, 0) - it) ** 2 / it for hour, it in expected.items())
    return Check(
        name,
        chi_square <= SPREAD_LIMIT,
        f"{hours}, chi-square {chi_square:.1f}, limit {SPREAD_LIMIT}",
        measured=measured | {"chi_square": chi_square, "limit": SPREAD_LIMIT},
    )
