"""The types of the options: each turns text into a value, or raises InvalidInput.

Modules that take long to import are imported in `parse`, so that `--help` and completion do not
import them.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import click

from chinook_sim.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date
    from decimal import Decimal

    from click.shell_completion import CompletionItem

    from chinook_sim.database.names import Spelling
    from chinook_sim.sampling.profile import Profile

__all__ = [
    "Count",
    "Day",
    "DaysBack",
    "Duration",
    "Integer",
    "Key",
    "Mix",
    "ProfileFile",
    "ProfileName",
    "Rate",
    "SaleCounts",
    "Seed",
    "Share",
    "SpellingName",
    "TimeZone",
]

UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
"""Seconds in each unit of a duration."""

PROFILES = ("uniform", "realistic")
"""The names that `load_profile` knows, for completion, which must not import NumPy."""

SPELLINGS = ("CamelCase", "snake_case")


class TextType(click.ParamType):  # type: ignore[type-arg] # generic since click 8.4
    """The base of all types.

    An error is an InvalidInput and not `self.fail`, whose usage error has another kind in the JSON
    and refers to --help.
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse text; return any other value as it is."""
        # Completion parses the command line as well, but uses no values.
        if not isinstance(value, str) or (ctx is not None and ctx.resilient_parsing):
            return value
        return self.parse(value)

    @abstractmethod
    def parse(self, text: str) -> Any:
        """Return the value of a text.

        Raises:
            InvalidInput: the text has no value of this type, or the value is out of range.
        """


class Integer(TextType):
    """An integer from `least` to `most`, in ASCII digits. `int` also accepts others."""

    name = "integer"

    def __init__(self, what: str, most: int | Callable[[], int], *, least: int = 0) -> None:
        """Declare a range.

        Args:
            what: what is counted, for messages: "the seed".
            most: the largest value, or a function that imports it.
            least: the smallest value.
        """
        self._what = what
        self._most = most
        self._least = least

    def parse(self, text: str) -> int:
        """Return the integer."""
        most = self._most() if callable(self._most) else self._most
        if re.fullmatch("[0-9]{1,20}", text) and self._least <= int(text) <= most:
            return int(text)
        expected = f"an integer between {self._least} and {most}"
        if not text:
            raise InvalidInput(f"{self._what} is missing; give {expected}")
        raise InvalidInput(f"{self._what} must be {expected}, got {text[:40]!r}")


class Count(Integer):
    """A number of sales or of changes in a batch."""

    def __init__(self, what: str) -> None:
        super().__init__(f"the number of {what}", _largest_count)


class Seed(Integer):
    """A random seed."""

    def __init__(self) -> None:
        super().__init__("the seed", _largest_seed)


def _largest_count() -> int:
    from chinook_sim.operations.options import COUNT_LIMIT

    return COUNT_LIMIT


class DaysBack(Integer):
    """The largest number of days by which a sale is late."""

    def __init__(self) -> None:
        super().__init__("the maximum lateness in days", _most_days_back, least=1)


def _most_days_back() -> int:
    from chinook_sim.operations.options import DAYS_BACK_LIMIT

    return DAYS_BACK_LIMIT


def _largest_seed() -> int:
    from chinook_sim.sampling.draws import SEED_LIMIT

    return SEED_LIMIT - 1


class SaleCounts(TextType):
    """A number of sales, or numbers of sales, updates and cancellations: "100 5 2"."""

    name = "integer"

    def parse(self, text: str) -> tuple[int, ...]:
        """Return one number or three."""
        counts = text.split() or [""]
        if len(counts) not in (1, 3):
            raise InvalidInput("give the number of sales, or three: sales, updates, cancellations")
        names = ("sales", "updates", "cancellations")
        return tuple(Count(name).parse(count) for name, count in zip(names, counts, strict=False))


class Day(TextType):
    """A day, as YYYY-MM-DD."""

    name = "date"

    def parse(self, text: str) -> date:
        """Return the day."""
        from chinook_sim.dates import parse_day

        return parse_day(text)


class TimeZone(TextType):
    """The IANA name of a time zone."""

    name = "timezone"

    def parse(self, text: str) -> str:
        """Return the name."""
        from chinook_sim.dates import check_timezone

        return check_timezone(text)


class Key(TextType):
    """The key of a run."""

    name = "key"

    def parse(self, text: str) -> str:
        """Return the key."""
        from chinook_sim.operations.options import check_key

        return check_key(text)


class Share(TextType):
    """A share from 0 to 1, with up to four decimal places."""

    name = "share"

    def parse(self, text: str) -> Decimal:
        """Return the share."""
        from chinook_sim.operations.options import check_share

        return check_share(text)


class ProfileName(TextType):
    """The name of a profile, or a TOML file. It is not loaded."""

    name = "profile"

    def parse(self, text: str) -> Any:
        """Return the text."""
        return text

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Complete names and TOML files; if there are none, leave files to the shell."""
        import glob

        from click.shell_completion import CompletionItem

        names = [name for name in PROFILES if name.startswith(incomplete)]
        names += sorted(glob.glob(f"{glob.escape(incomplete)}*.toml"))  # noqa: PTH207
        if not names:
            return [CompletionItem(incomplete, type="file")]
        return [CompletionItem(name) for name in names]


class ProfileFile(ProfileName):
    """A profile, by its name or from a TOML file."""

    def parse(self, text: str) -> Profile:
        """Load the profile."""
        from chinook_sim.sampling.profile_file import load_profile

        return load_profile(text)


class SpellingName(TextType):
    """The spelling of tables and columns, in upper or lower case."""

    name = "spelling"

    def parse(self, text: str) -> Spelling:
        """Return the spelling that the name stands for."""
        from chinook_sim.database.names import SPELLING_NAMES

        for spelling, name in SPELLING_NAMES.items():
            if name.lower() == text.lower():
                return spelling
        known = " or ".join(SPELLING_NAMES.values())
        raise InvalidInput(f"the spelling must be {known}, got {text[:40]!r}")

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Complete the names, from any case."""
        from click.shell_completion import CompletionItem

        typed = incomplete.lower()
        return [CompletionItem(name) for name in SPELLINGS if name.lower().startswith(typed)]


class Rate(TextType):
    """A number of arrivals per second, in ASCII digits."""

    name = "rate"

    def parse(self, text: str) -> float:
        """Return the rate."""
        from chinook_sim.sampling.arrivals import check_rate

        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
            raise InvalidInput(
                "the rate must be a number of arrivals per second, such as 20 or 0.5, "
                f"got {text[:40]!r}"
            )
        return check_rate(float(text))


class Duration(TextType):
    """A duration such as 90s, 10m or 1h30m, or a number of seconds."""

    name = "duration"

    def parse(self, text: str) -> float:
        """Return the seconds."""
        parts = re.fullmatch(r"(?:[0-9]{1,9}[smhd])+|[0-9]{1,9}", text)
        seconds = sum(
            int(number) * UNITS[unit or "s"]
            for number, unit in re.findall(r"([0-9]+)([smhd]?)", text if parts else "")
        )
        if not seconds:
            raise InvalidInput(f"the duration must be such as 90s, 10m or 1h30m, got {text[:40]!r}")
        return float(seconds)


class Mix(TextType):
    """A ratio of sales, updates and cancellations, such as 90:8:2."""

    name = "mix"

    def parse(self, text: str) -> tuple[int, int, int]:
        """Return the three parts."""
        from chinook_sim.sampling.arrivals import check_mix

        if not re.fullmatch("[0-9]{1,9}(:[0-9]{1,9}){2}", text):
            raise InvalidInput(
                f"the mix must be sales:updates:cancellations, such as 90:8:2, got {text[:40]!r}"
            )
        return check_mix(tuple(int(part) for part in text.split(":")))
