"""The shape of the sales: each curve shows in the data, and is missed when it is taken away."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from datetime import date, timedelta
from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from chinook_sim import (
    InvalidInput,
    KeyTaken,
    Peak,
    Profile,
    SaleFactory,
    backfill,
    generate_d1,
    load_profile,
    undo,
)
from chinook_sim.operations.options import BatchOptions
from chinook_sim.operations.run_batch import plan_batch
from chinook_sim.sales.batch import SalePlan, draw_batch
from chinook_sim.sales.catalogue import BillingAddress, Catalogue
from chinook_sim.sampling.profile import REALISTIC, UNIFORM
from chinook_sim.verification import verify_day
from chinook_sim.verification.distribution import verify_shape
from chinook_sim.verification.statistics import chance_of, merged_cells
from support.cases import (
    on_all_migrated,
    on_both_databases,
    on_each_shape,
    on_each_shape_unmigrated,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from chinook_sim.sales.batch import SaleBatch
    from chinook_sim.verification import Check
    from support.command import Command
    from support.databases import ChinookDatabase

DAY = date(2026, 1, 31)

STEEP = Profile(
    "steep",
    hours=(0, 0, 5, *(1,) * 20, 9),
    weekdays=(1, 1, 1, 1, 1, 4, 0),
    months=(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12),
    growth=0.5,
    customers=1.2,
    tracks=1.5,
    baskets=(0, 8, 0, 4, 1),
    peaks=(Peak("02-29", 3), Peak("2026-05-01", 0)),
)


def catalogue(customers: int = 59, tracks: int = 3_503) -> Catalogue:
    nowhere = BillingAddress(None, None, None, None, None)
    return Catalogue(
        customer_ids=np.arange(1, customers + 1),
        billing=[nowhere] * customers,
        track_ids=np.arange(1, tracks + 1),
        prices=np.full(tracks, 99),
    )


def draw(profile: Profile, count: int = 50_000, **sizes: int) -> SaleBatch:
    return draw_batch(catalogue(**sizes), 7, DAY, 0, count, profile=profile)


def chance(seen: Mapping[Any, float], weights: Mapping[Any, float]) -> float:
    """How likely counts are that lie as far off the weights, those with few expected together."""
    total, count = math.fsum(weights.values()), sum(seen.values())
    if any(cell for cell, number in seen.items() if number and not weights.get(cell)):
        return 0
    cells: list[list[float]] = [[0, 0]]
    for cell, weight in sorted(weights.items(), key=lambda item: -item[1]):
        if cells[-1][0] >= 20:
            cells.append([0, 0])
        cells[-1][0] += weight / total * count
        cells[-1][1] += seen.get(cell, 0)
    if cells[-1][0] < 20:
        expected, found = cells.pop()
        cells[-1] = [cells[-1][0] + expected, cells[-1][1] + found]
    chi_square = math.fsum((found - expected) ** 2 / expected for expected, found in cells)
    return chance_of(chi_square, len(cells) - 1)


def ranked(ids: int, exponent: float) -> dict[int, float]:
    """Zipf's weights, of ids in the order of their SplitMix64."""

    def mixed(id_: int) -> int:
        word = (id_ + 0x9E3779B97F4A7C15) % 2**64
        word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        word = (word ^ (word >> 27)) * 0x94D049BB133111EB % 2**64
        return word ^ (word >> 31)

    order = sorted(range(1, ids + 1), key=mixed)
    return {id_: rank**-exponent for rank, id_ in enumerate(order, 1)}


def firsts(batch: SaleBatch) -> Counter[int]:
    return Counter(batch.track_ids[batch.offsets[:-1]].tolist())


CURVES: dict[str, tuple[Callable[[SaleBatch], Counter[int]], Callable[[Profile], Any]]] = {
    "hours": (
        lambda batch: Counter((batch.seconds // 3600).tolist()),
        lambda profile: dict(enumerate(profile.hours)),
    ),
    "baskets": (
        lambda batch: Counter(np.diff(batch.offsets).tolist()),
        lambda profile: dict(enumerate(profile.baskets, 1)),
    ),
    "customers": (
        lambda batch: Counter(batch.customer_ids.tolist()),
        lambda profile: ranked(59, profile.customers),
    ),
    "tracks": (firsts, lambda profile: ranked(3_503, profile.tracks)),
}


@pytest.mark.parametrize("profile", [REALISTIC, STEEP], ids=lambda profile: profile.name)
@pytest.mark.parametrize("curve", CURVES)
def test_each_curve_of_a_day_shows_in_the_sales(curve: str, profile: Profile) -> None:
    count, declared = CURVES[curve]
    assert chance(count(draw(profile)), declared(profile)) > 1e-4
    # Without the curve, and with all the others, it does not.
    flat = replace(profile, **{curve: getattr(UNIFORM, curve)})
    assert chance(count(draw(flat)), declared(profile)) < 1e-12
    assert chance(count(draw(flat)), declared(UNIFORM)) > 1e-4


def by_day(profile: Profile) -> dict[date, int]:
    """Sales of the days of four years."""
    days = (date(2024, 1, 1) + timedelta(days=number) for number in range(4 * 365 + 1))
    return {day: profile.count(100, day, seed=7) for day in days}


def sums(numbers: Mapping[date, float], cell: Callable[[date], Any]) -> Counter[Any]:
    found: Counter[Any] = Counter()
    for day, number in numbers.items():
        found[cell(day)] += number  # type: ignore[assignment]
    return found


CALENDAR: dict[str, tuple[Callable[[date], Any], Callable[[Profile, date], float]]] = {
    "weekdays": (lambda day: day.weekday(), lambda it, day: it.weekdays[day.weekday()]),
    "months": (lambda day: day.month, lambda it, day: it.months[day.month - 1]),
    "growth": (
        lambda day: (day.year, day.month > 6),
        lambda it, day: (1 + it.growth) ** ((day - it.since).days / 365.2425),
    ),
    "peaks": (
        lambda day: day if f"{day:%m-%d}" in "02-29 05-01 11-26 11-27 11-28 12-23 12-24" else None,
        lambda it, day: math.prod(peak.factor for peak in it.peaks if str(day).endswith(peak.day)),
    ),
}


@pytest.mark.parametrize("profile", [REALISTIC, STEEP], ids=lambda profile: profile.name)
@pytest.mark.parametrize("curve", CALENDAR)
def test_each_curve_of_the_year_shows_in_the_number_of_sales(curve: str, profile: Profile) -> None:
    cell, weight = CALENDAR[curve]
    flat = replace(profile, **{curve: getattr(UNIFORM, curve)})
    # What the days would have of the declared shape, up to a constant.
    declared = {day: flat.factor(day) * weight(profile, day) for day in by_day(UNIFORM)}
    assert chance(sums(by_day(profile), cell), sums(declared, cell)) > 1e-4
    assert chance(sums(by_day(flat), cell), sums(declared, cell)) < 1e-12


def test_the_number_of_sales_is_exact_in_the_mean() -> None:
    seeds = range(2_000)
    for day in (DAY, date(2026, 12, 24), date(2030, 7, 6)):
        expected = 10 * REALISTIC.factor(day)
        made = [REALISTIC.count(10, day, seed) for seed in seeds]
        assert set(made) <= {math.floor(expected), math.ceil(expected)}
        assert abs(sum(made) / len(made) - expected) < 0.05
    year = [REALISTIC.factor(date(2026, 1, 1) + timedelta(days=number)) for number in range(365)]
    assert 1 < sum(year) / 365 < 1.1
    assert UNIFORM.count(123, DAY, 7) == 123
    assert replace(UNIFORM, months=(0, *(1,) * 11)).count(10**9, DAY, 7) == 0


def test_later_tracks_of_a_basket_are_drawn_of_those_that_are_left() -> None:
    """Each ordered triple of six tracks, against its chance of being drawn so."""
    shape = Profile("three", tracks=1.0, baskets=(0, 0, 1, 0, 0))
    weights = ranked(6, 1.0)
    expected = {}
    for one, two, three in permutations(weights, 3):
        left = sum(weights.values())
        expected[one, two, three] = (
            weights[one]
            / left
            * weights[two]
            / (left - weights[one])
            * weights[three]
            / (left - weights[one] - weights[two])
        )
    tracks = draw(shape, tracks=6).track_ids.reshape(-1, 3)
    seen = Counter(map(tuple, tracks.tolist()))
    assert chance(seen, expected) > 1e-4
    assert chance(seen, dict.fromkeys(expected, 1.0)) < 1e-12


weights = st.floats(0, 1e300)


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    some: dict[str, Any] = {
        name: draw(st.lists(weights, min_size=size, max_size=size).filter(any))
        for name, size in (("hours", 24), ("baskets", 5))
    }
    return Profile("any", **some, customers=draw(st.floats(0, 10)), tracks=draw(st.floats(0, 10)))


@given(profiles(), st.integers(1, 20), st.integers(1, 20), st.integers(0, 2**63 - 1))
def test_sales_of_any_shape_are_sales(
    profile: Profile, customers: int, tracks: int, seed: int
) -> None:
    shop = catalogue(customers, tracks)
    made = draw_batch(shop, seed, DAY, 0, 200, profile=profile)
    assert set(made.customer_ids.tolist()) <= set(range(1, customers + 1))
    assert 0 <= made.seconds.min() <= made.seconds.max() < 86_400
    sizes = np.diff(made.offsets)
    assert 1 <= sizes.min() <= sizes.max() <= min(5, tracks)
    baskets = np.split(made.track_ids, made.offsets[1:-1])
    assert all(len(set(basket.tolist())) == len(basket) for basket in baskets)
    # Any slice alone is that slice.
    part = draw_batch(shop, seed, DAY, 57, 111, profile=profile)
    assert part.track_ids.tolist() == made.track_ids[made.offsets[57] : made.offsets[111]].tolist()
    assert part.seconds.tolist() == made.seconds[57:111].tolist()
    assert part.customer_ids.tolist() == made.customer_ids[57:111].tolist()


def test_favourites_are_the_same_on_every_day_and_for_every_seed() -> None:
    shop = catalogue()
    best = [
        Counter(
            draw_batch(shop, seed, day, 0, 20_000, profile=REALISTIC).customer_ids.tolist()
        ).most_common(1)[0][0]
        for seed, day in ((1, DAY), (2, DAY), (1, date(2031, 5, 5)))
    ]
    assert len(set(best)) == 1
    assert best[0] == next(iter(ranked(59, 0.6)))


def test_a_seed_makes_the_same_shaped_sales_in_every_version() -> None:
    """If this fails, the sales of every seed have changed: say so in the changelog, loudly."""
    assert draw(REALISTIC, 1_000).digest == GOLDEN
    assert draw(replace(UNIFORM, name="other"), 1_000).digest == draw(UNIFORM, 1_000).digest


GOLDEN = "8d897fda66730481d1f3384de4a6ccf96f157935340175a59b192b5464310425"


def test_a_large_catalogue_is_weighed_once_and_not_for_each_slice() -> None:
    shop = catalogue(tracks=350_000)
    made = SalePlan(shop, 7, DAY, 0, 20_000, profile=REALISTIC).tally()
    assert made.count == 20_000


def test_chances_are_those_of_the_tables() -> None:
    """NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.4."""
    for chi_square, degrees, expected in (
        (3.841, 1, 0.05),
        (10.828, 1, 0.001),
        (5.991, 2, 0.05),
        (18.467, 4, 0.001),
        (23.685, 14, 0.05),
        (37.566, 20, 0.01),
        (49.728, 23, 0.001),
        (149.449, 100, 0.001),
    ):
        assert chance_of(chi_square, degrees) == pytest.approx(expected, rel=2e-3)
    assert chance_of(0, 5) == 1
    assert chance_of(1e6, 23) == 0


# What a file may say.

TOML = """
hours = [1, 1, 1, 1, 1, 1, 2, 3, 4, 4, 4, 5, 6, 5, 4, 4, 5, 6, 8, 9, 9, 7, 4, 2]
weekdays = [1, 1, 1, 1, 1.5, 2, 1.5]
growth = 0.15
since = 2025-01-01
tracks = 0.9
peaks = [{day = "11-27", factor = 3}, {day = "2026-06-05", factor = 1.5}]
"""


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_file_gives_what_differs_from_uniform(tmp_path: Path) -> None:
    profile = load_profile(write(tmp_path / "summer.toml", TOML))
    assert profile.weekdays == (1, 1, 1, 1, 1.5, 2, 1.5)
    assert profile.since == date(2025, 1, 1)
    assert profile.peaks == (Peak("11-27", 3), Peak("2026-06-05", 1.5))
    assert profile.months == UNIFORM.months
    assert (profile.customers, profile.tracks) == (0, 0.9)
    assert profile.factor(date(2026, 6, 5)) == pytest.approx(
        1.5 * 1.5 / (9 / 7) * 1.15 ** (520 / 365.2425)
    )


def test_a_file_is_known_by_what_is_in_it(tmp_path: Path) -> None:
    one = load_profile(write(tmp_path / "summer.toml", TOML))
    (tmp_path / "elsewhere").mkdir()
    moved = write(tmp_path / "elsewhere" / "summer.toml", "# The same in other words.\n" + TOML)
    assert load_profile(moved) == one
    assert load_profile(str(moved)) == one
    marked = write(tmp_path / "elsewhere" / "summer.toml", b"\xef\xbb\xbf" + TOML.encode())
    assert load_profile(marked) == one
    edited = load_profile(write(tmp_path / "summer.toml", TOML.replace("0.15", "0.16")))
    assert edited.name != one.name
    assert one.name.startswith("summer.toml ")
    long = load_profile(write(tmp_path / ("x" * 240 + ".toml"), TOML))
    assert len(long.name) <= 200
    assert load_profile(one) is one
    assert load_profile("realistic") is REALISTIC


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hours = [1, 2]", "hours must be a list of 24 numbers"),
        (f"hours = {[0] * 24}", "all 0"),
        (f"hours = {[-1] + [1] * 23}", "-1"),
        ("hours = 5", "hours must be a list"),
        (f"hours = {['x'] * 24}", "'x'"),
        ("weekdays = [1, 1, 1, 1, 1, 1, nan]", "nan"),
        ("weekdays = [1, 1, 1, 1, 1, 1, inf]", "inf"),
        ("months = [1, 1, 1, 1, 1, 1, true, 1, 1, 1, 1, 1]", "True"),
        ("baskets = [1, 1, 1, 1]", "5 numbers"),
        ('baskets = "11111"', "baskets must be a list"),
        ("growth = -1", "growth must be a number above -1"),
        ("growth = 101", "to 100"),
        ('since = "2026-02-30"', "since must be a day"),
        ("since = 2026-01-01T00:00:00", "since must be a day"),
        ("customers = -0.1", "customers must be a number from 0"),
        ("tracks = 11", "to 10"),
        ('tracks = "0.9"', "'0.9'"),
        ("peaks = 3", "peaks must be a list"),
        ("peaks = [3]", "a day and a factor"),
        ('peaks = [{day = "11-27"}]', "a day and a factor"),
        ('peaks = [{day = "11-31", factor = 2}]', "'11-31'"),
        ("peaks = [{day = 7, factor = 2}]", "MM-DD"),
        ('peaks = [{day = "11-27", factor = -2}]', "0 or more"),
        ('name = "mine"', "'name'"),
        ("hour = 3", "the keys are hours"),
        ("hours = [", "TOML"),
        (b"hours = \xff", "UTF-8"),
        (b"#" * 100_001, "100,000 bytes"),
        ("a = " + "[" * 20_000, "TOML"),
    ],
)
def test_what_cannot_be_a_profile_is_named(text: str | bytes, said: str, tmp_path: Path) -> None:
    file = write(tmp_path / "mine.toml", text)
    with pytest.raises(InvalidInput) as error:
        load_profile(file)
    assert said in str(error.value)
    assert "mine.toml" in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("name", ["realistc", "", "no/such.toml", ".", "x\0y", None, 3])
def test_what_is_no_profile_is_told(name: Any) -> None:
    with pytest.raises(InvalidInput, match="use uniform, realistic or a TOML file"):
        load_profile(name)


def test_a_profile_without_a_name_is_told_so() -> None:
    for name in ("", " "):
        with pytest.raises(InvalidInput, match="name or file is missing: use uniform"):
            load_profile(name)


@pytest.mark.parametrize(
    ("growth", "drawn"),
    [("0.004", "+0.4%"), ("0.15", "+15%"), ("-0.07", "-7%"), ("0.123456", "+12.3456%"),
     ("100", "+10000%"), ("0", "+0%")],
)  # fmt: skip
def test_growth_is_drawn_with_all_its_digits(
    command: Command, tmp_path: Path, growth: str, drawn: str
) -> None:
    file = write(tmp_path / "mine.toml", f"growth = {growth}")
    assert f"growth     {drawn} a year" in command("profile", "show", str(file)).stdout


def test_growth_has_an_end() -> None:
    fast = Profile("fast", growth=100)
    with pytest.raises(InvalidInput, match="less growth"):
        fast.factor(date(9999, 1, 1))
    assert fast.factor(date(1, 1, 1)) == 0


# In the shop.


def make(shop: ChinookDatabase, n: int = 2_000, **wanted: Any) -> Any:
    with Session(shop.engine) as session, session.begin():
        return generate_d1(session, n, **{"day": DAY, "seed": 7, "profile": "realistic", **wanted})


def judged(shop: ChinookDatabase, profile: Any = None, day: date | None = DAY) -> list[Check]:
    with shop.engine.connect() as connection:
        return verify_shape(connection, profile, day=day)


def failed(checks: list[Check]) -> list[str]:
    return [check.name.split(": ")[1] for check in checks if not check.passed]


@on_all_migrated
def test_verify_sees_the_shape_that_was_asked_for(shop: ChinookDatabase) -> None:
    made = make(shop)
    assert made.profile == "realistic"
    assert shop.value("SELECT profile FROM chinook_sim_run WHERE kind = 'generate'") == "realistic"
    assert failed(judged(shop)) == []
    assert failed(judged(shop, "realistic")) == []
    assert failed(judged(shop, day=None)) == []
    assert {"hours of the day", "tracks a sale"} <= set(failed(judged(shop, "uniform")))
    with shop.engine.connect() as connection:
        checks = {check.name: check for check in verify_day(connection, DAY, expect=2_000)}
    assert all(check.passed for check in checks.values())
    assert "realistic" in checks["spread over the hours"].figure


@on_all_migrated
def test_sales_of_no_shape_have_none(shop: ChinookDatabase) -> None:
    make(shop, profile="uniform")
    assert failed(judged(shop)) == []
    steep = failed(judged(shop, STEEP))
    assert {"hours of the day", "tracks a sale", "customers", "tracks"} == set(steep)


@on_each_shape
def test_a_shape_can_be_judged_through_whatever_happens(shop: ChinookDatabase) -> None:
    # Long before many sign up and change who has which rank.
    make(shop, profile=STEEP, seed=6, updates=50)
    shop.execute("UPDATE chinook_sim_run SET created_at = '2026-02-01 00:00:00'")
    make(shop, profile=STEEP, new_customers=500, updates=300, cancellations=200, late=0.2)
    second = make(shop, profile=STEEP, seed=8, moves=3, price_changes=3, updates=100)
    third = make(shop, profile="uniform", day=DAY + timedelta(days=1), updates=50)
    # Of both days' runs those that had the profile.
    assert failed(judged(shop, STEEP, None)) == []
    assert failed(judged(shop, STEEP)) == []
    assert failed(judged(shop, day=DAY + timedelta(days=1))) == []
    with pytest.raises(InvalidInput, match="'steep'; give its file with --profile"):
        judged(shop)
    with Session(shop.engine) as session, session.begin():
        undo(session, third.run_id)
        undo(session, second.run_id)
    assert failed(judged(shop, STEEP)) == []


@on_each_shape
def test_a_day_is_made_once_of_one_shape(shop: ChinookDatabase) -> None:
    make(shop, once=True)
    assert make(shop, once=True).existed
    assert make(shop, once=True).profile == "realistic"
    with pytest.raises(KeyTaken, match="profile realistic, not uniform"):
        make(shop, once=True, profile="uniform")


@on_each_shape
def test_one_by_one_and_in_bulk_have_the_same_shape(shop: ChinookDatabase) -> None:
    def content(first: int) -> list[Any]:
        return shop.rows(
            "SELECT i.[InvoiceDate], i.[CustomerId], l.[TrackId] FROM [Invoice] i JOIN "
            f"[InvoiceLine] l ON l.[InvoiceId] = i.[InvoiceId] WHERE i.[InvoiceId] >= {first} "
            "ORDER BY l.[InvoiceLineId]"
        )

    with Session(shop.engine) as session:
        first = make(shop, 0).count + shop.value("SELECT max([InvoiceId]) FROM [Invoice]") + 1
        factory = SaleFactory(session, 7, profile=STEEP)
        for _ in range(5):
            factory.create(DAY)
        factory.create_batch(5, DAY)
        session.commit()
    one_by_one = content(first)
    second = make(shop, 10, profile=STEEP)
    assert content(second.invoice_ids[0]) == one_by_one
    options = BatchOptions(day=DAY, seed=7, profile=STEEP)
    with Session(shop.engine) as session:
        assert plan_batch(session, 10, options).digest == second.digest


@on_all_migrated
def test_a_history_has_the_shape_of_its_years(shop: ChinookDatabase) -> None:
    shape = Profile(
        "peaked",
        weekdays=(1, 1, 1, 1, 1, 6, 6),
        months=(1, 1, 1, 1, 1, 1, 1, 1, 1, 4, 1, 2),
        growth=9,
        peaks=(Peak("11-15", 20),),
    )
    start, end = date(2025, 10, 1), date(2025, 12, 31)
    days = list(backfill(shop.engine, start, end, 40, seed=7, profile=shape))
    assert {day.profile for day in days} == {"peaked"}
    assert [day.count for day in days] == [shape.count(40, day.day, 7) for day in days]
    again = list(backfill(shop.engine, start, end, 40, seed=7, profile=shape))
    assert all(day.existed for day in again)
    with Session(shop.engine) as session, session.begin():
        generate_d1(session, 0, day=date(2025, 10, 31), updates=99, cancellations=999, seed=7)
    assert failed(judged(shop, shape, None)) == []
    assert judged(shop, shape, None)[-1].name == "peaked: sales of each day"
    assert judged(shop, shape, None)[-1].figure == "92 days, 0 differ"
    for curve in CALENDAR:
        flat = replace(shape, name="flat", **{curve: getattr(UNIFORM, curve)})
        assert failed(judged(shop, flat, None)) == ["sales of each day"]


ORDINARY = Profile(
    "ordinary",
    weekdays=(1, 1, 1, 1, 1.1, 1.2, 1.1),
    months=(*(1,) * 10, 1.2, 1.3),
    growth=0.15,
    since=date(2025, 1, 1),
    peaks=(Peak("11-27", 3), Peak("2025-12-05", 1.5)),
)


@on_both_databases
@pytest.mark.parametrize("curve", CALENDAR)
def test_what_is_missing_of_an_ordinary_calendar_is_missed(
    shop: ChinookDatabase, curve: str
) -> None:
    """A few sales more on a Saturday, a sixth more a year: as little as that."""
    flat = replace(ORDINARY, name="flat", **{curve: getattr(UNIFORM, curve)})
    start, end = date(2025, 11, 20), date(2025, 12, 31)
    list(backfill(shop.engine, start, end, 60, seed=9, profile=flat))
    assert failed(judged(shop, flat, None)) == []
    assert failed(judged(shop, ORDINARY, None)) == ["sales of each day"]


@on_each_shape
def test_days_that_are_all_alike_lack_the_curves(shop: ChinookDatabase) -> None:
    list(backfill(shop.engine, date(2025, 11, 27), date(2025, 12, 2), 60, seed=9))
    for curve in CALENDAR:
        only = replace(
            UNIFORM, name=curve, since=ORDINARY.since, **{curve: getattr(ORDINARY, curve)}
        )
        assert failed(judged(shop, only, None)) == ["sales of each day"]
    assert failed(judged(shop, replace(UNIFORM, name="as they are"), None)) == []


@on_each_shape
def test_sales_that_somebody_deleted_are_missed(shop: ChinookDatabase) -> None:
    start, end = date(2025, 11, 20), date(2025, 12, 1)
    days = list(backfill(shop.engine, start, end, 60, seed=9, profile=ORDINARY))
    with Session(shop.engine) as session, session.begin():
        generate_d1(session, 5, day=end, cancellations=400, updates=20, late=1, seed=7)
    assert failed(judged(shop, ORDINARY, None)) == []
    (peak,) = (day for day in days if day.day == date(2025, 11, 27))
    of_it = f"BETWEEN {peak.invoice_ids[0]} AND {peak.invoice_ids[-1]}"
    gone = shop.rows(f"SELECT [InvoiceId] FROM [Invoice] WHERE [InvoiceId] {of_it}")[-2:]
    for table in ("InvoiceLine", "Invoice"):
        shop.execute(*(f"DELETE FROM [{table}] WHERE [InvoiceId] = {id_}" for (id_,) in gone))
    (missed,) = (check for check in judged(shop, ORDINARY, None) if not check.passed)
    assert f"12 days, 1 differs: 2025-11-27 has {peak.count - 2}, not " in missed.figure


@on_each_shape
def test_a_day_of_a_backfill_without_seasons_is_the_one_of_once(shop: ChinookDatabase) -> None:
    list(
        backfill(
            shop.engine,
            DAY,
            DAY,
            9,
            profile=replace(STEEP, weekdays=(1,) * 7, months=(1,) * 12, growth=0, peaks=()),
        )
    )
    assert make(shop, 9, once=True, seed=None, profile=STEEP).existed


@on_each_shape_unmigrated
def test_without_a_ledger_the_shape_must_be_named(shop: ChinookDatabase) -> None:
    make(shop, profile="uniform")
    with pytest.raises(InvalidInput, match="name it with --profile"):
        judged(shop)
    assert failed(judged(shop, "uniform")) == []
    assert "tracks a sale" in failed(judged(shop, "realistic"))
    with pytest.raises(InvalidInput, match="give a --day"):
        judged(shop, "uniform", None)


@on_each_shape
def test_too_few_sales_are_not_judged(shop: ChinookDatabase) -> None:
    make(shop, 10)
    checks = judged(shop)
    assert failed(checks) == []
    assert all("too few to judge" in check.figure for check in checks)
    assert "no days of a backfill" in judged(shop, day=None)[-1].figure


# By command.


@on_both_databases
def test_the_command_gives_sales_a_shape_and_judges_it(
    shop: ChinookDatabase, command: Command, tmp_path: Path
) -> None:
    place = {"DATABASE_URL": shop.text}
    file = str(write(tmp_path / "summer.toml", TOML + "baskets = [9, 1, 1, 1, 0]"))
    day = ("--day", str(DAY))
    made = command("generate", "1000", *day, "--profile", file, **place)
    assert made.returncode == 0, made.stderr
    assert "  profile  summer.toml " in made.stdout
    assert command("verify", *day, "--shape", "--profile", file, **place).returncode == 0
    unnamed = command("verify", *day, "--shape", **place)
    assert unnamed.returncode == 2
    assert "give its file with --profile" in unnamed.stderr
    other = command("verify", *day, "--shape", "--profile", "uniform", "--json", **place)
    assert other.returncode == 1
    wrong = [it["name"] for it in json.loads(other.stdout)["checks"] if not it["passed"]]
    assert "uniform: tracks a sale" in wrong
    filled = command(
        "backfill",
        "2026-03-01",
        "2026-03-07",
        "--per-day",
        "9",
        "--profile",
        file,
        "--json",
        **place,
    )
    assert json.loads(filled.stdout)["profile"].startswith("summer.toml ")
    for wrong_use in (
        ("generate", "1"),
        ("backfill", "2026-03-01", "2026-03-07", "--per-day", "9"),
    ):
        refused = command(*wrong_use, "--profile", "summer", **place)
        assert refused.returncode == 2
        assert "unknown profile 'summer'" in refused.stderr


def test_the_command_draws_a_profile(command: Command, process: Command, tmp_path: Path) -> None:
    shown = command("profile", "show", "realistic")
    assert shown.returncode == 0, shown.stderr
    assert "hours      ▂▁▁▁▁▁▂▃" in shown.stdout
    assert "11-27 x 2.5" in shown.stdout
    plain = process("profile", "show", "realistic", PYTHONUTF8="0", PYTHONIOENCODING="ascii")
    assert plain.stdout.isascii()
    assert "#####" in plain.stdout
    told = json.loads(command("profile", "show", "realistic", "--json").stdout)
    assert told["peaks"][0] == {"day": "11-26", "factor": 2.0}
    assert sum(told["hours"]) == pytest.approx(1, abs=1e-3)
    file = write(tmp_path / "mine.toml", "tracks = 1")
    assert "the first tenth" in command("profile", "show", str(file)).stdout
    assert command("profile", "show", "unreal").returncode == 2


def test_cells_are_put_together_whatever_was_seen_in_them() -> None:
    sums = {}
    for seen in ([1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1], [1, 6, 2, 5, 3, 4]):
        cells = [(10.0, float(10**6 * place + it)) for place, it in enumerate(seen)]
        # Which places went together shows in the millions.
        sums[tuple(seen)] = sorted(int(it // 10**6) for _, it in merged_cells(cells))
    emptiest_first = [(10.0, float(it)) for it in (3, 20, 4, 19, 5, 18)]
    assert len(set(map(tuple, sums.values()))) == 1
    assert (20.0, 7.0) not in merged_cells(emptiest_first)
