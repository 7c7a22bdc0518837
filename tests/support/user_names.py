"""What the tests share that give columns and schemas names of a user's."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session

from chinook_sim import generate_d1
from chinook_sim.verification import verify_all, verify_day
from support.cases import alternating_versions, on_variants
from support.chinook_variants import SHAPES

if TYPE_CHECKING:
    from support.databases import ChinookDatabase


DAY = date(2026, 1, 31)
# Both spellings on PostgreSQL, and ids that are GENERATED ALWAYS; and SQLite.
CASES = [
    case for case in alternating_versions(migrated=True) if case.shape in (SHAPES[0], *SHAPES[3:5])
]
each = on_variants(CASES)


def quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def execute(shop: ChinookDatabase, *statements: str) -> list[tuple[Any, ...]]:
    """Execute statements as they are, and commit; return the rows of the last."""
    if shop.server is None:
        with closing(sqlite3.connect(shop.path)) as connection, connection:
            return [connection.execute(statement) for statement in statements][-1].fetchall()
    with shop.server.connect(shop.url.database or "") as other:
        cursors = [other.execute(statement.encode()) for statement in statements]
        return cursors[-1].fetchall() if cursors[-1].description else []


def make(shop: ChinookDatabase, *, seed: int = 8, **wanted: int) -> str:
    """Make a batch with every kind of change, each as often as it was asked for."""
    changes: dict[str, Any] = {"updates": 6, "cancellations": 4, "new_customers": 3, "moves": 3}
    changes |= {"price_changes": 3, **wanted}
    with Session(shop.engine) as session, session.begin():
        made = generate_d1(session, 20, day=DAY, seed=seed, **changes)
    assert {name: getattr(made, name) for name in changes} == changes
    assert made.run_id is not None
    return made.run_id


def sell(shop: ChinookDatabase) -> None:
    """Make sales that later batches may change."""
    with Session(shop.engine) as session, session.begin():
        generate_d1(session, 30, day=DAY - timedelta(days=1), seed=7)


def failed(shop: ChinookDatabase, *, day: bool = True) -> list[str]:
    with shop.engine.connect() as connection:
        checks = [*verify_all(connection), *(verify_day(connection, DAY) if day else ())]
    return [f"{check.name}: {check.figure}" for check in checks if not check.passed]


def call_functions(shop: ChinookDatabase, schema: str = "") -> None:
    """Call each function; what it does must be sound."""
    at = f"'{DAY} 12:00:00'"
    # What it makes is in the ledger, which the changes of the others are not: so it comes last.
    calls = [
        f"simulate_new_sale({at})",
        f"simulate_update_sale({at})",
        f"simulate_delete_sale({at})",
        f"simulate_sales('{DAY}', 40)",
    ]
    for call in calls:
        ((answer,),) = execute(shop, f"SELECT {schema}{call}::text")
        assert answer is not None
