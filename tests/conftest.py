"""Fixtures and hooks: real databases of every shape, and the real command."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from support import processes
from support.cases import ALL, DRIVERS, parameters
from support.chinook_variants import REAL
from support.command import run_as_process, run_in_process
from support.databases import ChinookDatabase, DatabaseTemplates
from support.postgres_server import MAJORS, Server, program
from support.roles import Role
from support.shared_run import SharedRun
from support.tiers import by_default, chooses_shops

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.command import Answer, Command

# A shell ignores SIGINT for what it runs in the background, and so would every command started from
# here, some of which the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Compiling what a process imports takes longer than all else that a command does.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

MEMORY = Path("/dev/shm")
"""Linux's file system in memory: a database is copied there in a tenth of the time."""

if "TMPDIR" not in os.environ and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 4 * 2**30:
    os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)

# No test fails because of the time that it takes: the machine may be busy.
hypothesis.settings.register_profile("default", deadline=None, max_examples=40)
hypothesis.settings.register_profile("full", deadline=None)

SETTINGS = ("PG", "NEON", "DATABASE_URL", "CHINOOK_SIM")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a person do more of some things than there is time for every time."""
    parser.addoption("--full", action="store_true", help="run every case of every test")
    parser.addoption("--kills", type=int, help="processes to kill, on each shop")
    parser.addoption("--interrupts", type=int, default=1, help="signals to send, to each command")
    parser.addoption("--steps", type=int, help="steps of the model, on each shop")


def pytest_xdist_auto_num_workers() -> int | None:
    """Run one worker more than there are processors: some tests wait."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    return 1 + (len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1)


RUN = pytest.StashKey[SharedRun]()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Let a worker use what is shared."""
    node.workerinput["directory"] = str(node.config.stash[RUN].directory)


def pytest_configure(config: pytest.Config) -> None:
    """Do less of what takes long, unless it is said how much."""
    worker: dict[str, str] | None = getattr(config, "workerinput", None)
    if worker:
        config.stash[RUN] = SharedRun(Path(worker["directory"]))
    else:
        opened = ExitStack()
        config.stash[RUN] = opened.enter_context(SharedRun.opened())
        config.add_cleanup(opened.close)
    full = config.getoption("--full")
    hypothesis.settings.load_profile("full" if full else "default")
    if config.option.kills is None:
        config.option.kills = 4 if full else 1
    if config.option.steps is None:
        config.option.steps = 50 if full else 25


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Name the servers, and say whether the real files are here."""
    versions = [
        subprocess.check_output([program(major, "postgres"), "-V"], text=True).split()[-1]
        for major in MAJORS
    ]
    return [
        "postgresql: " + ", ".join(versions),
        f"sqlite: {sqlite3.sqlite_version}",
        f"cases: {'all' if config.getoption('--full') else 'a choice, and all with --full'}",
        f"real Chinook files: {'here' if REAL.is_dir() else 'not here, their tests are left out'}",
    ]


def pytest_collection_finish() -> None:
    """Look for garbage seldom, and never among modules and tests, which stay."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def pytest_unconfigure() -> None:
    """End the server that forks processes."""
    processes.ForkServer.stop()


@pytest.fixture(autouse=True)
def scrubbed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let no setting of whoever runs the tests reach them."""
    for name in list(os.environ):
        if name.startswith(SETTINGS):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def templates(pytestconfig: pytest.Config) -> DatabaseTemplates:
    return DatabaseTemplates(pytestconfig.stash[RUN])


@pytest.fixture(params=MAJORS, ids=lambda major: f"pg{major}")
def server(templates: DatabaseTemplates, request: pytest.FixtureRequest) -> Server:
    return templates.server(request.param)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes a shop on shops of every kind, unless it chooses for itself."""
    if "shop" not in metafunc.fixturenames or chooses_shops(metafunc.definition):
        return
    if "driver" in metafunc.fixturenames:
        pairs = [
            pytest.param(case, driver, id=f"{case.id}-{driver.rpartition('+')[2]}")
            for case in ALL
            for driver in DRIVERS[case.shape.postgresql]
        ]
        metafunc.parametrize(("shop", "driver"), pairs, indirect=["shop"])
    else:
        metafunc.parametrize("shop", parameters(ALL), indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only `--full` runs, unless tests are named."""
    if config.getoption("--full") or any("::" in argument for argument in config.args):
        return
    chosen = by_default(items)
    config.hook.pytest_deselected(items=[*{*items} - {*chosen}])
    items[:] = chosen


@pytest.fixture
def shop(
    templates: DatabaseTemplates, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[ChinookDatabase]:
    """A shop of each shape, on each server, migrated by us and not."""
    shop = templates.copy(request.param, tmp_path)
    yield shop
    shop.close()


@pytest.fixture
def process(tmp_path: Path) -> Command:
    """Run `chinook-sim` as a process of its own, in an empty directory.

    For what a process is needed for: signals, pipes, encodings, several at once.
    """

    def run(
        *arguments: str, stdin: str | bytes | None = None, cwd: Path = tmp_path, **environment: str
    ) -> Answer:
        return run_as_process(*arguments, stdin=stdin, cwd=cwd, **environment)

    return run


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Run `chinook-sim` inside this process, in an empty directory: a tenth of the time."""

    def run(
        *arguments: str, stdin: str | bytes = b"", cwd: Path = tmp_path, **environment: str
    ) -> Answer:
        return run_in_process(*arguments, stdin=stdin, cwd=cwd, **environment)

    return run


@pytest.fixture
def stocked(tmp_path: Path, stand_in: Path) -> Path:
    """A directory in which `generate` has been run before."""
    path = tmp_path / "chinook.db"
    path.write_bytes(stand_in.read_bytes())
    return path


@pytest.fixture(scope="session")
def stand_in(pytestconfig: pytest.Config) -> Path:
    """A stand-in Chinook, made once."""
    run = pytestconfig.stash[RUN]

    def make() -> Path:
        directory = Path(tempfile.mkdtemp(dir=run.directory))
        init = [sys.executable, "-m", "chinook_sim", "init", "-q"]
        processes.run(init, cwd=directory, check=True)
        return directory / "chinook.db"

    return Path(run.once("stand-in", make))


@pytest.fixture
def role(shop: ChinookDatabase) -> Iterator[Role]:
    """A role on PostgreSQL that may log in, and nothing else."""
    name = f"role_{shop.url.database}"
    # Before PostgreSQL 15 everybody might make tables in public; here nobody may.
    shop.execute(
        f"CREATE ROLE {name} LOGIN PASSWORD 'x'", "REVOKE ALL ON SCHEMA public FROM PUBLIC"
    )
    role = Role(shop, name)
    yield role
    shop.execute(f"DROP OWNED BY {name}", f"DROP ROLE {name}")
