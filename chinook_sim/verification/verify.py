"""All the checks that `chinook-sim verify` makes, in one call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chinook_sim.database.clock import d1
from chinook_sim.database.connections import (
    check_connection,
    refuse_autocommit,
    refuse_translation,
)
from chinook_sim.dates import check_day, check_timezone
from chinook_sim.errors import InvalidInput
from chinook_sim.integers import check_integer
from chinook_sim.sampling.profile_file import load_profile
from chinook_sim.verification.checks import verify_all, verify_day
from chinook_sim.verification.distribution import verify_shape
from chinook_sim.verification.query import take_snapshot

if TYPE_CHECKING:
    import os
    from datetime import date

    from sqlalchemy import Connection

    from chinook_sim.sampling.profile import Profile
    from chinook_sim.verification.query import Check

__all__ = ["VerifyResult", "verify"]


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What the checks found.

    Attributes:
        day: the day whose sales were checked; None for all days.
        checks: the checks, in the order in which the command prints them.
    """

    day: date | None
    checks: tuple[Check, ...]

    def __repr__(self) -> str:
        """Show a line, and not the checks; those that failed are in `failed`."""
        checks = f"{len(self.checks)} check{'' if len(self.checks) == 1 else 's'}"
        return f"<VerifyResult {self.day or 'all days'}: {checks}, {len(self.failed)} failed>"

    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return not self.failed

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if not check.passed)


def verify(
    connection: Connection,
    *,
    day: date | None = None,
    timezone: str | None = None,
    all_days: bool = False,
    expect: int | None = None,
    shape: bool = False,
    profile: str | os.PathLike[str] | Profile | None = None,
) -> VerifyResult:
    """Check sales with SQL that shares no code with what makes them, as `chinook-sim verify` does.

    A check that fails is a result, not an error. Nothing is written::

        result = verify(session.connection(), day=batch.day, expect=batch.count)
        assert result.ok, result.failed

    Args:
        connection: on a Chinook. If it is in no transaction, the checks run in one of their own, so
            that all of them see the same snapshot. If it is in one, its isolation level decides:
            REPEATABLE READ does the same on PostgreSQL.
        day: the day; D-1 by the database's clock if None.
        timezone: the time zone of D-1, an IANA name such as `Europe/Paris`; not used with `day` or
            `all_days`.
        all_days: check the sales of all days and all runs instead.
        expect: number of sales that there must be; at least one if None.
        shape: also check the sales against the shape of their profile.
        profile: a profile to check against, as for `generate_d1`; needs `shape`. If None, each run
            is checked against its own, as the ledger has it.

    Raises:
        InvalidInput: an argument has a wrong value, or two of them exclude each other; it is no
            connection, or one of PostgreSQL in AUTOCOMMIT mode; or the ledger has no profile.
        NotAChinook: the database holds no Chinook.
        DatabaseUnavailable: privileges are missing, or row-level security may hide rows.
        sqlalchemy.exc.DBAPIError: the database refused a query, or the connection was lost.
    """
    check_connection(connection)
    refuse_autocommit(connection)
    refuse_translation(connection)
    if all_days and day is not None:
        raise InvalidInput("day and all_days exclude each other; pass one of them")
    if expect is not None:
        expect = check_integer("expect", expect, 0)
    if profile is not None and not shape:
        raise InvalidInput("profile needs shape=True")
    declared = None if profile is None else load_profile(profile)
    if day is not None:
        check_day(day)
    if timezone is not None:
        check_timezone(timezone)
    if connection.in_transaction():
        return _verify(connection, day, timezone, all_days, expect, shape, declared)
    transaction = connection.begin()
    try:
        take_snapshot(connection)
        return _verify(connection, day, timezone, all_days, expect, shape, declared)
    finally:
        transaction.rollback()


def _verify(
    connection: Connection,
    day: date | None,
    timezone: str | None,
    all_days: bool,
    expect: int | None,
    shape: bool,
    declared: Profile | None,
) -> VerifyResult:
    if all_days:
        checks = verify_all(connection, expect=expect)
    else:
        day = day or d1(connection, timezone)
        checks = verify_day(connection, day, expect=expect)
    if shape:
        checks += verify_shape(connection, declared, day=day)
    return VerifyResult(day, tuple(checks))
