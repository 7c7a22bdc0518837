"""The draws: what must hold for any seed, day and catalogue."""

from __future__ import annotations

import math
from collections import Counter
from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chinook_sim.sales.batch import SaleBatch, SalePlan, draw_batch
from chinook_sim.sales.catalogue import BillingAddress, Catalogue
from chinook_sim.sales.id_ranges import IdRanges
from chinook_sim.sampling.draws import SEED_LIMIT, sample_sales

DAY = date(2026, 1, 31)

seeds = st.integers(0, SEED_LIMIT - 1)
days = st.dates()
sizes = st.one_of(st.integers(1, 8), st.integers(1, 5_000), st.just(2**31 - 1))


def catalogue(customers: int = 59, tracks: int = 3_503) -> Catalogue:
    """A catalogue with gaps in its ids, and 1.99 for every sixteenth track."""
    ids = np.arange(tracks, dtype=np.int64)
    return Catalogue(
        customer_ids=np.arange(customers, dtype=np.int64) * 2 + 1,
        billing=[
            BillingAddress(f"{i} High St", "York", None, "UK", None) for i in range(customers)
        ],
        track_ids=ids * 3 + 1,
        prices=np.where(ids % 16 == 0, 199, 99).astype(np.int64),
    )


@given(seeds, days, st.integers(0, 10**12), sizes, sizes)
def test_every_sale_is_made_of_what_there_is(
    seed: int, day: date, start: int, customers: int, tracks: int
) -> None:
    sales = sample_sales(seed, day, start, start + 50, customers=customers, tracks=tracks)
    assert len(sales.customers) == len(sales.seconds) == len(sales.sizes) == 50
    assert sales.customers.min() >= 0
    assert sales.customers.max() < customers
    assert sales.seconds.min() >= 0
    assert sales.seconds.max() < 86_400
    assert sales.sizes.min() >= 1
    assert sales.sizes.max() <= min(5, tracks)
    assert len(sales.tracks) == sales.sizes.sum()
    assert sales.tracks.min() >= 0
    assert sales.tracks.max() < tracks


@given(seeds, days, st.integers(1, 8))
def test_no_sale_has_a_track_twice(seed: int, day: date, tracks: int) -> None:
    batch = draw_batch(catalogue(tracks=tracks), seed, day, 0, 200)
    for first, last in zip(batch.offsets[:-1], batch.offsets[1:], strict=True):
        basket = batch.tracks[first:last].tolist()
        assert len(set(basket)) == len(basket)


def assert_same(one: SaleBatch, other: SaleBatch) -> None:
    for column in ("customers", "seconds", "offsets", "tracks", "totals"):
        np.testing.assert_array_equal(getattr(one, column), getattr(other, column))
    assert one.digest == other.digest


@given(seeds, days, sizes, st.integers(0, 300), st.integers(0, 300))
def test_a_slice_equals_the_same_part_of_the_day(
    seed: int, day: date, tracks: int, one: int, other: int
) -> None:
    shop = catalogue(tracks=min(tracks, 5_000))
    start, stop = sorted((one, other))
    whole = draw_batch(shop, seed, day, 0, 300)
    assert_same(whole.slice(start, stop), draw_batch(shop, seed, day, start, stop))


@given(st.integers(0, 40_000), st.integers(0, 100))
def test_a_plan_makes_the_same_sales_however_it_is_cut(count: int, start: int) -> None:
    plan = SalePlan(catalogue(), 7, DAY, start, count)
    whole = draw_batch(plan.catalogue, 7, DAY, start, start + count)
    tally = plan.tally()
    assert tally.digest == whole.digest
    assert (tally.count, tally.lines, tally.revenue) == (count, whole.lines, whole.revenue)
    assert tally.hours.sum() == count


def test_totals_are_the_sum_of_the_prices() -> None:
    batch = draw_batch(catalogue(), 7, DAY, 0, 1_000)
    for j in range(batch.count):
        basket = batch.prices[batch.offsets[j] : batch.offsets[j + 1]]
        assert batch.totals[j] == basket.sum()
    assert batch.revenue.as_tuple().exponent == -2


def test_other_seeds_and_other_days_make_other_sales() -> None:
    shop = catalogue()
    digests = {
        draw_batch(shop, seed, day, 0, 10).digest
        for seed in (0, 1, 7, SEED_LIMIT - 1)
        for day in (DAY, date(2026, 2, 1), date(1, 1, 1))
    }
    assert len(digests) == 12


def test_a_seed_makes_the_same_sales_in_every_version() -> None:
    """If this fails, the sales of every seed have changed: say so in the changelog, loudly."""
    batch = draw_batch(catalogue(), 7, DAY, 0, 1_000)
    assert batch.customer_ids[:5].tolist() == GOLDEN_CUSTOMERS
    assert batch.digest == GOLDEN_DIGEST


GOLDEN_CUSTOMERS = [41, 83, 57, 117, 111]
GOLDEN_DIGEST = "d4fbd007bbd1075d53e8b607d4f7396785ab03472ea2df88e5c25c388ea3f8f5"


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, ...]:
    """Philox4x64-10 by its definition (Salmon et al., SC 2011), in whole numbers."""
    mask = 2**64 - 1
    for turn in range(10):
        left, right = 0xD2E7470EE14C6C93 * counter[0], 0xCA5A826395121157 * counter[2]
        bumped = [
            (key[0] + turn * 0x9E3779B97F4A7C15) & mask,
            (key[1] + turn * 0xBB67AE8584CAA73B) & mask,
        ]
        counter = (
            (right >> 64) ^ counter[1] ^ bumped[0],
            right & mask,
            (left >> 64) ^ counter[3] ^ bumped[1],
            left & mask,
        )
    return counter


@pytest.mark.parametrize("index", [0, 1, 12_345])
def test_sale_i_is_philox_at_counter_i(index: int) -> None:
    sale = sample_sales(7, DAY, index, index + 1, customers=59, tracks=3_503)
    words = philox((index, 0, 0, 0), (7, DAY.toordinal()))
    more = philox((index, 1, 0, 0), (7, DAY.toordinal()))

    def below(word: int, limit: int) -> int:
        return int((word >> 11) * 2.0**-53 * limit)

    left = list(range(3_503))
    basket = [left.pop(below(word, len(left))) for word in (words[3], *more)]
    assert sale.customers.tolist() == [below(words[0], 59)]
    assert sale.seconds.tolist() == [below(words[1], 86_400)]
    assert sale.sizes.tolist() == [below(words[2], 5) + 1]
    assert sale.tracks.tolist() == basket[: sale.sizes[0]]


def chi_square_is_ordinary(observed: Counter[int], cells: int) -> bool:
    """Tell whether counts are within six standard deviations of uniform, to either side."""
    expected = observed.total() / cells
    chi_square = sum((observed[cell] - expected) ** 2 / expected for cell in range(cells))
    return abs(chi_square - (cells - 1)) < 6 * math.sqrt(2 * (cells - 1))


SALES = sample_sales(2026, DAY, 0, 200_000, customers=59, tracks=100)


@pytest.mark.parametrize(
    ("observed", "cells"),
    [
        pytest.param(SALES.customers, 59, id="customers"),
        pytest.param(SALES.seconds // 3600, 24, id="hours"),
        pytest.param(SALES.seconds % 60, 60, id="seconds of the minute"),
        pytest.param(SALES.sizes - 1, 5, id="basket sizes"),
        pytest.param(SALES.tracks, 100, id="tracks"),
    ],
)
def test_choices_are_uniform(
    observed: np.ndarray[tuple[int], np.dtype[np.int64]], cells: int
) -> None:
    assert chi_square_is_ordinary(Counter(observed.tolist()), cells)


def test_all_baskets_of_a_small_shop_are_equally_likely() -> None:
    sales = sample_sales(2026, DAY, 0, 200_000, customers=1, tracks=3)
    offsets = np.concatenate([[0], np.cumsum(sales.sizes)])
    pairs = Counter(
        tuple(sales.tracks[offsets[j] : offsets[j + 1]].tolist())
        for j in np.flatnonzero(sales.sizes == 2)
    )
    orders = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    assert set(pairs) == set(orders)
    assert chi_square_is_ordinary(Counter({i: pairs[order] for i, order in enumerate(orders)}), 6)


def test_a_catalogue_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        catalogue().prices[0] = 1


@given(st.sets(st.integers(1, 2**63 - 1), max_size=5))
def test_ids_of_any_size_come_back(wanted: set[int]) -> None:
    assert IdRanges.of(sorted(wanted)).array().tolist() == sorted(wanted)


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 20)), max_size=6), st.data())
def test_id_ranges_behave_like_a_list(gaps: list[tuple[int, int]], data: st.DataObject) -> None:
    ranges, last = [], 0
    for gap, length in gaps:
        ranges.append(range(last + gap, last + gap + length))
        last = ranges[-1][-1]
    ids, expected = IdRanges(ranges), [number for part in ranges for number in part]
    assert list(ids) == expected
    assert len(ids) == len(expected)
    assert ids.array().tolist() == expected
    start = data.draw(st.integers(-5, len(expected) + 5))
    stop = data.draw(st.integers(-5, len(expected) + 5))
    assert list(ids[start:stop]) == expected[start:stop]
    for index in range(-len(expected), len(expected)):
        assert ids[index] == expected[index]
    with pytest.raises(IndexError):
        ids[len(expected)]
    assert last + 1 not in ids
