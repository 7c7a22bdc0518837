"""What a batch can be asked for, checked before anything is tried."""

from __future__ import annotations

import re
import secrets
from dataclasses import asdict, dataclass
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from chinook_sim.database.clock import d1
from chinook_sim.dates import check_day, check_timezone
from chinook_sim.errors import InvalidInput
from chinook_sim.integers import check_integer
from chinook_sim.kinds import NO_CHANGES, ChangeCounts, RunKind
from chinook_sim.ledger.request import ONCE, RunRequest, once_key
from chinook_sim.sales.batch import NO_BACKDATING, BackdatingRule
from chinook_sim.sampling.draws import SEED_LIMIT
from chinook_sim.sampling.profile import UNIFORM, Profile
from chinook_sim.sampling.selections import LATE_PARTS

if TYPE_CHECKING:
    from datetime import date

    from sqlalchemy import Connection

    from chinook_sim.database.schema import Chinook

__all__ = [
    "COUNT_LIMIT",
    "DAYS_BACK_LIMIT",
    "BatchOptions",
    "backdating_rule",
    "check_count",
    "check_key",
    "check_seed",
    "check_share",
    "draw_seed",
]

COUNT_LIMIT = 2**31 - 1
"""The most sales of a batch: as many as there are ids."""

DAYS_BACK_LIMIT = 10_000
"""The most days by which a sale can be late."""

KEY_LENGTH = 200
"""The most characters of a key: as many as the ledger's column holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOptions:
    """What a batch is asked for, besides its number of sales.

    Attributes:
        kind: the kind of its run.
        day: the day; None for yesterday.
        timezone: an IANA name, to take yesterday from the clock there.
        seed: 0 to 2**63 - 1; None to draw one.
        once: whether the day's batch exists once, however often it is asked for.
        key: the same for a key of the caller's.
        start: index of the first sale within the day.
        changes: how many changes of earlier sales, customers and prices.
        backdating: which sales are late.
        profile: the distribution of the sales.
        per_day: the average that the number of sales follows from, where days differ.

    Raises:
        InvalidInput: a value is of the wrong type or out of range, `once` and `key` are both
            given, or sales could be dated before the first day that there is.
    """

    kind: RunKind = RunKind.GENERATE
    day: date | None = None
    timezone: str | None = None
    seed: int | None = None
    once: bool = False
    key: str | None = None
    start: int = 0
    changes: ChangeCounts = NO_CHANGES
    backdating: BackdatingRule = NO_BACKDATING
    profile: Profile = UNIFORM
    per_day: int | None = None

    def __post_init__(self) -> None:
        for name, kind in _TYPES.items():
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise InvalidInput(f"{name} must be {kind.__name__}, got {value!r:.60}")
        if self.once and self.key is not None:
            raise InvalidInput("once and key cannot be combined; give one of them")
        checked: dict[str, object] = {
            "changes": ChangeCounts(
                **{
                    name: _count(f"the number of {name.replace('_', ' ')}", given)
                    for name, given in asdict(self.changes).items()
                }
            ),
            "start": _count("the index of the first sale", self.start),
        }
        if self.per_day is not None:
            checked["per_day"] = _count("the number of sales a day", self.per_day)
        if self.day is not None:
            checked["day"] = check_day(self.day)
        if self.timezone is not None:
            checked["timezone"] = check_timezone(self.timezone)
        if self.seed is not None:
            checked["seed"] = check_seed(self.seed)
        if self.key is not None:
            checked["key"] = check_key(self.key)
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        if self.day is not None:
            self._check_days_back(self.day)

    def resolve(self, n: int, connection: Connection, chinook: Chinook) -> RunRequest:
        """Return the request for n sales, with the day that only the database knows.

        Raises:
            InvalidInput: sales could be dated before the first day that there is.
        """
        if self.day is not None:
            day = self.day
        elif self.timezone is not None:
            day = d1(connection, self.timezone)
        else:
            # As `d1` returns it, without another round trip.
            day = chinook.today - timedelta(days=1)
        if self.day is None:
            self._check_days_back(day)
        return RunRequest(
            kind=self.kind,
            day=day,
            count=n,
            key=once_key(day) if self.once else self.key,
            seed=self.seed,
            timezone=self.timezone,
            profile=self.profile.name,
            parameters=self._parameters(),
        )

    def _check_days_back(self, day: date) -> None:
        """Refuse sales that could be dated before the first day that there is."""
        if self.backdating.parts and day.toordinal() <= self.backdating.days:
            raise InvalidInput(
                f"the maximum lateness in days must be less than {day.toordinal():,} for {day}, "
                f"got {self.backdating.days:,}"
            )

    def _parameters(self) -> dict[str, object]:
        """Return what differs from the default and has no column in the ledger."""
        given = {"start": self.start, **asdict(self.changes)}
        parameters: dict[str, object] = {name: value for name, value in given.items() if value}
        if self.backdating.parts:
            share = (Decimal(self.backdating.parts) / LATE_PARTS).normalize()
            parameters |= {"late": f"{share:f}", "late_days": self.backdating.days}
        if self.per_day is not None:
            parameters["per_day"] = self.per_day
        return parameters


_TYPES = {
    "kind": RunKind,
    "once": bool,
    "changes": ChangeCounts,
    "backdating": BackdatingRule,
    "profile": Profile,
}
"""The fields of `BatchOptions` that have one type, by name."""


def backdating_rule(share: float | Decimal | str, days: int) -> BackdatingRule:
    """Return the rule that makes a share of the sales late, by a number of days at most.

    Raises:
        InvalidInput: as `check_share`, or the days are no integer from 1 to 10,000.
    """
    most = check_integer("the maximum lateness in days", days, 1, DAYS_BACK_LIMIT)
    return BackdatingRule(int(check_share(share) * LATE_PARTS), most)


def draw_seed() -> int:
    """Draw a seed from the system; below 2**53, so that JSON readers keep it exactly."""
    return secrets.randbits(53)


def check_count(n: int) -> int:
    """Return a number of sales as an int.

    Raises:
        InvalidInput: it is not an integer from 0 to `COUNT_LIMIT`.
    """
    return _count("the number of sales", n)


def check_seed(seed: int) -> int:
    """Return a seed as an int.

    Raises:
        InvalidInput: it is not an integer from 0 to 2**63 - 1.
    """
    return check_integer("the seed", seed, 0, SEED_LIMIT - 1)


def check_share(share: float | Decimal | str) -> Decimal:
    """Return the share of late sales.

    Raises:
        InvalidInput: it is no number from 0 to 1 of at most four decimal places.
    """
    # Of text, ASCII digits will do, as for every other number; Decimal alone takes more.
    plain = not isinstance(share, str) or re.fullmatch(r"[0-9]+\.?[0-9]*|\.[0-9]+", share)
    try:
        read = Decimal(str(share) if plain else -1).normalize()
    except ArithmeticError:
        read = Decimal(-1)
    if not read.is_finite() or not 0 <= read <= 1 or read != round(read, 4):
        raise InvalidInput(
            "the share of late sales must be between 0 and 1, with at most four decimal "
            f"places, such as 0.05, got {share!r:.40}"
        )
    return read


def check_key(key: str) -> str:
    """Return a key as it is.

    Raises:
        InvalidInput: it is no text of 1 to 200 printable characters, or begins with `once:`, as
            those of `once` do.
    """
    if not isinstance(key, str) or not 1 <= len(key) <= KEY_LENGTH or not key.isprintable():
        raise InvalidInput(f"a key must be 1 to {KEY_LENGTH} printable characters, got {key!r:.60}")
    if not key.strip() or key.startswith(ONCE):
        raise InvalidInput(f"a key must not be blank, nor begin with {ONCE!r}; choose another name")
    return key


def _count(name: str, value: int) -> int:
    return check_integer(name, value, 0, COUNT_LIMIT)
