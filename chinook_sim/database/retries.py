"""How often a transaction is tried, and how long to wait before the next attempt."""

from __future__ import annotations

import random

__all__ = ["ATTEMPTS", "backoff"]

ATTEMPTS = 4
"""How often a transaction is tried that others conflict with."""

LONGEST_FIRST_PAUSE = 0.2
"""Seconds."""


def backoff(attempt: int) -> float:
    """Return how many seconds to wait after a failed attempt.

    Args:
        attempt: number of the failed attempt; the first is 1.

    Returns:
        A random number from 0 to 0.2 seconds, doubled for each further attempt.
    """
    # The whole pause is random, so that transactions that conflicted do not meet again.
    return random.uniform(0, LONGEST_FIRST_PAUSE * 2 ** (attempt - 1))  # noqa: S311
