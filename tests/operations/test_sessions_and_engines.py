"""The library in somebody's code: worker processes, tests, sessions and engines of any kind."""

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
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import NullPool

from chinook_sim import (
    BatchSummary,
    InvalidInput,
    Invoice,
    KeyTaken,
    SaleFactory,
    align,
    backfill,
    generate_d1,
    initialise,
    invoice_history,
    live,
    load_profile,
    recognise,
    simulate_changes,
    undo,
    upgrade,
    verify,
)
from chinook_sim import errors as tree
from chinook_sim.errors import ChinookSimError, IdsExhausted
from chinook_sim.verification import take_snapshot, verify_all, verify_day
from chinook_sim.verification.distribution import verify_shape
from support.cases import (
    alternating_versions,
    on_both_databases,
    on_one_postgresql,
    on_variants,
    one_of_each,
)
from support.processes import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy import Engine

    from support.databases import ChinookDatabase, DatabaseTemplates

DAY = date(2026, 1, 30)


# --- worker processes ----------------------------------------------------------------------------


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


# --- tests of their own --------------------------------------------------------------------------

THEIR_TEST = """
import pytest
from chinook_sim import generate_d1, undo, Invoice
from sqlalchemy import create_engine, func, select

{override}

@pytest.mark.parametrize("turn", range(3))
def test_pipeline(chinook_session, turn):
    before = chinook_session.scalar(select(func.count()).select_from(Invoice))
    assert before == {before}
    made = generate_d1(chinook_session, 5, seed=7)
    chinook_session.commit()
    generate_d1(chinook_session, 5, seed=8)
    chinook_session.rollback()
    assert chinook_session.scalar(select(func.count()).select_from(Invoice)) == before + 5
    undo(chinook_session, made.run_id)
    chinook_session.commit()
    assert chinook_session.scalar(select(func.count()).select_from(Invoice)) == before
    generate_d1(chinook_session, 5, seed=7)
    chinook_session.commit()
"""

OVERRIDE = """
@pytest.fixture(scope="session")
def chinook_engine():
    return create_engine({url!r})
"""


def run_their_test(directory: Path, says: str = "3 passed", **parts: Any) -> None:
    """Run a test file with the plugin, as a user's project does."""
    (directory / "test_theirs.py").write_text(THEIR_TEST.format(**parts))
    done = run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_theirs.py"],
        cwd=directory,
        capture_output=True,
        text=True,
    )
    assert says in done.stdout, done.stdout + done.stderr


def test_a_fixture_rolls_back_what_a_test_commits(tmp_path: Path) -> None:
    run_their_test(tmp_path, override="", before=412)


@on_both_databases
@pytest.mark.slow(reason="makes several shops")
def test_a_fixture_rolls_back_in_an_existing_chinook(shop: ChinookDatabase, tmp_path: Path) -> None:
    before = shop.snapshot()
    run_their_test(tmp_path, override=OVERRIDE.format(url=shop.text), before=30)
    assert shop.snapshot() == before


RECIPE = """
from sqlalchemy import event

@pytest.fixture(scope="session")
def chinook_engine():
    engine = create_engine({url!r})

    @event.listens_for(engine, "connect")
    def connected(connection, record):
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begun(connection):
        connection.exec_driver_sql("BEGIN")

    return engine
"""


@on_variants(one_of_each()[1:])
@pytest.mark.slow(reason="starts a pytest")
def test_it_takes_an_engine_that_begins_transactions_itself(
    shop: ChinookDatabase, tmp_path: Path
) -> None:
    before = shop.snapshot()
    run_their_test(tmp_path, override=RECIPE.format(url=shop.text), before=30)
    assert shop.snapshot() == before


AUTOCOMMIT = """
@pytest.fixture(scope="session")
def chinook_engine():
    return create_engine({url!r}, isolation_level="AUTOCOMMIT")
"""


@on_one_postgresql
@pytest.mark.slow(reason="starts a pytest")
def test_it_refuses_an_engine_that_commits_every_statement(
    shop: ChinookDatabase, tmp_path: Path
) -> None:
    before = shop.snapshot()
    says = "InvalidInput: the connection is in AUTOCOMMIT mode"
    run_their_test(tmp_path, override=AUTOCOMMIT.format(url=shop.text), before=30, says=says)
    assert shop.snapshot() == before


# --- sessions and engines ------------------------------------------------------------------------

WITH_A_SESSION: dict[str, Callable[[Any], object]] = {
    "generate_d1": lambda session: generate_d1(session, 3, day=DAY),
    "simulate_changes": lambda session: simulate_changes(session, updates=1, day=DAY),
    "undo": lambda session: undo(session, day=DAY),
    "align": align,
    "SaleFactory.build": lambda session: SaleFactory(session).build(DAY),
    "SaleFactory.create": lambda session: SaleFactory(session).create(DAY),
    "SaleFactory.create_batch": lambda session: SaleFactory(session).create_batch(3, DAY),
}

WITH_AN_ENGINE: dict[str, Callable[[Any], object]] = {
    "backfill": lambda engine: list(backfill(engine, DAY, DAY, 3)),
    "live": lambda engine: next(live(engine, 400)),
    "recognise": recognise,
}

WITH_A_CONNECTION: dict[str, Callable[[Any], object]] = {
    "verify_all": verify_all,
    "verify_day": lambda connection: verify_day(connection, DAY),
    "verify_shape": verify_shape,
    "verify": verify,
    "invoice_history": lambda connection: invoice_history(connection, 1),
}

TO_SET_UP: dict[str, Callable[[Any], object]] = {"upgrade": upgrade, "initialise": initialise}


@pytest.mark.parametrize("work", [*WITH_A_CONNECTION.values(), *TO_SET_UP.values(), take_snapshot])
@on_both_databases
def test_what_is_no_connection_is_refused(
    shop: ChinookDatabase, work: Callable[[Any], object]
) -> None:
    for given in (shop.engine, Session(shop.engine), None):
        with pytest.raises(InvalidInput, match="expected a Connection, got"):
            work(given)


@on_both_databases
@pytest.mark.parametrize("call", WITH_A_SESSION)
def test_what_is_no_session_is_refused(shop: ChinookDatabase, call: str) -> None:
    with shop.engine.connect() as connection:
        for given in (connection, shop.engine, AsyncSession(), None):
            with pytest.raises(InvalidInput, match="Session"):
                WITH_A_SESSION[call](given)


@on_both_databases
def test_a_scoped_session_is_a_session(shop: ChinookDatabase) -> None:
    session = scoped_session(sessionmaker(shop.engine))
    recognise(session)
    for name, work in WITH_A_SESSION.items():
        if name != "undo":
            work(session)
    session.commit()
    WITH_A_SESSION["undo"](session)
    session.remove()


@on_both_databases
@pytest.mark.parametrize("place", ["engine", "connection"])
def test_a_translated_schema_is_refused_before_anything_is_written(
    shop: ChinookDatabase, place: str
) -> None:
    before = shop.snapshot()
    options = {"schema_translate_map": {None: "tenant2"}}
    engine = shop.engine.execution_options(**options)
    for work in WITH_A_SESSION.values():
        if place == "engine":
            with Session(engine) as session, pytest.raises(InvalidInput, match="translate"):
                work(session)
        else:
            with (
                shop.engine.connect().execution_options(**options) as connection,
                Session(connection) as session,
                pytest.raises(InvalidInput, match="translate"),
            ):
                work(session)
    for work in WITH_AN_ENGINE.values():
        with pytest.raises(InvalidInput, match="translate"):
            work(engine)
    with engine.connect() as connection:
        for work in WITH_A_CONNECTION.values():
            with pytest.raises(InvalidInput, match="translate"):
                work(connection)
        for work in TO_SET_UP.values():
            with pytest.raises(InvalidInput, match="translate"):
                work(connection)
    assert shop.snapshot() == before
    # What concerns other schemas is none of ours.
    other = shop.engine.execution_options(schema_translate_map={"theirs": "tenant2"})
    with Session(other) as session, session.begin():
        assert generate_d1(session, 3, day=DAY).count == 3


@on_variants([it for it in alternating_versions(migrated=True) if it.shape.postgresql][:2])
@pytest.mark.parametrize("driver", ["postgresql+psycopg", "postgresql+pg8000"])
def test_an_engine_that_commits_every_statement_is_refused(
    shop: ChinookDatabase, driver: str
) -> None:
    before = shop.snapshot()
    engine = shop.engine_for(driver).execution_options(isolation_level="AUTOCOMMIT")
    for work in WITH_A_SESSION.values():
        with Session(engine) as session, pytest.raises(InvalidInput, match="AUTOCOMMIT"):
            work(session)
    for name in ("backfill", "live"):
        with pytest.raises(InvalidInput, match="AUTOCOMMIT"):
            WITH_AN_ENGINE[name](engine)
    for work in TO_SET_UP.values():
        with engine.connect() as connection, pytest.raises(InvalidInput, match="AUTOCOMMIT"):
            work(connection)
    assert shop.snapshot() == before
    # To read single statements, it may be one.
    recognise(engine)
    with engine.connect() as connection:
        assert connection.execute(Invoice.__table__.select()).all()
        assert invoice_history(connection, 1).state == "exists"
        for name in ("verify_all", "verify_day", "verify_shape", "verify"):
            with pytest.raises(InvalidInput, match="AUTOCOMMIT"):
                WITH_A_CONNECTION[name](connection)
