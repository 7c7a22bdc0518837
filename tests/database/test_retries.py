"""The pauses between the attempts of a transaction."""

from __future__ import annotations

import pytest

from chinook_sim.database.retries import backoff


@pytest.mark.parametrize(("attempt", "longest"), [(1, 0.2), (2, 0.4), (3, 0.8)])
def test_a_pause_is_random_and_up_to_twice_as_long_each_time(attempt: int, longest: float) -> None:
    pauses = [backoff(attempt) for _ in range(1_000)]
    assert 0 <= min(pauses) < longest / 4
    assert longest * 3 / 4 < max(pauses) <= longest
    assert len(set(pauses)) > 900
