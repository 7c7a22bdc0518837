"""What is recorded of a request, before anything is made."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from chinook_sim.kinds import RunKind

__all__ = ["ONCE", "RunRequest", "once_key"]

ONCE = "once:"
"""The prefix of the keys that `once` makes."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A request whose day is known, as the ledger records it.

    Attributes:
        kind: the kind of its run.
        day: the day.
        count: the number of sales.
        key: what makes a repeated request the same one, if anything does.
        seed: the seed, if one was given.
        timezone: the zone that D-1 was taken from, if one was given.
        profile: the name of the profile.
        parameters: whatever else differs from the default.
        run_id: a UUID of its own.
    """

    kind: RunKind
    day: date
    count: int
    key: str | None = None
    seed: int | None = None
    timezone: str | None = None
    profile: str = "uniform"
    parameters: Mapping[str, object] = field(default_factory=dict)
    run_id: str = field(default_factory=lambda: str(uuid4()))

    @property
    def once(self) -> bool:
        """Whether the key is the day's own."""
        return self.key == once_key(self.day)

    @property
    def parameters_text(self) -> str:
        """The parameters as JSON; equal parameters give the same text."""
        return json.dumps(self.parameters, sort_keys=True)

    @property
    def parameters_hash(self) -> str:
        """SHA-256 of the whole request except the seed, in hexadecimal."""
        words = f"{self.day} {self.count} {self.profile} {self.parameters_text}"
        return hashlib.sha256(words.encode()).hexdigest()


def once_key(day: date) -> str:
    """Return the key under which a day's sales exist once."""
    return f"{ONCE}{day}"
