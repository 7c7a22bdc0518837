"""The distributions of a profile: each shows in the sales, and draws are exact in the mean."""

from __future__ import annotations

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

from chinook_sim import Profile
from chinook_sim.sales.batch import SalePlan, draw_batch
from chinook_sim.sales.catalogue import BillingAddress, Catalogue
from chinook_sim.sampling.profile import REALISTIC, UNIFORM
from chinook_sim.verification.statistics import chi2_survival
from support.profiles import CALENDAR, STEEP, sums

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chinook_sim.sales.batch import SaleBatch

DAY = date(2026, 1, 31)


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
    return chi2_survival(chi_square, len(cells) - 1)


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


DISTRIBUTIONS: dict[str, tuple[Callable[[SaleBatch], Counter[int]], Callable[[Profile], Any]]] = {
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
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_each_distribution_of_a_day_shows_in_the_sales(distribution: str, profile: Profile) -> None:
    count, declared = DISTRIBUTIONS[distribution]
    assert chance(count(draw(profile)), declared(profile)) > 1e-4
    # Without this distribution, and with all the others, it does not.
    flat = replace(profile, **{distribution: getattr(UNIFORM, distribution)})
    assert chance(count(draw(flat)), declared(profile)) < 1e-12
    assert chance(count(draw(flat)), declared(UNIFORM)) > 1e-4


def by_day(profile: Profile) -> dict[date, int]:
    """Sales of the days of four years."""
    days = (date(2024, 1, 1) + timedelta(days=number) for number in range(4 * 365 + 1))
    return {day: profile.count(100, day, seed=7) for day in days}


@pytest.mark.parametrize("profile", [REALISTIC, STEEP], ids=lambda profile: profile.name)
@pytest.mark.parametrize("part", CALENDAR)
def test_each_part_of_the_calendar_shows_in_the_count(part: str, profile: Profile) -> None:
    cell, weight = CALENDAR[part]
    flat = replace(profile, **{part: getattr(UNIFORM, part)})
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
        assert chi2_survival(chi_square, degrees) == pytest.approx(expected, rel=2e-3)
    assert chi2_survival(0, 5) == 1
    assert chi2_survival(1e6, 23) == 0
