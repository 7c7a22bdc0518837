"""Databases for tests: templates that are built once, and copies that one test has to itself."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import threading
import weakref
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Engine, create_engine
from sqlalchemy.pool import NullPool

from support.chinook_variants import REAL, TABLES, Shape, build_postgresql, build_sqlite, load_real

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

    from support.cases import DatabaseVariant
    from support.postgres_server import Server
    from support.shared_run import SharedRun


class DatabaseTemplates:
    """Servers and template databases, made when a process of the run first needs them."""

    def __init__(self, run: SharedRun) -> None:
        self._run = run
        self._servers: dict[int, Server] = {}
        self._templates: dict[DatabaseVariant, str] = {}

    def server(self, major: int) -> Server:
        """Return the server of a major version."""
        if major not in self._servers:
            self._servers[major] = self._run.server(major)
        return self._servers[major]

    def copy(self, case: DatabaseVariant, directory: Path) -> ChinookDatabase:
        """Return a copy of a template that nobody else uses."""
        template = self._template(case)
        if case.major is None:
            path = directory / f"{case.shape.name}.sqlite"
            shutil.copyfile(template, path)
            return ChinookDatabase(case.shape, URL.create("sqlite", database=str(path)))
        server = self.server(case.major)
        database = server.create_database(template)
        return ChinookDatabase(case.shape, server.url(database), server)

    def _template(self, case: DatabaseVariant) -> str:
        if case not in self._templates:
            name = f"{case.id}-real" if case.real else case.id
            self._templates[case] = self._run.once(name, lambda: self._make(case))
        return self._templates[case]

    def _make(self, case: DatabaseVariant) -> str:
        if case.major is None:
            path = Path(tempfile.mkdtemp(dir=self._run.directory)) / "template.sqlite"
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


@dataclass
class ChinookDatabase:
    """A database of one shape, and another connection to look at it."""

    shape: Shape
    url: URL
    server: Server | None = None
    _engines: list[Engine] = field(default_factory=list)
    _other: psycopg.Connection[tuple[Any, ...]] | None = None

    @cached_property
    def engine(self) -> Engine:
        """An engine as any user would make it, with no help from chinook_sim."""
        return self.engine_for(self.url.drivername)

    def engine_for(self, driver: str) -> Engine:
        """Return an engine with another driver."""
        # The server speaks no TLS; to ask for it, pg8000 reads every certificate there is.
        given = {"ssl_context": False} if driver.endswith("pg8000") else {}
        engine = create_engine(self.url.set(drivername=driver), connect_args=given)
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
        with self._connected() as connection:
            return connection.execute(self.sql(statement)).fetchall()

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        """Provide a connection in autocommit mode that is kept for the next statements."""
        assert self.server is not None
        if threading.current_thread() is not threading.main_thread():
            # Others may be waiting: one connection would make them wait for each other.
            with self.server.connect(self.url.database or "") as other:
                yield other
            return
        if self._other is None or self._other.closed:
            self._other = self.server.connect(self.url.database or "")
            # A prepared statement would fail once its table has other columns.
            self._other.prepare_threshold = None
            weakref.finalize(self, self._other.close)
        yield self._other

    def _disconnect(self) -> None:
        if self._other is not None:
            self._other.close()
            self._other = None

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
        with self._connected() as other:
            for statement in statements:
                other.execute(self.sql(statement))
        if any(it.startswith(("ALTER DATABASE", "ALTER ROLE")) for it in statements):
            # A session keeps the settings that it began with.
            self._disconnect()
            for engine in self._engines:
                engine.dispose()

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
            self._disconnect()
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
        self._disconnect()
        if self.server is not None:
            self.server.drop_database(self.url.database or "")


def without_keys(shop: ChinookDatabase) -> None:
    """Take the foreign keys away, which would not let such a thing be."""
    if shop.server is None:
        return
    with shop.server.connect(shop.url.database or "") as connection:
        keys = connection.execute(
            "SELECT conrelid::regclass::text, quote_ident(conname) FROM pg_constraint "
            "WHERE contype = 'f'"
        ).fetchall()
        for table, key in keys:
            connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {key}")
