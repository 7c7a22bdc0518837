"""Merging the finished transactions of a stream in the ledger while it goes on."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from chinook_sim.database.connections import connection_of
from chinook_sim.database.error_messages import describe_driver_error
from chinook_sim.database.privileges import lacking
from chinook_sim.database.transactions import translated, writing
from chinook_sim.errors import BatchFailed
from chinook_sim.ledger.commit_outcome import resolve_commit_outcome, server_transaction_of
from chinook_sim.ledger.merging import Group, merge

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from chinook_sim.database.schema import Chinook
    from chinook_sim.operations.live.connection import LiveConnection
    from chinook_sim.operations.live.schema_cache import SchemaCache
    from chinook_sim.sales.batch import SalePlan
    from chinook_sim.sales.summary import BatchSummary

__all__ = ["RunMerger"]


class RunMerger:
    """Collects committed transactions, and merges each group that is complete."""

    def __init__(
        self,
        connection: LiveConnection,
        cache: SchemaCache,
        prepare: Callable[[Connection], object],
        say: Callable[[str], None],
    ) -> None:
        self._connection = connection
        self._cache = cache
        self._prepare = prepare
        self._say = say
        # The last one is not complete yet.
        self._groups: list[Group] = []
        self._allowed: bool | None = None
        self._reported = False

    def collect(self, plan: SalePlan, made: BatchSummary) -> None:
        """Add a transaction to those that are to be merged."""
        if not self._groups or not self._groups[-1].accepts(plan, made):
            self._groups.append(Group(plan))
        self._groups[-1].add(plan, made)

    def merge(self, *, ended: bool = False) -> None:
        """Merge the groups of transactions that are complete; at the end, all of them.

        Raises:
            StreamStopped: the connection was lost, and the stream is to stop.
            DatabaseUnavailable: the connection was lost, and the stream ended long ago.
        """
        while self._groups and (ended or len(self._groups) > 1 or self._groups[0].full):
            group = self._groups.pop(0)
            if len(group) > 1 and self._allowed is not False and self._connection.is_open:
                self._merge_group(group, ended=ended)

    def _merge_group(self, group: Group, *, ended: bool) -> None:
        """Merge a group in a transaction of its own. If that fails, its rows stay."""
        run_id = written_by = None
        try:
            with (
                translated(),
                Session(self._connection.current) as session,
                session.begin(),
                writing(connection := connection_of(session)),
            ):
                self._prepare(connection)
                schema = self._cache.read(session)
                if self._allowed is None:
                    self._allowed = self._may_merge(connection, schema.chinook)
                if self._allowed:
                    run_id = merge(connection, group)
                    written_by = server_transaction_of(connection)
        except BatchFailed as error:
            self._cache.forget()
            if self._connection.is_open:
                if not self._reported:
                    self._say(f"some transactions were not merged in the ledger: {_cause(error)}")
                self._reported = True
            elif not ended:
                # The ledger is right whether it was committed or not. But where the server has not
                # noticed that its client is gone, it still has the rows locked.
                self._connection.reconnect(None)
                if run_id is not None:
                    with suppress(DBAPIError):
                        resolve_commit_outcome(self._connection.current, run_id, written_by)

    def _may_merge(self, connection: Connection, chinook: Chinook) -> bool:
        """Return whether the role may merge; if not, say which privileges are missing."""
        missing = lacking(connection, chinook, "merge")
        if missing:
            self._say(
                "missing privileges to merge transactions in the ledger, which takes more space "
                f"without. Run: {missing}"
            )
        return not missing


def _cause(error: BatchFailed) -> str:
    """Return what the database refused, in one line."""
    refusal = describe_driver_error(error.__cause__) if error.__cause__ else None
    return refusal.line if refusal else str(error)
