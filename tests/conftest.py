"""The ground that the tests stand on: real databases of every shape, and the real command."""

from __future__ import annotations

import io
import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import weakref
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import processes
import pytest
from postgres import MAJORS, PASSWORD, Server, program
from shapes import REAL, SHAPES, TABLES, Shape, build_postgresql, build_sqlite, load_real
from sqlalchemy import URL, Engine, create_engine
from sqlalchemy.pool import NullPool
from tiers import by_default, chooses_shops

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psycopg

    Command = Callable[..., "Answer"]

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

SETTINGS = ("PG", "NEON", "DATABASE_URL", "CHINOOK_SIM")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a person do more of some things than there is time for every time."""
    parser.addoption("--full", action="store_true", help="run every case of every test")
    parser.addoption("--kills", type=int, help="processes to kill, on each shop")
    parser.addoption("--interrupts", type=int, default=1, help="signals to send, to each command")
    parser.addoption("--steps", type=int, help="steps of the model, on each shop")


def pytest_configure(config: pytest.Config) -> None:
    """Do less of what takes long, unless it is said how much."""
    full = config.getoption("--full")
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


class Ground:
    """Servers and template databases, made when they are first needed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._open = ExitStack()
        self._servers: dict[int, Server] = {}
        self._templates: dict[Case, str] = {}

    def __enter__(self) -> Ground:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def server(self, major: int) -> Server:
        """Return the server of a major version."""
        if major not in self._servers:
            # What it writes can be followed, as test_replication.py does; and nobody tidies up
            # databases that live for a second.
            settings = ("wal_level=logical", "full_page_writes=off", "autovacuum=off")
            self._servers[major] = self._open.enter_context(Server(major, *settings))
        return self._servers[major]

    def shop(self, case: Case, directory: Path) -> Shop:
        """Return a copy of a template that nobody else uses."""
        template = self._template(case)
        if case.major is None:
            path = directory / f"{case.shape.name}.sqlite"
            shutil.copyfile(template, path)
            return Shop(case.shape, URL.create("sqlite", database=str(path)))
        server = self.server(case.major)
        database = server.create_database(template)
        return Shop(case.shape, server.url(database), server)

    def _template(self, case: Case) -> str:
        if case not in self._templates:
            self._templates[case] = self._make(case)
        return self._templates[case]

    def _make(self, case: Case) -> str:
        if case.major is None:
            path = self._directory / f"{len(self._templates)}.sqlite"
            if case.real:
                shutil.copyfile(REAL / case.shape.file, path)
                path.chmod(0o644)
            else:
                build_sqlite(case.shape, path)
            name, url = str(path), URL.create("sqlite", database=str(path))
        else:
            server = self.server(case.major)
            name = server.create_database()
            if case.real:
                load_real(case.shape, server, name)
            else:
                build_postgresql(case.shape, server, name)
            url = server.url(name)
        if case.migrated:
            from chinook_sim.provisioning.migration_runner import upgrade

            engine = create_engine(url, poolclass=NullPool)
            with engine.begin() as connection:
                upgrade(connection)
        return name


@dataclass(frozen=True)
class Case:
    """A database that tests are run on."""

    shape: Shape
    major: int | None
    migrated: bool = False
    real: bool = False

    @property
    def id(self) -> str:
        server = f"-pg{self.major}" if self.major else ""
        return f"{self.shape.name}{server}{'-migrated' if self.migrated else ''}"


def cases(*, migrated: bool = False, real: bool = False) -> list[Case]:
    """Return every shape, on every server that it can be on."""
    return [
        Case(shape, major, migrated, real)
        for shape in SHAPES
        for major in (MAJORS if shape.postgresql else (None,))
    ]


def by_turns(*, migrated: bool = False) -> list[Case]:
    """Return every shape once, on the servers by turns: for what takes long."""
    majors = {shape: MAJORS[place % 2] for place, shape in enumerate(SHAPES)}
    return [case for case in cases(migrated=migrated) if case.major in (None, majors[case.shape])]


def one_of_each() -> list[Case]:
    """Return one shape on PostgreSQL and one on SQLite: for processes, which take long to start."""
    by_kind = {case.shape.postgresql: case for case in by_turns(migrated=True)}
    return list(by_kind.values())


def parameters(chosen: list[Case], *marks: pytest.MarkDecorator) -> list[Any]:
    return [pytest.param(case, id=case.id, marks=marks) for case in chosen]


ALL = [*cases(), *cases(migrated=True)]

DRIVERS = {True: ("postgresql+psycopg", "postgresql+pg8000"), False: ("sqlite",)}
"""Whether it is PostgreSQL → drivers, each with a way of writing of its own."""


@dataclass
class Shop:
    """A database of one shape, and another connection to look at it."""

    shape: Shape
    url: URL
    server: Server | None = None
    _engines: list[Engine] = field(default_factory=list)
    _reader: psycopg.Connection[tuple[Any, ...]] | None = None

    @cached_property
    def engine(self) -> Engine:
        """An engine as any user would make it, with no help from chinook_sim."""
        return self.engine_for(self.url.drivername)

    def engine_for(self, driver: str) -> Engine:
        """Return an engine with another driver."""
        # The server speaks no TLS; to ask for it, pg8000 reads every certificate there is.
        given = {"ssl_context": False} if driver.endswith("pg8000") else {}
        engine = create_engine(
            self.url.set(drivername=driver), poolclass=NullPool, connect_args=given
        )
        self._engines.append(engine)
        return engine

    @property
    def text(self) -> str:
        """The URL with its password."""
        return self.url.render_as_string(hide_password=False)

    @property
    def path(self) -> Path:
        return Path(self.url.database or "")

    def sql(self, statement: str) -> str:
        """Spell the names in [brackets] as this database does."""
        parts = statement.replace("]", "[").split("[")
        return "".join(
            self.shape.spell(part) if position % 2 else part for position, part in enumerate(parts)
        )

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Read what is committed, through another connection; names in [brackets]."""
        if self.server is None:
            with closing(sqlite3.connect(self.path)) as connection:
                return connection.execute(self.sql(statement)).fetchall()
        if threading.current_thread() is not threading.main_thread():
            # Others may be waiting: one connection would make them wait for each other.
            with self.server.connect(self.url.database or "") as other:
                return other.execute(self.sql(statement)).fetchall()
        if self._reader is None:
            self._reader = self.server.connect(self.url.database or "")
            # A prepared statement would fail once its table has other columns.
            self._reader.prepare_threshold = None
            weakref.finalize(self, self._reader.close)
        return self._reader.execute(self.sql(statement)).fetchall()

    def _forget_reader(self) -> None:
        """Let the next read connect anew: a session keeps the settings that it began with."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def value(self, statement: str) -> Any:
        """Read one value."""
        return self.rows(statement)[0][0]

    def execute(self, *statements: str) -> None:
        """Change something, through another connection, and commit."""
        if self.server is None:
            with closing(sqlite3.connect(self.path)) as connection, connection:
                for statement in statements:
                    connection.execute(self.sql(statement))
            return
        self._forget_reader()
        with self.server.connect(self.url.database or "") as other:
            for statement in statements:
                other.execute(self.sql(statement))

    def snapshot(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return every row of every table as it is kept, with the types that SQLite gave it."""
        found = {}
        for table, columns in TABLES.items():
            names = [word.split(":")[0] for word in columns.split()]
            wanted = ", ".join(f"[{name}]" for name in names)
            if self.server is None:
                wanted += ", " + ", ".join(f"typeof([{name}])" for name in names)
            order = ", ".join(f"[{name}]" for name in names[:2])
            found[table] = self.rows(f"SELECT {wanted} FROM [{table}] ORDER BY {order}")
        return found

    def dump(self) -> str:
        """Return everything there is in the database, as SQL."""
        if self.server is not None:
            return self.server.dump(self.url.database or "")
        with closing(sqlite3.connect(self.path)) as connection:
            return "\n".join(connection.iterdump())

    def run_script(self, script: str) -> None:
        """Run a script with the database's own client, as a person would."""
        if self.server is not None:
            self._forget_reader()
            self.server.psql(self.url.database or "", script)
            return
        with closing(sqlite3.connect(self.path)) as connection:
            connection.executescript(script)

    def insert_by_default(self) -> int:
        """Insert an invoice with a line, leaving the ids to the database; return the invoice's."""
        customer = self.value("SELECT min([CustomerId]) FROM [Customer]")
        track = self.value("SELECT min([TrackId]) FROM [Track]")
        (invoice,) = self._returning(
            "INSERT INTO [Invoice] ([CustomerId], [InvoiceDate], [Total]) "
            f"VALUES ({customer}, '2001-01-01 00:00:00', 0.99) RETURNING [InvoiceId]"
        )
        self._returning(
            "INSERT INTO [InvoiceLine] ([InvoiceId], [TrackId], [UnitPrice], [Quantity]) "
            f"VALUES ({invoice}, {track}, 0.99, 1) RETURNING [InvoiceLineId]"
        )
        return int(invoice)

    def _returning(self, statement: str) -> tuple[Any, ...]:
        if self.server is None:
            with closing(sqlite3.connect(self.path)) as connection, connection:
                row: tuple[Any, ...] = connection.execute(self.sql(statement)).fetchone()
                return row
        return self.rows(statement)[0]

    def close(self) -> None:
        for engine in self._engines:
            engine.dispose()
        self._forget_reader()
        if self.server is not None:
            self.server.drop_database(self.url.database or "")


@pytest.fixture(scope="session")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with Ground(tmp_path_factory.mktemp("ground")) as ground:
        yield ground


@pytest.fixture(params=MAJORS, ids=lambda major: f"pg{major}")
def server(ground: Ground, request: pytest.FixtureRequest) -> Server:
    return ground.server(request.param)


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
def shop(ground: Ground, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    """A shop of each shape, on each server, migrated by us and not."""
    shop = ground.shop(request.param, tmp_path)
    yield shop
    shop.close()


class Answer(NamedTuple):
    """What a command ended with."""

    returncode: int
    stdout: str
    stderr: str


def _answer(code: int, output: bytes, errors: bytes) -> Answer:
    answer = Answer(code, output.decode(), errors.decode())
    for said in answer[1:]:
        assert "Traceback" not in said, said
        assert PASSWORD not in said, said
    return answer


@pytest.fixture
def process(tmp_path: Path) -> Command:
    """Run `chinook-sim` as a process of its own, in an empty directory.

    For what a process is needed for: signals, pipes, encodings, several at once.
    """

    def run(
        *arguments: str, stdin: str | bytes | None = None, cwd: Path = tmp_path, **environment: str
    ) -> Answer:
        given = stdin.encode() if isinstance(stdin, str) else stdin
        done = processes.run(
            [sys.executable, "-m", "chinook_sim", *arguments],
            cwd=cwd,
            env={**os.environ, "PYTHONUTF8": "1", **environment},
            input=b"" if given is None else given,
            capture_output=True,
        )
        return _answer(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Run `chinook-sim` inside this process, in an empty directory: a tenth of the time."""

    def run(
        *arguments: str, stdin: str | bytes = b"", cwd: Path = tmp_path, **environment: str
    ) -> Answer:
        given = stdin.encode() if isinstance(stdin, str) else stdin
        streams = [
            io.TextIOWrapper(io.BytesIO(content), "utf-8", write_through=True)
            for content in (given, b"", b"")
        ]
        with _as_it_was(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["chinook-sim", *arguments])
            for name, stream in zip(("stdin", "stdout", "stderr"), streams, strict=True):
                patch.setattr(sys, name, stream)
            for name, value in environment.items():
                patch.setenv(name, value)
            patch.chdir(cwd)
            with pytest.raises(SystemExit) as ended:
                main()
        output, errors = (stream.buffer.getvalue() for stream in streams[1:])
        return _answer(int(ended.value.code or 0), output, errors)

    from chinook_sim.cli import main

    return run


@contextmanager
def _as_it_was() -> Iterator[None]:
    """Undo what the command changes in its process, which it otherwise ends."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    environment, hook = dict(os.environ), sys.unraisablehook
    loggers = [logging.getLogger(name) for name in ("chinook_sim", "psycopg", "sqlalchemy")]
    logged = [(logger, logger.level, logger.handlers[:]) for logger in loggers]
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.environ.clear()
        os.environ.update(environment)
        sys.unraisablehook = hook
        for logger, level, known in logged:
            logger.setLevel(level)
            logger.handlers[:] = known


@pytest.fixture
def stocked(tmp_path: Path, stand_in: Path) -> Path:
    """A directory in which `generate` has been run before."""
    path = tmp_path / "chinook.db"
    path.write_bytes(stand_in.read_bytes())
    return path


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stand-in Chinook, made once."""
    directory = tmp_path_factory.mktemp("stand-in")
    processes.run([sys.executable, "-m", "chinook_sim", "init", "-q"], cwd=directory, check=True)
    return directory / "chinook.db"
