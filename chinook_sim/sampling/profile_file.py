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
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

from chinook_sim.errors import InvalidInput
from chinook_sim.sampling.profile import NAME_LENGTH, REALISTIC, UNIFORM, Profile
from chinook_sim.toml_file import read_toml

if TYPE_CHECKING:
    import os

__all__ = ["KNOWN_PROFILES", "load_profile"]

HASH_LENGTH = 12
"""Hexadecimal digits of the hash in the name of a file's profile."""

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
        where = f"{path.name[:100]!r}"
        content = read_toml(given, f"invalid profile {where}")
    except TypeError:
        raise InvalidInput(
            f"a profile must be {', '.join(KNOWN_PROFILES)} or a TOML file, got {given!r:.40}"
        ) from None
    except OSError as error:
        raise InvalidInput(
            f"unknown profile {str(given)[:100]!r}: use {', '.join(KNOWN_PROFILES)} or a TOML file "
            f"({error.strerror})"
        ) from None
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
