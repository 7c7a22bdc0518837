"""What a stream has read of the shop, and for how long it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from chinook_sim.changes.invoices import recent_ids
from chinook_sim.database.backends import backend_for
from chinook_sim.database.connections import connection_of
from chinook_sim.database.session_settings import pin
from chinook_sim.database.transactions import all_or_nothing
from chinook_sim.ledger.keys import require_ledger
from chinook_sim.sales.catalogue import read_catalogue

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

    from sqlalchemy.orm import Session

    from chinook_sim.database.schema import Chinook
    from chinook_sim.sales.catalogue import Catalogue
    from chinook_sim.sales.id_ranges import IdRanges

__all__ = ["CachedSchema", "SchemaCache"]

REFRESH_INTERVAL = 60.0
"""Seconds after which customers, tracks and prices are read again."""

REFRESH_RATIO = 100
"""Times the duration of a read that must pass before the next: reading takes 1 % of the time."""


class CachedSchema(NamedTuple):
    """What was read of the shop.

    Attributes:
        until: the time until which it is used.
        version: of the data, if the database has one; another one means that it has changed.
        chinook: what `recognise` returned.
        catalogue: customers, tracks and prices.
    """

    until: float
    version: int | None
    chinook: Chinook
    catalogue: Catalogue


class _CandidateIds(NamedTuple):
    """The lowest and the highest id of the invoices that may change, and until when it is used."""

    until: float
    ids: tuple[int, int] | None


class SchemaCache:
    """Reads the shop, and the ids of what may change, at intervals."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._schema: CachedSchema | None = None
        self._candidates: _CandidateIds | None = None

    def forget(self) -> None:
        """Read everything again next time."""
        self._schema = self._candidates = None

    def read(self, session: Session) -> CachedSchema:
        """Return what is known of the shop, and pin the session's settings for the transaction."""
        connection = connection_of(session)
        schema, version = self._schema, backend_for(connection).data_version(connection)
        begun = self._clock()
        if schema is None or begun > schema.until or version != schema.version:
            with all_or_nothing(session) as (reading, chinook):
                require_ledger(chinook)
                catalogue = read_catalogue(reading, changes=True)
            schema = self._schema = CachedSchema(
                self._usable_until(begun), version, chinook, catalogue
            )
        pin(connection, schema.chinook)
        return schema

    def candidate_ids(self, session: Session, day: date) -> tuple[int, int] | None:
        """Return the range of the ids of the invoices that may change on a day."""
        begun = self._clock()
        if self._candidates is None or begun > self._candidates.until:
            chinook = None if self._schema is None else self._schema.chinook
            with all_or_nothing(session, "changes", chinook) as (connection, _):
                ids = recent_ids(connection, day)
            self._candidates = _CandidateIds(self._usable_until(begun), ids)
        return self._candidates.ids

    def add(self, made: IdRanges) -> None:
        """Add new invoices to those that may change."""
        if made and self._candidates is not None:
            low, high = self._candidates.ids or (made[0], 0)
            self._candidates = self._candidates._replace(ids=(low, max(high, made[-1])))

    def _usable_until(self, begun: float) -> float:
        """Return until when something is used whose reading began then, and has ended now."""
        now = self._clock()
        return now + max(REFRESH_INTERVAL, REFRESH_RATIO * (now - begun))
