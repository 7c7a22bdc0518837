"""Changes between two days of sales: customers sign up and move, prices change.

They follow from seed and day, and from the customers and tracks that exist.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import insert, literal, select

from chinook_sim.changes.snapshots import snapshots_of
from chinook_sim.database.backends import backend_for
from chinook_sim.database.locks import PRICE_LOCK
from chinook_sim.kinds import PRICE_UNDONE, ChangeKind
from chinook_sim.models import Change, Customer, Track
from chinook_sim.sales.id_allocation import allocate_customers
from chinook_sim.sampling.people import People, email
from chinook_sim.sampling.selections import sample_below, sample_ranks

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from sqlalchemy import ColumnElement, Connection

    from chinook_sim.database.schema import Chinook
    from chinook_sim.sales.catalogue import Catalogue

__all__ = ["PRICE_POINTS", "ShopMutator", "note_prices_undone"]

PRICE_POINTS = (99, 199)
"""The prices of tracks in every real Chinook, in cents. Prices that the tracks have come first."""

# Substreams of the generator that nothing else reads.
_MOVED, _PRICED, _NEW_PRICE, _LIKE, _SUPPORT = range(20, 25)


class ShopMutator:
    """Changes customers and tracks for one run, as follows from a seed and a day."""

    def __init__(
        self,
        connection: Connection,
        chinook: Chinook,
        catalogue: Catalogue,
        *,
        run_id: str,
        seed: int,
        day: date,
    ) -> None:
        self._connection = connection
        self._backend = backend_for(connection)
        self._chinook = chinook
        self._catalogue = catalogue
        self._run_id = run_id
        self._seed = seed
        self._day = day
        self._snapshots = snapshots_of(connection)

    def sign_up(self, count: int) -> Sequence[int]:
        """Add customers, in the countries of the existing ones, and return their ids."""
        if not count:
            return []
        ids = allocate_customers(self._connection, self._chinook, count)
        people = People(self._seed, self._day)
        # In proportion to the countries of the existing customers.
        like = sample_below(self._seed, self._day, _LIKE, count, len(self._catalogue.customer_ids))
        reps = self._connection.scalars(
            select(Customer.support_rep_id)
            .where(Customer.support_rep_id.is_not(None))
            .distinct()
            .order_by(Customer.support_rep_id)
        ).all() or [None]
        support = sample_below(self._seed, self._day, _SUPPORT, count, len(reps))
        names = [column.name for column in Customer.__table__.columns]
        rows = []
        for number, customer_id in enumerate(ids):
            country = self._catalogue.billing[like[number]].country
            new = people.sign_up(number, country)
            rows.append(
                dict(
                    zip(
                        names,
                        (
                            customer_id,
                            new.first_name,
                            new.last_name,
                            new.company,
                            *new.address,
                            new.phone,
                            new.fax,
                            email(new.first_name, new.last_name, customer_id),
                            reps[support[number]],
                        ),
                        strict=True,
                    )
                )
            )
        self._backend.insert_rows(self._connection, Customer.__table__, rows)
        self._snapshots.capture_inserted(self._run_id, ChangeKind.SIGN_UP, ids)
        return ids

    def move(self, count: int) -> int:
        """Give customers another address in their country, and return how many."""
        positions = sample_ranks(
            self._seed, self._day, _MOVED, count, len(self._catalogue.customer_ids)
        )
        chosen = {
            int(self._catalogue.customer_ids[position]): number
            for number, position in enumerate(positions.tolist())
        }
        countries = self._lock(Customer.customer_id, Customer.country, chosen)
        if not countries:
            return 0
        people = People(self._seed, self._day)
        columns = [Customer.__table__.c[name].name for name in _ADDRESS_COLUMNS]
        rows = [
            {
                Customer.__table__.c.CustomerId.name: customer,
                **dict(zip(columns, people.move(chosen[customer], country), strict=True)),
            }
            for customer, country in countries.items()
        ]
        self._snapshots.capture_before(self._run_id, ChangeKind.MOVE, list(countries))
        self._backend.update_rows(self._connection, Customer.__table__, rows)
        self._snapshots.capture_after(self._run_id, ChangeKind.MOVE)
        return len(rows)

    def change_prices(self, count: int) -> int:
        """Give tracks another of the prices that tracks of this shop have, and return how many."""
        if not count:
            return 0
        self._backend.lock(self._connection, PRICE_LOCK)
        points = sorted({*np.unique(self._catalogue.prices).tolist()})
        if len(points) == 1:
            points = sorted({*points, *PRICE_POINTS})
        positions = sample_ranks(
            self._seed, self._day, _PRICED, count, len(self._catalogue.track_ids)
        )
        chosen = {
            int(self._catalogue.track_ids[position]): number
            for number, position in enumerate(positions.tolist())
        }
        prices = self._lock(Track.track_id, Track.unit_price, chosen)
        if not prices:
            return 0
        draws = sample_below(self._seed, self._day, _NEW_PRICE, len(chosen), len(points) - 1)
        rows = []
        for track, price in prices.items():
            others = [cents for cents in points if cents != round(price * 100)]
            cents = others[min(draws[chosen[track]], len(others) - 1)]
            rows.append(
                {
                    Track.__table__.c.TrackId.name: track,
                    Track.__table__.c.UnitPrice.name: cents / 100,
                }
            )
        self._snapshots.capture_before(self._run_id, ChangeKind.PRICE, list(prices))
        self._backend.update_rows(self._connection, Track.__table__, rows)
        self._snapshots.capture_after(self._run_id, ChangeKind.PRICE)
        return len(rows)

    def _lock(self, key: Any, column: Any, ids: dict[int, int]) -> dict[int, Any]:
        """Lock rows, in the order of their ids, and return a column of those that are there."""
        if not ids:
            return {}
        those = select(key, column).where(self._backend.in_values(key, ids)).order_by(key)
        if self._backend.locks_rows:
            # Not against sales to these customers and of these tracks.
            self._connection.execute(those.with_for_update(key_share=True))
        # In a statement of its own, which sees changes from before they were locked.
        rows: list[Any] = list(self._connection.execute(those))
        return dict(rows)


_ADDRESS_COLUMNS = ("Address", "City", "State", "Country", "PostalCode")


def note_prices_undone(connection: Connection, of_runs: ColumnElement[bool]) -> None:
    """Record in the ledger that prices were restored, as changes with numbers of their own.

    Args:
        connection: on which they were restored.
        of_runs: the condition on `Change.run_id` to be one of the runs that had changed them.
    """
    changes = Change.__table__.c
    prices = (
        select(
            changes.run_id,
            literal(PRICE_UNDONE),
            changes.subject,
            changes.subject_id,
            changes.after,
            changes.before,
        )
        .where(of_runs, changes.kind == ChangeKind.PRICE)
        # Numbered in this order: the last change is undone first.
        .order_by(changes.change_id.desc())
    )
    names = ["run_id", "kind", "subject", "subject_id", "before", "after"]
    backend_for(connection).lock(connection, PRICE_LOCK)
    connection.execute(insert(Change.__table__).from_select(names, prices))
