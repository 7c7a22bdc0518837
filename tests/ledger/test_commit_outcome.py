"""Transactions whose outcome is unknown: lost answers and serialization failures."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from chinook_sim import BatchFailed, generate_d1
from chinook_sim.ledger.commit_outcome import resolve_commit_outcome, server_transaction_of
from support.cases import cases, on_each_postgresql_shape, on_variants
from support.runs import make, runs

if TYPE_CHECKING:
    from support.databases import ChinookDatabase

DAY = date(2026, 1, 31)


# It takes five seconds to give up waiting.
@on_variants([case for case in cases(migrated=True) if case.shape.name == "postgres-neon"])
@pytest.mark.parametrize("ending", ["committed", "rolled back", "left hanging"])
def test_the_outcome_of_a_lost_commit_is_found(
    shop: ChinookDatabase, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chinook_sim.ledger.commit_outcome.PROBE_LOCK_TIMEOUT", 1)
    writer = create_engine(shop.url, poolclass=NullPool).connect()
    writer.begin()
    with Session(writer) as session:
        run = generate_d1(session, 5, day=DAY).run_id or ""
    backend = server_transaction_of(writer)
    if ending == "committed":
        writer.commit()
    if ending == "rolled back":
        writer.rollback()
    with shop.engine.connect() as connection:
        # The one that hangs is ended: it must not commit after we said that it did not.
        assert resolve_commit_outcome(connection, run, backend) is (ending == "committed")
    if ending == "left hanging":
        with pytest.raises(Exception, match=r"terminat|closed|consum"):
            writer.execute(text("SELECT 1"))
    writer.invalidate()
    assert len(runs(shop)) == (ending == "committed")
    found = shop.value("SELECT count(*) FROM [Invoice]")
    assert found == (35 if ending == "committed" else 30)


@on_each_postgresql_shape
def test_a_batch_that_cannot_be_serialized_says_so(shop: ChinookDatabase) -> None:
    """Two ask for one key at once, where a transaction sees only what was before it began."""
    engine = create_engine(shop.url, poolclass=NullPool, isolation_level="REPEATABLE READ")
    with Session(engine) as late:
        late.connection().execute(text("SELECT 1 FROM chinook_sim_run"))
        make(shop, once=True)
        with pytest.raises(BatchFailed) as caught:
            generate_d1(late, 20, day=DAY, once=True)
        assert caught.value.sqlstate in ("23505", "40001")
        late.rollback()
    assert len(runs(shop)) == 1
