"""Interruptions: at any moment, of any command and any call, they end it and nothing is half done.

Calls are interrupted at random function calls of ours, SQLAlchemy and the driver, which is where
Python runs signal handlers. Commands get real signals, at random moments. `--interrupts 60` does
more of both.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from chinook_sim import align, backfill, generate_d1, live, undo
from chinook_sim.database.interrupts import interruptible
from support.cases import on_both_databases, one_of_each
from support.postgres_server import PASSWORD
from support.processes import Popen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import FrameType

    from sqlalchemy import Engine

    from support.databases import ChinookDatabase, DatabaseTemplates

DAY = date(2026, 1, 30)
CHANGES = {
    "updates": 3, "cancellations": 2, "new_customers": 2, "moves": 2, "price_changes": 2,
}  # fmt: skip


def make(engine: Engine, n: int = 30, **wanted: Any) -> str:
    with Session(engine) as session, session.begin():
        return str(generate_d1(session, n, day=DAY, **wanted).run_id)


def undo_one(engine: Engine, run: str) -> None:
    with Session(engine) as session, session.begin():
        undo(session, run)


def move(engine: Engine) -> None:
    with Session(engine) as session, session.begin():
        align(session)


def changing(engine: Engine) -> Callable[[], object]:
    return lambda: make(engine, 5, seed=8, **CHANGES)


def undoing(engine: Engine) -> Callable[[], object]:
    run = make(engine, 5, seed=8, **CHANGES)
    return lambda: undo_one(engine, run)


def filling(engine: Engine) -> Callable[[], object]:
    return lambda: list(backfill(engine, DAY - timedelta(days=2), DAY, 30, seed=3))


def selling(engine: Engine) -> Callable[[], object]:
    return lambda: list(live(engine, 300, duration=0.05, seed=5))


CALLS: dict[str, Callable[[Engine], Callable[[], object]]] = {
    "generate_d1": lambda engine: lambda: make(engine, seed=7),
    "changes": changing,
    "undo": undoing,
    "align": lambda engine: lambda: move(engine),
    "backfill": filling,
    "live": selling,
}


class Interruption:
    """Raises KeyboardInterrupt at some call of a function, as a signal handler may.

    Never in the pool of SQLAlchemy: it loses count of a connection that it is just handing out or
    taking back. That is a dozen of the 14,000 calls of a batch.
    """

    def __init__(self, at: int) -> None:
        self.calls = 0
        self._at = at
        self._raised = False

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        concerned = ("chinook_sim", "sqlalchemy", "psycopg")
        if not event.endswith("call") or not any(
            it in frame.f_code.co_filename for it in concerned
        ):
            return
        self.calls += 1
        if 0 < self._at <= self.calls and not in_pool(frame):
            sys.setprofile(None)
            self._raised = True
            raise KeyboardInterrupt

    def run(self, work: Callable[[], object]) -> bool:
        """Return whether the interruption came out."""
        # What a destructor is interrupted in goes on, here as with signals.
        ignored: list[Any] = []
        hook, sys.unraisablehook = sys.unraisablehook, ignored.append
        sys.setprofile(self)
        try:
            work()
        except KeyboardInterrupt:
            return True
        finally:
            sys.setprofile(None)
            sys.unraisablehook = hook
        # A stream makes fewer calls at another time, and may end before it.
        assert ignored or not self._raised, "the interruption was lost"
        return False


def in_pool(frame: FrameType | None) -> bool:
    """Return whether a pool runs, and no driver or code of ours that it called."""
    while frame is not None:
        file = frame.f_code.co_filename
        if "chinook_sim" in file or "psycopg" in file:
            return False
        if "sqlalchemy/pool" in file:
            return True
        frame = frame.f_back
    return False


# What is left in a destructor is told there, and warned of.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@on_both_databases
@pytest.mark.parametrize("call", CALLS)
def test_a_call_is_interrupted_anywhere(
    shop: ChinookDatabase,
    call: str,
    pytestconfig: pytest.Config,
    templates: DatabaseTemplates,
    tmp_path: Path,
) -> None:
    case = next(it for it in one_of_each() if it.shape == shop.shape)
    counted = Interruption(0)
    seed = random.randrange(10**6)
    print("seed", seed)  # noqa: T201 - shown when it fails
    rng = random.Random(seed)
    # The first time what is imported and compiled is counted as well.
    for place, number in enumerate([0, 0, *range(pytestconfig.getoption("--interrupts"))]):
        directory = tmp_path / f"{place}"
        directory.mkdir()
        fresh = templates.copy(case, directory)
        # With a pool, which must not get a connection in the middle of a command.
        engine = create_engine(fresh.url)
        work = CALLS[call](engine)
        before = fresh.snapshot()
        if place == 0:
            work()
        elif place == 1:
            counted = Interruption(number)
            counted.run(work)
        elif Interruption(rng.randint(1, counted.calls)).run(work):
            gc.collect()
            assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
            sound(fresh, call, before)
            make(engine)
        engine.dispose()
        fresh.close()


def sound(shop: ChinookDatabase, call: str, before: dict[str, list[tuple[Any, ...]]]) -> None:
    """Check that all or nothing was done; a signal may come right after COMMIT."""
    after, kind = shop.snapshot(), {"align": "align"}.get(call, "generate")
    runs = shop.rows(
        f"SELECT sales, undone_at FROM chinook_sim_run WHERE kind IN ('{kind}', 'live')"
    )
    made = sum(sales for sales, undone in runs if undone is None and kind == "generate")
    done = any(undone for _, undone in runs) if call == "undo" else bool(runs)
    if done:
        if call in ("generate_d1", "backfill", "live"):
            assert len(after["Invoice"]) - len(before["Invoice"]) <= made
            assert made or call == "live"
    else:
        assert after == before


def test_an_interruption_is_raised_instead_of_the_errors_it_led_to() -> None:
    with pytest.raises(KeyboardInterrupt), interruptible():
        try:
            raise KeyboardInterrupt
        finally:
            raise ConnectionError
    # One that was there before the block led to nothing in it.
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        with pytest.raises(ConnectionError), interruptible():
            raise ConnectionError from None


def test_the_exit_status_holds_where_a_string_was_executed(tmp_path: Path) -> None:
    (tmp_path / "probe.py").write_text(
        "import chinook_sim.cli as cli\n"
        "cli.load_dotenv = lambda _: exec('raise KeyboardInterrupt')\n"
        "cli.main()\n"
    )
    probe = [sys.executable, "-m", "probe"]
    done = subprocess.run(probe, cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert done.returncode == 130


class Works:
    """Commands, what each needs before it, and what must be there after it."""

    def __init__(
        self, shop: ChinookDatabase, templates: DatabaseTemplates, directory: Path
    ) -> None:
        self.shop = shop
        self.templates = templates
        self.directory = directory
        self.url = shop.text
        self.number = 0

    def arguments(self, work: str) -> list[str]:
        """Return the arguments of a command, once more."""
        self.number += 1
        if work == "generate":
            return ["generate", "200", "--updates", "3"]
        if work == "undo":
            return ["undo", make(self.shop.engine, 100)]
        if work == "align":
            with suppress(Exception), Session(self.shop.engine) as session, session.begin():
                undo(session, key="align")
            return ["align"]
        if work == "live":
            return ["live", "--rate", "200", "--for", "1s"]
        if work == "backfill":
            first = date(2020, 1, 1) + timedelta(days=3 * self.number)
            return ["backfill", str(first), str(first + timedelta(days=2)), "--per-day", "100"]
        if self.shop.server is None:
            self.url = f"sqlite:///{self.directory / str(self.number)}.db"
        else:
            name = self.shop.server.create_database()
            self.url = self.shop.server.url(name).render_as_string(hide_password=False)
        return ["init"]

    def start(self, work: str) -> subprocess.Popen[str]:
        """Start a command."""
        return Popen(
            [sys.executable, "-m", "chinook_sim", *self.arguments(work)],
            env={**os.environ, "DATABASE_URL": self.url},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def check(self) -> None:
        """Check that the ledger and the tables agree."""
        if self.url != self.shop.text:
            # Nothing, or a shop that is ready; and nothing beside it.
            names = {path.name.partition(".")[2] for path in self.directory.iterdir()}
            assert names <= {"db"}, names
            return
        made = self.shop.value(
            "SELECT coalesce(sum(sales), 0) FROM chinook_sim_run "
            "WHERE kind IN ('generate', 'live') AND undone_at IS NULL"
        )
        gone = self.shop.value(
            "SELECT count(*) FROM chinook_sim_change c JOIN chinook_sim_run r "
            "ON r.run_id = c.run_id WHERE c.kind = 'cancellation' AND r.undone_at IS NULL"
        )
        assert self.shop.value("SELECT count(*) FROM [Invoice]") == 30 + made - gone


@on_both_databases
@pytest.mark.parametrize("work", ["generate", "undo", "align", "init", "live", "backfill"])
def test_a_command_is_interrupted_at_any_moment(
    shop: ChinookDatabase,
    templates: DatabaseTemplates,
    tmp_path: Path,
    work: str,
    pytestconfig: pytest.Config,
) -> None:
    directory = tmp_path / "files"
    directory.mkdir()
    works = Works(shop, templates, directory)
    begun = time.monotonic()
    with works.start(work) as process:
        _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    whole = time.monotonic() - begun
    for turn in range(pytestconfig.getoption("--interrupts")):
        number = (signal.SIGTERM, signal.SIGINT)[turn % 2]
        moment = random.uniform(0.05, whole)
        with works.start(work) as process:
            time.sleep(moment)
            process.send_signal(number)
            shown, said = process.communicate(timeout=120)
        told = f"after {moment:.3f} of {whole:.3f} s: {process.returncode}, {said!r}"
        if process.returncode != -number:
            assert "Traceback" not in said, told
            assert PASSWORD not in said, told
            if process.returncode == 0:
                assert shown or "interrupted after everything was committed" in said, told
            else:
                assert process.returncode == 130, told
                assert said.splitlines()[-1].startswith("Error: interrupted"), told
                assert said.count("Error") == 1, told
        # Otherwise Python was still starting, and had not run a line of ours.
        works.check()


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
