"""Errors and results are sent between processes, and threads and forks make sales of their own."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from chinook_sim import (
    BatchSummary,
    Invoice,
    KeyTaken,
    SaleFactory,
    align,
    backfill,
    generate_d1,
    invoice_history,
    live,
    load_profile,
    recognise,
    undo,
    verify,
)
from chinook_sim import errors as tree
from chinook_sim.errors import ChinookSimError, IdsExhausted
from chinook_sim.verification import verify_all, verify_day
from support.cases import (
    alternating_versions,
    on_both_databases,
    on_variants,
    one_of_each,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy import Engine

    from support.databases import ChinookDatabase, DatabaseTemplates

DAY = date(2026, 1, 30)


def example(kind: type[ChinookSimError]) -> ChinookSimError:
    """Make an error, with all that its kind has."""
    if kind is KeyTaken:
        return KeyTaken("taken", key="k", differences={"seed": (1, 2)})
    if kind is IdsExhausted:
        return IdsExhausted("few", table="Invoice", needed=3, left=1)
    if issubclass(kind, tree.NotAChinook):
        return kind("none", missing=("Track",))
    return kind("wrong", sqlstate="40001") if issubclass(kind, tree.BatchFailed) else kind("wrong")


ERRORS = [getattr(tree, name) for name in tree.__all__ if isinstance(getattr(tree, name), type)]


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize(
    "passed", [lambda it: pickle.loads(pickle.dumps(it)), copy.copy, copy.deepcopy]
)
def test_errors_can_be_sent_and_copied(
    kind: type[ChinookSimError], passed: Callable[[Exception], Exception]
) -> None:
    error = example(kind)
    error.add_note("seen in worker 3")
    arrived = passed(error)
    assert type(arrived) is kind
    assert str(arrived) == str(error)
    assert vars(arrived) == vars(error)


def generate_twice(url: str) -> None:
    """Ask for the same day with another number: refused."""
    engine = create_engine(url, poolclass=NullPool)
    for number in (3, 4):
        with Session(engine) as session, session.begin():
            generate_d1(session, number, day=DAY, once=True)


def generate_some(url: str) -> BatchSummary:
    engine = create_engine(url, poolclass=NullPool)
    with Session(engine) as session, session.begin():
        return generate_d1(session, 3, day=DAY, seed=7)


# What is sent does not depend on the database.
@on_variants(one_of_each()[1:])
def test_what_a_worker_process_raises_and_returns_arrives(shop: ChinookDatabase) -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        with pytest.raises(KeyTaken) as caught:
            pool.submit(generate_twice, shop.text).result(timeout=60)
        assert caught.value.key == f"once:{DAY}"
        made = pool.submit(generate_some, shop.text).result(timeout=60)
    assert made.count == len(made.invoice_ids) == 3


@on_both_databases
def test_results_can_be_sent_and_copied(shop: ChinookDatabase) -> None:
    with Session(shop.engine) as session, session.begin():
        made = generate_d1(session, 5, day=DAY, seed=7, updates=1, cancellations=1)
        results: list[Any] = [made, align(session, dry_run=True), recognise(session)]
    results += backfill(shop.engine, DAY, DAY, 3, seed=7)
    results.append(next(live(shop.engine, 400, seed=7)))
    shop.execute(f"DELETE FROM [InvoiceLine] WHERE [InvoiceId] = {made.invoice_ids[0]}")
    with shop.engine.connect() as connection:
        results += verify_all(connection) + verify_day(connection, DAY)
        results.append(verify(connection, day=DAY))
        results.append(invoice_history(connection, made.invoice_ids[0]))
    with Session(shop.engine) as session, session.begin():
        run = results[3].run_id
        results.append(undo(session, run))
    results.append(load_profile("realistic"))
    for result in results:
        for passed in (pickle.loads(pickle.dumps(result)), copy.deepcopy(result)):
            assert passed == result


SHARED = [alternating_versions(migrated=True)[place] for place in (0, 1, 4)]
"""Two spellings on PostgreSQL, and SQLite."""


@pytest.mark.slow(reason="many batches; forked workers are tested, too")
def test_threads_with_engines_of_different_spelling(
    templates: DatabaseTemplates, tmp_path: Path
) -> None:
    shops = [templates.copy(case, tmp_path) for case in SHARED]
    # Two of one file; SQLite's writers wait for each other.
    patient = {"connect_args": {"timeout": 60}}
    engines = [
        *(create_engine(shop.text, **({} if shop.server else patient)) for shop in shops),
        create_engine(shops[2].text, poolclass=NullPool, **patient),
    ]

    def work(engine: Engine) -> list[int]:
        ids = []
        for _ in range(3):
            with Session(engine) as session, session.begin():
                made = generate_d1(session, 4, day=DAY, updates=1)
                ids += list(made.invoice_ids)
                found = select(Invoice).where(Invoice.invoice_id.in_(list(made.invoice_ids)))
                assert sum(it.total for it in session.scalars(found)) >= made.revenue
                ids.append(SaleFactory(session).create(DAY).invoice_id)
        return ids

    with ThreadPoolExecutor(len(engines) * 2) as pool:
        done = list(pool.map(work, engines * 2))
    taken: dict[str, list[int]] = {shop.text: [] for shop in shops}
    for engine, ids in zip(engines * 2, done, strict=True):
        taken[engine.url.render_as_string(hide_password=False)] += ids
    for shop in shops:
        assert len(taken[shop.text]) == len(set(taken[shop.text]))
        assert shop.value("SELECT count(*) FROM [Invoice]") == 30 + len(taken[shop.text])
        with shop.engine.connect() as connection:
            assert not [it for it in verify_all(connection) if not it.passed]
    for engine in engines:
        engine.dispose()
    for shop in shops:
        shop.close()


FORKED = """
import multiprocessing, sys
from datetime import date
from chinook_sim import generate_d1, recognise
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

engine = create_engine(sys.argv[1])

def work(_):
    # What SQLAlchemy asks for: the connections are the parent's.
    engine.dispose(close=False)
    with Session(engine) as session, session.begin():
        made = generate_d1(session, 5, day=date(2026, 1, 30))
    return made.digest, made.run_id, list(made.invoice_ids)

with Session(engine) as session, session.begin():
    recognise(session)
    first = generate_d1(session, 5, day=date(2026, 1, 30))
with multiprocessing.get_context("fork").Pool(2) as pool:
    done = pool.map(work, range(4), chunksize=1)
done.append((first.digest, first.run_id, list(first.invoice_ids)))
assert len({digest for digest, _, _ in done}) == len({run for _, run, _ in done}) == 5
assert len({number for _, _, ids in done for number in ids}) == 25
"""


@on_both_databases
def test_forked_workers_make_sales_of_their_own(shop: ChinookDatabase, tmp_path: Path) -> None:
    script = tmp_path / "forked.py"
    script.write_text(FORKED)
    done = subprocess.run(
        [sys.executable, script, shop.text], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert shop.value("SELECT count(*) FROM [Invoice]") == 55
