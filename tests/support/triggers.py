"""Triggers on either database, and a batch that meets them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.orm import Session

from chinook_sim import generate_d1

if TYPE_CHECKING:
    from chinook_sim.sales.summary import BatchSummary
    from support.databases import ChinookDatabase


def trigger(table: str, body: str, sqlite: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the statements that make a trigger before each insert."""
    return (
        (
            f"CREATE FUNCTION theirs() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {body} END$$",
            f"CREATE TRIGGER theirs BEFORE INSERT ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION theirs()",
        ),
        (f"CREATE TRIGGER theirs BEFORE INSERT ON {table} BEGIN {sqlite}; END",),
    )


def batch(shop: ChinookDatabase, count: int = 40) -> BatchSummary:
    with Session(shop.engine) as session, session.begin():
        return generate_d1(session, count, seed=5)
