"""Loading a PostgreSQL dump of a Chinook without psql.

A dump may come from anywhere, so it is not simply run. It is read statement by statement, and only
the kinds of statements that a Chinook consists of reach the database. Session settings are skipped,
since behind a pooler they would stay for the next client.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chinook_sim.database.copying import copying
from chinook_sim.errors import BatchFailed, InvalidInput
from chinook_sim.provisioning.source_file import script_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Connection

__all__ = ["COPY", "load_postgresql", "statements"]


def load_postgresql(path: Path, connection: Connection) -> None:
    """Run a plain SQL dump of a PostgreSQL Chinook, in the transaction that is open.

    Args:
        path: the dump.
        connection: psycopg's, through SQLAlchemy.

    Raises:
        InvalidInput: the dump ends in the middle of a statement, or has one that no Chinook needs.
        BatchFailed: the database refused a statement.
    """
    import psycopg

    # A binary cursor speaks the extended protocol, in which the server itself takes one statement
    # at a time, whatever we think of where it ends.
    with copying(connection, binary=True) as cursor:
        # Where a string ends must mean the same to the server as to us.
        cursor.execute("SET LOCAL standard_conforming_strings = on")
        for statement in statements(path):
            if PASSED_OVER.match(statement.plain):
                continue
            try:
                if COPY.fullmatch(statement.plain):
                    with cursor.copy(statement.sql) as copy:
                        for row in statement.rows:
                            copy.write(row + "\n")
                elif is_needed(statement.plain):
                    cursor.execute(statement.sql)
                else:
                    raise InvalidInput(
                        f"{path.name} line {statement.line}: unsupported statement "
                        f"“{statement.plain[:40]}”; nothing was changed"
                    )
            except psycopg.Error as error:
                said = str(error).strip().splitlines()[0]
                raise BatchFailed(
                    f"{path.name} line {statement.line}: {said}; nothing was changed",
                    sqlstate=error.sqlstate,
                ) from error


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a dump.

    Attributes:
        line: where it begins.
        sql: its text, with comments left out and without the semicolon.
        plain: what it does, and nothing that a string could pretend: each string is S, each quoted
            name Q, all else in upper case, with single spaces.
        rows: the rows of a COPY that follow it; to be read before the next statement.
    """

    line: int
    sql: str
    plain: str
    rows: Iterator[str]


NAME = r"[\w$]+(?: ?\. ?[\w$]+)*"

NAMES = rf"\( ?{NAME}(?: ?, ?{NAME})* ?\)"

# Our functions are made anew, with the marks by which they are known to be ours.
OUR_FUNCTION = (
    r"(?:[\w$]+ ?\. ?)?"
    r"(?:CHINOOK_SIM_\w+|SIMULATE_(?:NEW_SALE|UPDATE_SALE|DELETE_SALE|SALES)) ?\("
)

PASSED_OVER = re.compile(
    r"(?:SET|RESET|BEGIN|START TRANSACTION|COMMIT|GRANT|REVOKE)\b"
    r"|COMMENT ON (?!TABLE\b|SEQUENCE\b|COLUMN\b)"
    rf"|(?:CREATE|ALTER) FUNCTION {OUR_FUNCTION}"
    r"|(?:CREATE|DROP) DATABASE\b|ALTER DEFAULT PRIVILEGES\b"
    r"|SELECT (?:PG_CATALOG ?\. ?)?SET_CONFIG ?\("
    rf"|ALTER (?:TABLE|SEQUENCE|SCHEMA) {NAME} OWNER TO\b"
)


COPY = re.compile(rf"COPY {NAME} ?{NAMES} FROM STDIN ?")

NEEDED = re.compile(
    rf"CREATE SCHEMA {NAME}"
    rf"|CREATE TABLE (?:IF NOT EXISTS )?{NAME} ?\(.*\)"
    rf"|CREATE (?:UNIQUE )?INDEX {NAME} ON (?:ONLY )?{NAME} ?(?:USING BTREE ?)?{NAMES}"
    rf"(?: WHERE \(? ?{NAME} IS NULL ?\)?)?"
    rf"|COMMENT ON (?:TABLE|SEQUENCE|COLUMN) {NAME} IS (?:S|NULL) ?"
    rf"|CREATE SEQUENCE {NAME}[\w ]*"
    rf"|ALTER SEQUENCE {NAME} OWNED BY {NAME}"
    rf"|ALTER TABLE (?:ONLY )?{NAME} ADD CONSTRAINT {NAME} (?:PRIMARY KEY|UNIQUE) ?{NAMES}"
    rf"|ALTER TABLE (?:ONLY )?{NAME} ADD CONSTRAINT {NAME} FOREIGN KEY ?{NAMES} "
    rf"REFERENCES {NAME} ?{NAMES}[\w ]*"
    rf"|ALTER TABLE (?:ONLY )?{NAME} ALTER COLUMN {NAME} "
    r"SET DEFAULT NEXTVAL ?\( ?S ?:: ?REGCLASS ?\)"
    rf"|ALTER TABLE {NAME} ALTER COLUMN {NAME} ADD GENERATED (?:ALWAYS|BY DEFAULT) AS IDENTITY ?"
    rf"\( ?SEQUENCE NAME {NAME} [\w ]*\)"
    r"|SELECT (?:PG_CATALOG ?\. ?)?SETVAL ?"
    r"\( ?S ?(?::: ?REGCLASS ?)?, ?\d+ ?(?:, ?(?:TRUE|FALSE) ?)?\)"
    # Values alone: literals, signs and NULL; whatever else is a word would be a function.
    rf"|INSERT\ INTO {NAME} ?{NAMES} VALUES ?(?:[\s(),.+\-\d]|\b(?:[NE] ?)?S\b|\bNULL\b)*"
)


# What the definition of a table may hold that runs something when a row is inserted.
ACTIVE = re.compile(
    r"\b(?:SELECT|CHECK|EXCLUDE|LIKE|AS ?\()"
    r"|\bDEFAULT (?!NEXTVAL ?\( ?S ?:: ?REGCLASS|NULL\b|S\b|\d|CURRENT_TIMESTAMP\b)"
)


def is_needed(plain: str) -> bool:
    """Return whether a statement is of a kind that a Chinook is made with."""
    return NEEDED.fullmatch(plain) is not None and not (
        plain.startswith("CREATE TABLE") and ACTIVE.search(plain)
    )


META = re.compile(r"\\(?:c|connect|restrict|unrestrict)\b")


# What may end, or begin, something in each place; a comment and a string may go over many lines.
TOKENS = {
    # Within a name neither E nor $ begins a string.
    "": re.compile(r"--.*|/\*|(?<![\w$])[eE]'|'|\"|(?<![\w$])\$(?:[A-Za-z_]\w*)?\$|;"),
    "'": re.compile(r"''|'"),
    "e'": re.compile(r"\\.|''|'", re.DOTALL),
    '"': re.compile(r'""|"'),
    "/*": re.compile(r"/\*|\*/"),
}


def statements(path: Path) -> Iterator[Statement]:
    """Split a dump into statements; memory does not grow with the file.

    Raises:
        InvalidInput: it is not UTF-8, or ends in the middle of something, or has a command for
            psql that is more than a change of connection.
    """
    yield from _split(script_lines(path), path.name)


def _split(lines: Iterator[tuple[int, str]], name: str) -> Iterator[Statement]:
    begun, inside, depth = 0, "", 0  # begun: the line of the statement, 0 between two
    sql: list[str] = []
    plain: list[str] = []
    for number, line in lines:
        if not inside and not begun and line.startswith("\\"):
            if not META.match(line):
                raise InvalidInput(f"{name} line {number}: commands for psql are not run")
            continue
        position = 0
        while position < len(line):
            if inside.startswith("$"):
                end = line.find(inside, position)
                stop = len(line) if end < 0 else end + len(inside)
                sql.append(line[position:stop])
                inside, position = (inside if end < 0 else ""), stop
                continue
            token = TOKENS[inside].search(line, position)
            text = line[position : token.start() if token else len(line)]
            if inside != "/*":
                sql.append(text)
            if not inside:
                plain.append(text)
                begun = begun or (number if text.strip() else 0)
            if token is None:
                break
            position, found = token.end(), token[0]
            if inside == "/*":
                depth += 1 if found == "/*" else -1
                inside = inside if depth else ""
            elif inside:
                sql.append(found)
                # A doubled quote and an escape are part of what they are in.
                inside = "" if found == inside[-1] else inside
            elif found == "/*":
                sql.append(" ")
                plain.append(" ")
                inside, depth = "/*", 1
            elif found == ";":
                flat = " ".join("".join(plain).upper().split())
                if flat:
                    yield Statement(begun, "".join(sql), flat, _rows(lines, name, number))
                sql, plain, begun = [], [], 0
            elif not found.startswith("--"):
                sql.append(found)
                plain.append("Q" if found == '"' else " S ")
                begun = begun or number
                inside = found.lower()
    if inside or begun:
        raise InvalidInput(f"{name} ends in the middle of the statement of line {begun}")


def _rows(lines: Iterator[tuple[int, str]], name: str, begun: int) -> Iterator[str]:
    """Yield the rows of a COPY block, up to its end."""
    for _, line in lines:
        row = line.rstrip("\r\n")
        if row == r"\.":
            return
        yield row
    raise InvalidInput(f"{name} ends in the middle of the rows after line {begun}")
