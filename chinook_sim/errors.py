"""All exceptions that chinook_sim raises on purpose, as one tree.

::

    ChinookSimError
    ├── InvalidInput              an argument or setting is wrong; nothing was tried
    │   └── KeyTaken              the key was used before with other options
    ├── DatabaseUnavailable       the database cannot be reached, or refuses the connection
    │   ├── NotAChinook           it holds no Chinook that sales can be added to
    │   ├── NoLedger              it has no ledger, which the request needs
    │   └── MigrationRefused      a migration would touch what it did not make, or lose rows
    └── BatchFailed               a batch could not be written; nothing of it was kept
        ├── CommitUnanswered      the answer to COMMIT was lost; it may have been committed
        ├── CatalogueUnusable     no customers, no tracks, or a price that is not an amount
        ├── IdsExhausted          fewer ids are left than the batch needs
        └── UndoRefused           the run cannot be undone, since something depends on it

Messages are one line: what is wrong, and what to do about it. What a program may react to is an
attribute. No message holds a password. The command maps the first level to its exit codes; nothing
here exits.
"""

from __future__ import annotations

__all__ = [
    "FOREIGN_KEY",
    "LOCK_NOT_AVAILABLE",
    "RETRYABLE",
    "BatchFailed",
    "CatalogueUnusable",
    "ChinookSimError",
    "CommitUnanswered",
    "DatabaseUnavailable",
    "IdsExhausted",
    "InvalidInput",
    "KeyTaken",
    "MigrationRefused",
    "NoLedger",
    "NotAChinook",
    "UndoRefused",
]


RETRYABLE = frozenset({"40001", "40P01", "23505"})
"""SQLSTATEs of a serialization failure, a deadlock, and ids that another writer took: the batch was
rolled back, and may well succeed when all of its transaction is made again."""

LOCK_NOT_AVAILABLE = "55P03"
"""The SQLSTATE where a lock was waited for as long as `lock_timeout` says."""

FOREIGN_KEY = "23503"
"""The SQLSTATE where a customer or track is gone that was there when they were read."""


class ChinookSimError(Exception):
    """Base of all errors of this library. They can be pickled and copied, with their attributes."""

    def __reduce__(self) -> tuple[object, ...]:
        # Exception would call the class with `args` alone, and some need more.
        return _remade, (type(self), self.args), self.__dict__


class InvalidInput(ChinookSimError, ValueError):
    """An argument or a setting is of the wrong type or out of range."""


class KeyTaken(InvalidInput):
    """A key was used before, for a batch with other options.

    Attributes:
        key: the key.
        differences: what differs: its name → what the ledger says, what was requested now.
    """

    def __init__(
        self, message: str, *, key: str, differences: dict[str, tuple[object, object]]
    ) -> None:
        super().__init__(message)
        self.key = key
        self.differences = differences


class DatabaseUnavailable(ChinookSimError):
    """The database could not be reached, or refused the connection.

    Attributes:
        sqlstate: the database's five-character error code, if it gave one.
        retryable: whether it may be available later without any change: it did not answer, or it is
            starting.
    """

    def __init__(
        self, message: str, *, sqlstate: str | None = None, retryable: bool = False
    ) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.retryable = retryable


class NotAChinook(DatabaseUnavailable):
    """The database holds no Chinook that sales can be added to.

    Attributes:
        missing: the tables and columns that were not found, such as `Invoice` or
            `Invoice.InvoiceId`: in the names of the database, or in Chinook's where a file for
            `--map` states them; empty if something else is wrong.
    """

    def __init__(self, message: str, *, missing: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.missing = missing


class NoLedger(DatabaseUnavailable):
    """The database has no ledger: it was never migrated, or only to an early revision."""


class MigrationRefused(DatabaseUnavailable):
    """A migration would have to touch what it did not make, or would lose rows."""


class BatchFailed(ChinookSimError):
    """A batch could not be written, and nothing of it was kept.

    Attributes:
        sqlstate: the database's five-character error code, if it gave one.
        retryable: whether it may succeed if the whole transaction is run again: `40001`, `40P01`,
            and `23505` unless a unique index of your own was violated.
    """

    def __init__(
        self, message: str, *, sqlstate: str | None = None, retryable: bool | None = None
    ) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.retryable = sqlstate in RETRYABLE if retryable is None else retryable


class CommitUnanswered(BatchFailed):
    """The connection was lost between COMMIT and its answer: the batch may have been committed."""


class CatalogueUnusable(BatchFailed):
    """Customer or Track is empty, or a track has a price that is not an amount."""


class IdsExhausted(BatchFailed):
    """A table has fewer ids left than the batch needs.

    Attributes:
        table: the table, as written in SQL.
        needed: number of ids that the batch needs.
        left: number of ids that are left.
    """

    def __init__(self, message: str, *, table: str, needed: int, left: int) -> None:
        super().__init__(message)
        self.table = table
        self.needed = needed
        self.left = left


class UndoRefused(BatchFailed):
    """A run was not undone, because what it made was changed since."""


def _remade(kind: type[ChinookSimError], args: tuple[object, ...]) -> ChinookSimError:
    """Return an error without calling its class; its attributes are set by whoever copies it."""
    return kind.__new__(kind, *args)
