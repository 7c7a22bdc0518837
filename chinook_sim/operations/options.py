"""What is asked of a batch, checked before anything is tried."""

from __future__ import annotations

import operator
import re
import secrets
from dataclasses import asdict
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, SupportsIndex, TypedDict

from chinook_sim.changes.counts import Changes
from chinook_sim.database.clock import d1
from chinook_sim.dates import check_day, check_timezone
from chinook_sim.errors import InvalidInput
from chinook_sim.ledger.keys import ONCE, Asked, once_key
from chinook_sim.sales.batch import NOT_LATE, Late
from chinook_sim.sampling.draws import SEED_LIMIT
from chinook_sim.sampling.profile import UNIFORM, load_profile
from chinook_sim.sampling.selections import LATE_PARTS

if TYPE_CHECKING:
    import os
    from datetime import date

    from sqlalchemy import Connection
    from typing_extensions import Unpack

    from chinook_sim.database.schema import Chinook
    from chinook_sim.sampling.profile import Profile

__all__ = [
    "COUNT_LIMIT",
    "Request",
    "Wishes",
    "check_key",
    "check_seed",
    "check_share",
    "draw_seed",
]

COUNT_LIMIT = 2**31 - 1
"""The most sales of a batch: as many as there are ids."""

KEY_LENGTH = 200
"""The most characters of a key: as many as the ledger's column holds."""


class Wishes(TypedDict, total=False):
    """What may be asked of a batch besides its size; see `generate_d1`."""

    day: date | None
    timezone: str | None
    seed: int | None
    once: bool
    key: str | None
    updates: int
    cancellations: int
    new_customers: int
    moves: int
    price_changes: int
    late: float | Decimal | str
    late_days: int
    profile: str | os.PathLike[str] | Profile
    per_day: int | None


class Request:
    """A request whose every part can mean something.

    Attributes:
        changes: the changes of earlier sales, of customers and of prices.
        start: index of the first sale within the day.
        late: which sales are dated before the day.
        profile: the shape of the sales.
    """

    def __init__(
        self, n: int, *, kind: str = "generate", start: int = 0, **wishes: Unpack[Wishes]
    ) -> None:
        day, timezone, seed, key = (
            wishes.get("day"),
            wishes.get("timezone"),
            wishes.get("seed"),
            wishes.get("key"),
        )
        self._once = wishes.get("once", False)
        if self._once and key is not None:
            raise InvalidInput("once and key cannot be combined; give one of them")
        self._count = _whole("number of sales", n, COUNT_LIMIT)
        self._day = None if day is None else check_day(day)
        self._timezone = None if timezone is None else check_timezone(timezone)
        self._seed = None if seed is None else check_seed(seed)
        self._key = None if key is None else check_key(key)
        self._kind = kind
        self.start = start
        wanted = asdict(Changes())
        for name in wanted:
            given: Any = wishes.get(name, 0)
            wanted[name] = _whole(f"number of {name.replace('_', ' ')}", given, COUNT_LIMIT)
        self.changes = Changes(**wanted)
        self._parameters: dict[str, object] = {
            name: it for name, it in {"start": start, **wanted}.items() if it
        }
        days = _whole("number of days back", wishes.get("late_days", NOT_LATE.days), 10_000)
        if not days:
            raise InvalidInput("the number of days back must be at least 1, got 0")
        share = check_share(wishes.get("late", 0))
        self.late = Late(int(share * LATE_PARTS), days)
        if share:
            self._parameters |= {"late": f"{share:f}", "late_days": days}
        self.profile = load_profile(wishes.get("profile", UNIFORM))
        per_day = wishes.get("per_day")
        if per_day is not None:
            self._parameters["per_day"] = per_day

    def settle(self, connection: Connection, chinook: Chinook) -> Asked:
        """Fill in what only the database knows."""
        if self._day is not None:
            day = self._day
        elif self._timezone is not None:
            day = d1(connection, self._timezone)
        else:
            # As d1 has it, and no round trip more.
            day = chinook.today - timedelta(days=1)
        if self.late.parts and day.toordinal() <= self.late.days:
            raise InvalidInput(
                f"the number of days back must be less than {day.toordinal():,} for {day}, "
                f"got {self.late.days:,}"
            )
        return Asked(
            kind=self._kind,
            day=day,
            count=self._count,
            key=once_key(day) if self._once else self._key,
            seed=self._seed,
            timezone=self._timezone,
            profile=self.profile.name,
            parameters=self._parameters,
        )


def draw_seed() -> int:
    """Draw a seed from the system; below 2**53, so that JSON readers keep it exactly."""
    return secrets.randbits(53)


def check_seed(seed: int) -> int:
    """Return a seed as it is.

    Raises:
        InvalidInput: it is not a whole number from 0 to 2**63 - 1.
    """
    return _whole("seed", seed, SEED_LIMIT - 1)


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
            "the share of late sales must be a number from 0 to 1, such as 0.05, of at most four "
            f"decimal places, got {share!r:.40}"
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


def _whole(what: str, value: SupportsIndex, limit: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = -1
    if isinstance(value, bool) or not 0 <= number <= limit:
        raise InvalidInput(f"the {what} must be an integer between 0 and {limit}, got {value!r}")
    return number
