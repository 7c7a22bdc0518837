"""Profiles by name, and profiles of TOML files.

In `uniform`, every choice is as likely as any other. A TOML file names what differs from it:

    hours = [1, 1, 1, 1, 1, 1, 2, 3, 4, 4, 4, 5, 6, 5, 4, 4, 5, 6, 8, 9, 9, 7, 4, 2]
    weekdays = [1, 1, 1, 1, 1.5, 2, 1.5]   # Monday first
    months = [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1.2, 2]
    growth = 0.15                          # per year
    since = "2026-01-01"                   # when growth was 1
    customers = 0.7                        # Zipf exponents; 0: all equally likely
    tracks = 0.9
    baskets = [50, 30, 10, 6, 4]           # 1 to 5 tracks
    peaks = [{day = "11-27", factor = 3}, {day = "2026-06-05", factor = 1.5}]
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

from chinook_sim.errors import InvalidInput
from chinook_sim.sampling.profile import NAME_LENGTH, REALISTIC, UNIFORM, Profile

if TYPE_CHECKING:
    import os

__all__ = ["KNOWN_PROFILES", "load_profile"]

HASH_LENGTH = 12
"""Hexadecimal digits of the hash in the name of a file's profile."""

FILE_LIMIT = 100_000
"""Bytes of a profile's file; a larger one was given by mistake."""

KNOWN_PROFILES = {profile.name: profile for profile in (UNIFORM, REALISTIC)}


def load_profile(given: str | os.PathLike[str] | Profile) -> Profile:
    """Return a profile: `uniform`, `realistic`, or that of a TOML file.

    The name of a file's profile consists of the file name and a hash of the content. So it is the
    same wherever the file is, and another one after the file was edited.

    Raises:
        InvalidInput: there is no such profile or file, or it has an invalid value.
    """
    if isinstance(given, Profile):
        return given
    if isinstance(given, str) and given in KNOWN_PROFILES:
        return KNOWN_PROFILES[given]
    if isinstance(given, str) and not given.strip():
        raise InvalidInput(
            f"the profile's name or file is missing: use {', '.join(KNOWN_PROFILES)} or a TOML file"
        )
    try:
        path = Path(given)
        # Unlike Path.open this keeps a slash at the end, which no file has.
        with open(given, "rb") as file:  # noqa: PTH123
            text = file.read(FILE_LIMIT + 1)
    except TypeError:
        raise InvalidInput(
            f"a profile must be {', '.join(KNOWN_PROFILES)} or a TOML file, got {given!r:.40}"
        ) from None
    # A name with a NUL byte is a ValueError.
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "no such file"
        raise InvalidInput(
            f"unknown profile {str(given)[:100]!r}: use {', '.join(KNOWN_PROFILES)} or a TOML file "
            f"({why})"
        ) from None
    where = f"{path.name[:100]!r}"
    if len(text) > FILE_LIMIT:
        raise InvalidInput(f"invalid profile {where}: larger than {FILE_LIMIT:,} bytes")
    try:
        # Some editors begin UTF-8 with a byte order mark, which TOML does not know.
        content = tomllib.loads(text.decode("utf-8-sig"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        said = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise InvalidInput(f"invalid profile {where}: not TOML: {said}") from None
    keys = [field.name for field in fields(Profile) if field.name != "name"]
    wrong = [key for key in content if key not in keys]
    if wrong:
        raise InvalidInput(
            f"invalid profile {where}: unknown key {wrong[0][:40]!r}; "
            f"the keys are {', '.join(keys)}"
        )
    try:
        profile = Profile("file", **content)
    except InvalidInput as error:
        raise InvalidInput(f"{where}: {error}") from None
    parts = {key: value for key, value in asdict(profile).items() if key != "name"}
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
    shown = "".join(letter if letter.isprintable() else "?" for letter in path.name)
    name = f"{shown[: NAME_LENGTH - HASH_LENGTH - 1]} {digest[:HASH_LENGTH]}"
    return Profile(name, **parts)
