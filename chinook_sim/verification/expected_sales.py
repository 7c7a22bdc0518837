"""How many sales a profile declares for a day."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from chinook_sim.sampling.profile import Profile

__all__ = ["factor_of", "scrambled"]

YEAR_DAYS = 365.2425


def factor_of(profile: Profile, day: date) -> float:
    """Return how many times as many sales a day has as an ordinary one."""
    weight = share_of(profile.weekdays, day.weekday()) * share_of(profile.months, day.month - 1)
    weight *= math.prod(peaks_of(profile, day))
    growth = math.log1p(profile.growth) * (day - profile.since).days / YEAR_DAYS
    # No shop grew as much as a float can hold.
    return weight * math.exp(min(growth, 700))


def share_of(weights: Sequence[float], place: int) -> float:
    """Return a weight where they are 1 on average; the sum of very large ones would be infinite."""
    scaled = [weight / max(weights) for weight in weights]
    return scaled[place] * len(scaled) / math.fsum(scaled)


def peaks_of(profile: Profile, day: date) -> list[float]:
    return [peak.factor for peak in profile.peaks if day.isoformat().endswith(peak.day)]


def scrambled(id_: int) -> int:
    """Return what customers and tracks are ranked by: SplitMix64 of the id."""
    mask = 2**64 - 1
    word = (id_ + 0x9E3779B97F4A7C15) & mask
    word = ((word ^ word >> 30) * 0xBF58476D1CE4E5B9) & mask
    word = ((word ^ word >> 27) * 0x94D049BB133111EB) & mask
    return word ^ word >> 31
