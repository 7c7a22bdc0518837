"""Small TOML files that a user has written."""

from __future__ import annotations

import errno
import tomllib
from typing import TYPE_CHECKING, Any

from chinook_sim.errors import InvalidInput

if TYPE_CHECKING:
    import os

__all__ = ["read_toml"]

FILE_LIMIT = 100_000
"""Bytes; a larger file was given by mistake."""


def read_toml(path: str | os.PathLike[str], label: str) -> dict[str, Any]:
    """Return the values of a file.

    Args:
        path: of the file.
        label: what error messages call it.

    Raises:
        InvalidInput: it is too large, or no TOML.
        OSError: it cannot be read, or no file can have this path; its `strerror` says why.
        TypeError: it is no path.
    """
    try:
        # Unlike Path.open this keeps a slash at the end, which no file has.
        with open(path, "rb") as file:  # noqa: PTH123
            content = file.read(FILE_LIMIT + 1)
    except ValueError:  # a NUL byte
        raise FileNotFoundError(errno.ENOENT, "no such file", path) from None
    if len(content) > FILE_LIMIT:
        raise InvalidInput(f"{label}: larger than {FILE_LIMIT:,} bytes")
    try:
        # Some editors begin UTF-8 with a byte order mark, which TOML does not know.
        return tomllib.loads(content.decode("utf-8-sig"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        said = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise InvalidInput(f"{label}: not TOML: {said}") from None
