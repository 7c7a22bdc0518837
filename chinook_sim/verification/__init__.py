"""Checks on the sales in a database, in SQL of their own.

Nothing here uses what makes the sales: the checks read the tables as a user would, and so would
find what sampling, the writers and the factory all got wrong in the same way. Nothing is printed.
"""

from __future__ import annotations

from chinook_sim.verification.checks import verify_all, verify_day
from chinook_sim.verification.query import Check, take_snapshot

__all__ = ["Check", "take_snapshot", "verify_all", "verify_day"]
