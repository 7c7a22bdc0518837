"""The file `.env`, read into the environment."""

from __future__ import annotations

import os
import re
import stat
from select import select
from typing import TYPE_CHECKING

from chinook_sim.errors import InvalidInput

if TYPE_CHECKING:
    from pathlib import Path
    from typing import TextIO


__all__ = ["load_dotenv"]

PIPE_TIMEOUT = 10.0
"""Seconds that whoever writes `.env` to a named pipe may take to begin."""


def load_dotenv(directory: Path) -> None:
    """Add what the directory's `.env` sets to the environment, which wins where both do.

    Of a name that is set twice, the last value counts. `${NAME}` and `${NAME:-default}` stand for
    other settings, but not between single quotes.

    Raises:
        InvalidInput: the file cannot be read.
    """
    path = directory / ".env"
    if not _is_dotenv(path):
        return
    from dotenv.parser import parse_stream
    from dotenv.variables import parse_variables

    try:
        with _open_dotenv(path) as file:
            lines = list(parse_stream(file))
    except (OSError, UnicodeDecodeError):
        raise InvalidInput(
            f"{path} cannot be read; it must be a UTF-8 file of NAME=value lines"
        ) from None
    settings: dict[str, str] = {}
    for line in lines:
        if line.error or "\0" in (line.value or "") or "=" in (line.key or ""):
            raise InvalidInput(f"{path} line {line.original.line} cannot be read; write NAME=value")
        if line.key and line.value is not None:
            known = settings | os.environ
            literal = re.match(r"[^=]*=\s*'", line.original.string)
            settings[line.key] = (
                line.value
                if literal
                else "".join(part.resolve(known) for part in parse_variables(line.value))
            )
    for name, value in settings.items():
        os.environ.setdefault(name, value)


def _is_dotenv(path: Path) -> bool:
    """Return whether there is a file or a named pipe, such as a secret manager makes.

    Raises:
        InvalidInput: there is something else, whose settings would be missed.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if not path.is_symlink():
            return False
        raise InvalidInput(f"{path} is a link to a file that does not exist; remove it") from None
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from None
    if stat.S_ISDIR(mode) and (path / "pyvenv.cfg").exists():
        # A virtual environment of that name.
        return False
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        raise InvalidInput(f"{path} is not a file; it must be a file of NAME=value lines")
    return True


def _open_dotenv(path: Path) -> TextIO:
    """Open the file; a named pipe once somebody writes to it.

    Raises:
        InvalidInput: nobody does.
    """
    if not path.is_fifo():
        return path.open(encoding="utf-8")
    # Opened in the usual way it would wait for a writer without end.
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not select([number], [], [], PIPE_TIMEOUT)[0]:
        os.close(number)
        raise InvalidInput(f"{path} is a named pipe, and nothing writes to it; remove it")
    os.set_blocking(number, True)
    return os.fdopen(number, encoding="utf-8")
