"""Loading a Chinook from an SQL script for SQLite, such as the output of `.dump`.

A script may come from anywhere: it is run on a new file, may use no other, and changes no settings.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from chinook_sim.errors import InvalidInput
from chinook_sim.provisioning.source_file import script_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["load_script"]


def load_script(path: Path, target: Path) -> None:
    """Run a script on a new SQLite file.

    Args:
        path: the script.
        target: the new file.

    Raises:
        InvalidInput: it is not in UTF-8, ends in the middle of a transaction, or SQLite refuses a
            statement.
    """
    with closing(sqlite3.connect(target, isolation_level=None)) as connection:
        # Nobody else knows the file yet, and it is thrown away if this fails.
        connection.execute("PRAGMA synchronous = OFF")
        connection.set_authorizer(_allow)
        for line, statement in _statements(path):
            try:
                connection.execute(statement)
            except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
                raise InvalidInput(
                    f"{path.name} line {line}: {error}; a script for SQLite is needed; nothing was "
                    "made"
                ) from None
        if connection.in_transaction:
            raise InvalidInput(f"{path.name} ends in the middle of a transaction")


def _allow(action: int, *_: object) -> int:
    """Keep other files out, and leave settings as they are."""
    if action in (sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH):
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_IGNORE if action == sqlite3.SQLITE_PRAGMA else sqlite3.SQLITE_OK


def _statements(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the statements, each with the number of the line where it begins."""
    begun, lines = 0, list[str]()
    for number, line in script_lines(path):
        if line.strip() or lines:
            begun = begun or number
            lines.append(line)
        if ";" in line and sqlite3.complete_statement("".join(lines)):
            yield from _apart(begun, "".join(lines))
            begun, lines = 0, []
    if lines:
        # The last one needs no semicolon, and may be a comment.
        yield begun, "".join(lines)


def _apart(begun: int, text: str) -> Iterator[tuple[int, str]]:
    """Yield the statements of a line, which may have several."""
    rest, start = text, 0
    while (end := rest.find(";", start) + 1) > 0:
        if sqlite3.complete_statement(rest[:end]):
            yield begun, rest[:end]
            begun += rest.count("\n", 0, end)
            rest, start = rest[end:], 0
        else:
            start = end
