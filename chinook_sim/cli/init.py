"""`init`: create or migrate a database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from chinook_sim.cli.database_report import describe_database, without_names
from chinook_sim.cli.options import Command, common_options, option, timeout_options
from chinook_sim.cli.output import progress_bar, table
from chinook_sim.cli.param_types import Integer, SpellingName
from chinook_sim.cli.transactions import transaction
from chinook_sim.errors import InvalidInput

if TYPE_CHECKING:
    from chinook_sim.cli.context import CliContext
    from chinook_sim.database.names import Spelling
    from chinook_sim.database.settings import Location
    from chinook_sim.provisioning.initialise import Made

__all__ = ["init", "make_missing_file"]

SAMPLE_ROWS = 15_600
"""Rows of the stand-in Chinook at scale 1, for the progress bar."""


def largest_scale() -> int:
    """Return the largest scale."""
    from chinook_sim.provisioning.sample_data import MAX_SCALE

    return MAX_SCALE


@click.command(cls=Command)
@option(
    "--scale",
    type=Integer("the scale", largest_scale, least=1),
    metavar="NUMBER",
    default=1,
    help="Size of the stand-in, as a multiple of the real Chinook.",
)
@option(
    "--from",
    "source",
    # It may be a URL, so the library looks for the file. The type completes names of files.
    type=click.Path(readable=False),
    metavar="FILE|URL",
    help="Load a real Chinook instead of the stand-in.",
)
@option(
    "--spelling",
    type=SpellingName(),
    metavar="CamelCase|snake_case",
    help='Names of the stand-in, "Invoice"."InvoiceId" or invoice.invoice_id. [default: CamelCase]',
)
@option(
    "--ledger-schema",
    metavar="NAME",
    help="PostgreSQL schema for the ledger's tables. [default: the schema of the shop]",
)
@common_options
@timeout_options
def init(
    settings: CliContext,
    scale: int,
    source: str | None,
    spelling: Spelling | None,
    ledger_schema: str | None,
) -> None:
    """Make a database ready.

    An existing Chinook is migrated; its own tables are not changed. An empty database gets the
    stand-in Chinook, with invented artists and customers, or the real one that --from names: a
    SQLite file, or an SQL script, for SQLite; a plain SQL dump for PostgreSQL. With --spelling, a
    Chinook with other names is refused. With --ledger-schema, publications of the shop's
    schema do not contain the ledger; the other commands find it without the option.
    """
    from tempfile import TemporaryDirectory

    from chinook_sim.database.introspection import recognise

    given = click.get_current_context().get_parameter_source("scale")
    if source is not None and given is ParameterSource.COMMANDLINE:
        raise InvalidInput("--from and --scale cannot be combined; give one of them")
    if source is not None:
        # The variable of --scale may be meant for other databases.
        scale = 1
    location = settings.find_database()
    if ledger_schema is not None and location.path is not None:
        raise InvalidInput(
            "--ledger-schema works with PostgreSQL only, and this is SQLite, "
            f"got {ledger_schema!r:.60}"
        )
    with TemporaryDirectory(prefix="chinook-sim-") as directory:
        path = None if source is None else fetch_source(location, source, Path(directory))
        made = make_missing_file(settings, location, scale=scale, source=path, spelling=spelling)
        # If another process made the file first, it may not be what was requested.
        if made in (None, "nothing"):
            from chinook_sim import initialise

            with (
                transaction(settings, location, writing=True) as connection,
                progress_bar(settings, "rows", SAMPLE_ROWS * scale if scale > 1 else 0) as step,
            ):
                made = initialise(
                    connection,
                    scale=scale,
                    source=path,
                    spelling=spelling,
                    ledger_schema=ledger_schema,
                    progress=step,
                ).made
    settings.committed = True
    with transaction(settings, location, writing=False) as connection:
        shop = describe_database(connection)
        left_out = recognise(connection).other_defaults
    if left_out:
        settings.say(f"the SQL functions are left out: they cannot take ids from {left_out}")
    happened = {
        "nothing": "already has a Chinook, which was not changed",
        "stand-in": "is a new stand-in Chinook",
        "copy": "is a copy of the given Chinook",
    }[made]
    settings.print(
        {"database": location.shown, "made": made, **shop},
        [f"{location.shown} {happened}", "", *table(without_names(shop))],
    )


def fetch_source(location: Location, source: str, directory: Path) -> Path:
    """Fetch the file to load a Chinook from, and check that it fits the database."""
    from chinook_sim.provisioning.source_file import fetch, kind

    path = fetch(source, directory)
    if kind(path) == "file" and location.path is None:
        raise InvalidInput(
            f"{path.name} is a SQLite file, but the database is PostgreSQL; use a SQLite database, "
            "or a plain SQL dump"
        )
    return path


def make_missing_file(
    settings: CliContext,
    location: Location,
    *,
    scale: int = 1,
    source: Path | None = None,
    spelling: Spelling | None = None,
) -> Made | None:
    """Make the SQLite file if it is missing; return what was made, or None."""
    path = location.path
    if path is None or not location.missing:
        return None
    from chinook_sim.provisioning.initialise import make_file

    settings.say(
        f"making {path.name}: {'a copy of ' + source.name if source else 'a stand-in Chinook'}"
    )
    with progress_bar(settings, "rows", SAMPLE_ROWS * scale if scale > 1 else 0) as step:
        return make_file(
            location, path, scale=scale, source=source, spelling=spelling, progress=step
        )
