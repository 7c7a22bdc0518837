"""The weights of the customers and tracks of a catalogue, as a profile determines them.

Weights become integers of 32 bits whose running sums stay below 2**53. So choosing by them is
exact, and does not depend on the last bit of a power, which processors compute differently.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from chinook_sim.sampling.draws import MAX_BASKET, CumulativeWeights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from chinook_sim.sales.catalogue import Catalogue
    from chinook_sim.sampling.profile import Profile

__all__ = ["cumulative_weights_of"]

FINEST = 2**32
"""The largest weight."""

LARGEST_SUM = 2**52
"""The limit of a running sum of weights."""


# A plan makes its sales three times over, and a backfill has many plans of one catalogue.
@lru_cache(maxsize=2)
def cumulative_weights_of(catalogue: Catalogue, profile: Profile) -> CumulativeWeights:
    """Return a profile's cumulative weights for the customers and tracks of a catalogue."""
    return CumulativeWeights(
        customers=_popularity(catalogue.customer_ids, profile.customers),
        hours=_running(profile.hours),
        baskets=_baskets(profile.baskets, min(MAX_BASKET, len(catalogue.track_ids))),
        tracks=_popularity(catalogue.track_ids, profile.tracks),
    )


def _baskets(weights: Sequence[float], largest: int) -> NDArray[np.int64] | None:
    """Return the cumulative weights of the basket sizes that a shop has tracks for."""
    possible = weights[:largest]
    # Where it has too few for any basket wanted, they are as large as they can be.
    return _running(possible if any(possible) else [0.0] * (largest - 1) + [1.0])


def _running(weights: Sequence[float]) -> NDArray[np.int64] | None:
    """Return the running sum of a few weights; None where all are alike."""
    if len(set(weights)) == 1:
        return None
    return np.cumsum([round(weight / max(weights) * FINEST) for weight in weights], dtype=np.int64)


def _popularity(ids: NDArray[np.int64], exponent: float) -> NDArray[np.int64] | None:
    """Return the running sum of Zipf's weights; who has which rank follows from the ids alone."""
    if not exponent:
        return None
    finest = min(FINEST, LARGEST_SUM // len(ids))
    by_rank = np.rint(np.arange(1, len(ids) + 1, dtype=np.float64) ** -exponent * finest)
    weights = np.empty(len(ids), dtype=np.int64)
    # Nobody is left out, however steep: without a weight there would be no end of the last basket.
    weights[np.argsort(_mixed(ids), kind="stable")] = np.maximum(by_rank, 1).astype(np.int64)
    return np.cumsum(weights)


def _mixed(ids: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return numbers that look like chance and are always the same: SplitMix64 of each id.

    So the favourites are the same on every day and for every seed, and not simply the first.
    See Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    mixed = ids.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
