"""Checks on the distribution of the sales: the database against what a profile declares.

They use SQL and arithmetic of their own, and only the numbers of a profile. What is random is
judged by chi-square tests. The number of sales of a day is random only in how it is rounded, so it
is judged exactly.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from chinook_sim.dates import bounds
from chinook_sim.errors import InvalidInput
from chinook_sim.sampling.profile import REALISTIC, UNIFORM
from chinook_sim.sampling.profile_file import load_profile
from chinook_sim.verification.expected_sales import factor_of, scrambled
from chinook_sim.verification.hours import hour_weights_of_days
from chinook_sim.verification.query import Check, CheckQuery, begun, counted
from chinook_sim.verification.recorded_runs import date_of
from chinook_sim.verification.statistics import MOST_CELLS, chi2_survival, is_rounded, merged_cells

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from datetime import date

    from sqlalchemy import Connection

    from chinook_sim.database.schema import Chinook
    from chinook_sim.sampling.profile import Profile

__all__ = ["verify_shape"]

LEAST_CHANCE = 1e-8
"""A check fails where sales of the declared shape would lie so far off no more often than this.

All the checks together then fail without a reason less than once in a million times, also where
chi-square is but an approximation: measured with `LEAST_EXPECTED` sales in the rarest cell.
"""

BASKET = 5
"""The most tracks that a sale has."""

_MADE = "{made} WHERE {scope}"

_OF_THE_DAY = "{invoice} i WHERE {scope}"

_FILLED = "r.parameters LIKE '%\"per_day\"%'"

_ONCE = "r.kind = 'generate' AND r.key LIKE 'once:%'"

_ADDED = (
    "SELECT c.subject_id AS id, count(*) AS tracks FROM {change} c "
    "JOIN {run} u ON u.run_id = c.run_id WHERE c.kind = 'update' "
    "AND c.subject = 'invoice' AND u.undone_at IS NULL GROUP BY c.subject_id"
)


_DAYS_MADE = "SELECT r.day, count(*) AS sales FROM {sales} AND {whole} GROUP BY r.day"

_DAYS_CANCELLED = (
    "SELECT r.day, count(*) AS sales FROM {change} c JOIN {run} u ON u.run_id = c.run_id "
    "JOIN {run_invoices} p ON c.subject_id BETWEEN p.first_id AND p.last_id "
    "AND (c.subject_id - p.first_id) % p.step = 0 JOIN {run} r ON r.run_id = p.run_id "
    "WHERE {scope} AND {whole} AND u.undone_at IS NULL "
    "AND c.kind = 'cancellation' AND c.subject = 'invoice' GROUP BY r.day"
)


# Whoever signs up gets a rank among the others, who then have another: only the sales count that
# were made since somebody came or went last.
_KNOWN = (
    "r.created_at >= coalesce((SELECT max(coalesce(u.undone_at, u.created_at)) FROM {run} u "
    "WHERE u.run_id IN (SELECT c.run_id FROM {change} c WHERE c.kind = 'sign-up')), r.created_at)"
)


# Who signed up to buy was not drawn for it.
_LAST_SIGN_UPS = (
    "SELECT c.subject_id AS id FROM {change} c JOIN {run} r ON r.run_id = c.run_id "
    "WHERE c.kind = 'sign-up' AND {known}"
)


class Declared(NamedTuple):
    """What is to be judged, and against what.

    Attributes:
        profile: the declared shape.
        scope: SQL: which runs, `r`, made the sales; or which invoices, `i`, they are.
        sales: SQL: where the sales are found.
        whole: SQL: those of the runs that made the whole of their day, and so as many sales as the
            profile gives it; without, none did.
    """

    profile: Profile
    scope: str
    sales: str = _MADE
    whole: str = "1 = 0"


def verify_shape(
    connection: Connection,
    profile: str | os.PathLike[str] | Profile | None = None,
    *,
    day: date | None = None,
) -> list[Check]:
    """Check the distribution of the sales against a profile.

    Judged are hours, numbers of tracks, customers and tracks of the sales of a day, or of all that
    are in the ledger; of all, also how many each day has, by weekday, month, growth and peaks.

    Args:
        connection: as for `verify_day`.
        profile: as for `generate_d1`. Judged are the sales of the runs that had it, or all of them
            if none had. If None, the sales of each run are judged by its own profile.
        day: the day; None for all of them.

    Raises:
        InvalidInput: there is no such profile; or none is named, and the ledger names none either,
            or one of a file; or the connection is in AUTOCOMMIT mode.
        NotAChinook: the database holds no Chinook.
    """
    shape = None if profile is None else load_profile(profile)
    checks: list[Check] = []
    with begun(connection) as chinook:
        for declared in _declared(connection, chinook, shape, day):
            judge = _DistributionChecker(connection, chinook, declared, day)
            checks += [judge.hours(), judge.baskets(), judge.customers(), judge.tracks()]
            if day is None:
                checks += judge.days()
    return checks


def _declared(
    connection: Connection, chinook: Chinook, shape: Profile | None, day: date | None
) -> list[Declared]:
    """Return what is to be judged, one profile after the other."""
    runs = "r.undone_at IS NULL AND r.digest IS NOT NULL"
    if day is not None:
        runs += " AND r.day = :day"
    names: list[str] = []
    if chinook.ledger:
        query = CheckQuery(connection, runs, {"day": day} if day else {})
        rows = query.rows(
            "SELECT DISTINCT r.profile FROM {run} r WHERE {scope} AND r.sales > 0 ORDER BY 1"
        )
        names = [row.profile for row in rows]
    named = runs + " AND r.profile = :profile"
    if shape is not None and shape.name in names:
        return [Declared(shape, named, whole=_FILLED)]
    if shape is not None and names:
        return [Declared(shape, runs, whole=_ONCE)]
    if shape is not None and day is not None:
        return [Declared(shape, "i.{date} >= :start AND i.{date} < :end", _OF_THE_DAY)]
    if not names:
        raise InvalidInput(
            "no run in the ledger has the profile of these sales; give the profile"
            if day is not None
            else "no run in the ledger has a profile; give a day"
        )
    known = {it.name: it for it in (UNIFORM, REALISTIC)}
    for name in names:
        if name not in known:
            raise InvalidInput(
                f"there are sales of the profile {name!r}; give the profile, or its file"
            )
    return [Declared(known[name], named, whole=_FILLED) for name in names]


class _DistributionChecker:
    """Judges the sales of one profile."""

    def __init__(
        self, connection: Connection, chinook: Chinook, declared: Declared, day: date | None
    ) -> None:
        self._profile, self._zone = declared.profile, chinook.zone
        self._by_runs = chinook.ledger and declared.sales == _MADE
        parameters: dict[str, Any] = {"profile": declared.profile.name}
        if day is not None:
            parameters["day"] = day
            parameters["start"], parameters["end"] = bounds(day)
        self._query = CheckQuery(
            connection,
            declared.scope,
            parameters,
            whole=declared.whole,
            added=_ADDED if chinook.ledger else "SELECT 0 AS id, 0 AS tracks",
            sales=declared.sales,
            # A live sale is dated when it comes.
            dated="r.kind <> 'live'" if self._by_runs else "1 = 1",
            known=_KNOWN if self._by_runs else "1 = 1",
        )

    def hours(self) -> Check:
        """Judge at what hour of the day the sales were made."""
        rows = self._query.rows(
            "SELECT {hour} AS hour, count(*) AS sales FROM {sales} AND {dated} GROUP BY {hour}"
        )
        seen = {int(row.hour): row.sales for row in rows}
        weights: list[float] = list(self._profile.hours)
        if self._zone is not None:
            # Each day has those hours that the clocks have on it.
            days = self._query.rows(
                "SELECT CAST(i.{date} AS date) AS day, count(*) AS sales FROM {sales} AND {dated} "
                "GROUP BY CAST(i.{date} AS date)"
            )
            counts = {row.day: row.sales for row in days}
            weights = hour_weights_of_days(counts, self._zone, weights)
        return self._check("hours of the day", seen, dict(enumerate(weights)))

    def baskets(self) -> Check:
        """Judge of how many tracks the sales were, when they were made."""
        rows = self._query.rows(
            "SELECT sold.tracks - coalesce(a.tracks, 0) AS size, count(*) AS sales FROM "
            "(SELECT l.{line_invoice} AS id, count(*) AS tracks FROM {line} l "
            "WHERE l.{line_invoice} IN (SELECT i.{invoice_id} FROM {sales}) "
            "GROUP BY l.{line_invoice}) sold LEFT JOIN ({added}) a ON a.id = sold.id "
            "GROUP BY sold.tracks - coalesce(a.tracks, 0)"
        )
        weights = dict(enumerate(self._profile.baskets, 1))
        tracks = self._query.number("SELECT count(*) FROM {track} t")
        if tracks < BASKET:
            # A shop cannot sell more than it has; where that leaves nothing, it sells all.
            weights = {size: weight for size, weight in weights.items() if size <= tracks}
            weights = weights if any(weights.values()) else {tracks: 1.0}
        return self._check("tracks per sale", {row.size: row.sales for row in rows}, weights)

    def customers(self) -> Check:
        """Judge who bought how often, by their rank."""
        newcomers: set[int] = set()
        if self._by_runs:
            newcomers = {row.id for row in self._query.rows(_LAST_SIGN_UPS)}
        rows = self._query.rows(
            "SELECT i.{invoice_customer} AS id, count(*) AS sales FROM {sales} AND {known} "
            "GROUP BY i.{invoice_customer}"
        )
        ids = self._query.rows("SELECT c.{customer_id} AS id FROM {customer} c")
        return self._popularity(
            "customers", rows, [row.id for row in ids], self._profile.customers, newcomers
        )

    def tracks(self) -> Check:
        """Judge which track was each sale's first, by their rank.

        The others depend on it, as no sale has a track twice.
        """
        rows = self._query.rows(
            "SELECT l.{line_track} AS id, count(*) AS sales FROM {line} l JOIN "
            "(SELECT min(f.{line_id}) AS first FROM {line} f WHERE f.{line_invoice} IN "
            "(SELECT i.{invoice_id} FROM {sales}) GROUP BY f.{line_invoice}) sale "
            "ON l.{line_id} = sale.first GROUP BY l.{line_track}"
        )
        ids = self._query.rows("SELECT t.{track_id} AS id FROM {track} t")
        return self._popularity("tracks", rows, [row.id for row in ids], self._profile.tracks)

    def _popularity(
        self,
        name: str,
        rows: Sequence[Any],
        ids: Sequence[int],
        exponent: float,
        without: set[int] | None = None,
    ) -> Check:
        """Judge sales by the rank of an id, in groups that shall have as many each."""
        weights = {
            id_: rank**-exponent
            for rank, id_ in enumerate(sorted(ids, key=lambda id_: (scrambled(id_), id_)), 1)
            if id_ not in (without or ())
        }
        group: dict[int, int] = {}
        shares: dict[int, float] = {}
        total, so_far = math.fsum(weights.values()), 0.0
        for id_, weight in weights.items():
            group[id_] = cell = min(int(so_far / total * MOST_CELLS), MOST_CELLS - 1)
            shares[cell] = shares.get(cell, 0) + weight
            so_far += weight
        seen: Counter[int] = Counter()
        for row in rows:
            if row.id in group:
                seen[group[row.id]] += row.sales
        return self._check(name, seen, shares)

    def days(self) -> list[Check]:
        """Judge how many sales each day has: as many as the profile says, rounded up or down.

        Those that later runs cancelled count as well.
        """
        if not self._by_runs:
            return []
        name = f"{self._profile.name}: sales of each day"
        runs = self._query.rows(
            "SELECT r.day, r.requested, r.parameters FROM {run} r WHERE {scope} AND {whole} "
            "ORDER BY r.day"
        )
        if not runs:
            return [Check(name, True, "no days of a backfill to judge")]
        made = Counter(self._by_day(_DAYS_MADE))
        made.update(self._by_day(_DAYS_CANCELLED))
        wrong: list[str] = []
        for row in runs:
            day = date_of(row.day)
            # Whoever made a day without a calendar asked for what every day was to have.
            per_day = json.loads(row.parameters).get("per_day", row.requested)
            expected = per_day * factor_of(self._profile, day)
            if not is_rounded(made[day], expected):
                wrong.append(f"{day} has {made[day]:,}, not {expected:,.2f} rounded")
        counts = f"{counted(len(runs), 'day', 'days')}, {counted(len(wrong), 'differs', 'differ')}"
        figure = f"{counts}: {wrong[0]}" if wrong else counts
        return [Check(name, not wrong, figure, len(wrong), measured={"days": len(runs)})]

    def _by_day(self, query: str) -> dict[date, int]:
        return {date_of(row.day): row.sales for row in self._query.rows(query)}

    def _check(self, name: str, seen: Mapping[Any, float], weights: Mapping[Any, float]) -> Check:
        """Compare what was seen with weights, by a chi-square test."""
        name = f"{self._profile.name}: {name}"
        count, total = sum(seen.values()), math.fsum(weights.values())
        sales = counted(round(count), "sale", "sales")
        never = sum(number for cell, number in seen.items() if not weights.get(cell))
        if never:
            return Check(
                name,
                False,
                f"{never:,.0f} of {sales} where the profile has none",
                round(never),
                measured={"sales": round(count)},
            )
        expected = {cell: weight / total * count for cell, weight in weights.items() if weight}
        pairs = merged_cells([(it, seen.get(cell, 0)) for cell, it in expected.items()])
        if len(expected) < 2:
            return Check(name, True, "the profile has one value only")
        if len(pairs) < 2:
            return Check(name, True, f"{sales}; too few to judge", measured={"sales": round(count)})
        chi_square = math.fsum((found - it) ** 2 / it for it, found in pairs)
        chance = chi2_survival(chi_square, len(pairs) - 1)
        return Check(
            name,
            chance >= LEAST_CHANCE,
            f"{sales}, chi-square {chi_square:.1f}, p = {chance:.2g}",
            measured={
                "sales": round(count),
                "chi_square": chi_square,
                "degrees": len(pairs) - 1,
                "p": chance,
            },
        )
