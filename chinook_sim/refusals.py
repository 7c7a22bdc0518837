"""What a database said when it refused, in one line, and what to do about it."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy.exc import DBAPIError

__all__ = ["Refusal", "refusal_of"]

ADVICE = {
    "22003": "a number does not fit its column; check the prices in the catalogue",
    "23503": "the catalogue changed meanwhile; run it again",
    "23505": "another writer took the same ids, or a sequence is behind its table; run it again",
    "25006": "the database takes no writes; use the primary, or a role that may write",
    "25P01": "the connection is in autocommit mode, and a batch needs a transaction",
    "40001": "another transaction came between; run it again",
    "40P01": "another transaction came between; run it again",
    "42501": "grant the role what is missing, or use one that has it",
    "53100": "make room on the server's disk",
    "55P03": "another transaction holds what is needed; run it again, or wait longer for locks",
    "57014": "a timeout or an administrator stopped it; run it again, or give it more time",
    "57P01": "the server was shut down; run it again when it is back",
    "database is locked": "another program is writing to the file; run it again when it has ended",
    "attempt to write a readonly database": "make the file and its directory writable",
    "database or disk is full": "make room on the disk",
}
"""By PostgreSQL's error code, or by SQLite's message."""


class Refusal(NamedTuple):
    """What a database said.

    Attributes:
        line: its first line, and what to do where we know.
        sqlstate: its five-character error code, if it gave one.
    """

    line: str
    sqlstate: str | None


def refusal_of(error: BaseException) -> Refusal | None:
    """Return what a database refused with, or None where the error is not a database's."""
    original = error.orig if isinstance(error, DBAPIError) else error
    if original is None or not _is_a_drivers(original):
        return None
    sqlstate = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    said = str(original)
    if original.args and isinstance(original.args[0], dict):
        # pg8000 hands on the fields of the server's message.
        fields = original.args[0]
        sqlstate, said = fields.get("C"), str(fields.get("M"))
    said = (said.strip().splitlines() or [type(original).__name__])[0]
    advice = ADVICE.get(sqlstate or said)
    return Refusal(f"{said}; {advice}" if advice else said, sqlstate)


def _is_a_drivers(error: BaseException) -> bool:
    # PEP 249: each driver has a tree of its own, whose root is called Error. COPY speaks to the
    # driver itself, so its errors do not come wrapped in SQLAlchemy's.
    return any(base.__name__ == "Error" for base in type(error).__mro__)
