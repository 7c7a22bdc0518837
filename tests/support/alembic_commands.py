"""Alembic, called as its users call it: on a connection of theirs, and as a process."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

from alembic import command as alembic
from alembic.config import Config

from support import ROOT
from support.processes import run

if TYPE_CHECKING:
    import subprocess

    from sqlalchemy import Connection

    from support.databases import ChinookDatabase

OURS = {
    "chinook_sim_version",
    "chinook_sim_created_table",
    "chinook_sim_run",
    "chinook_sim_change",
    "chinook_sim_run_invoices",
}
"""Our tables and views."""


def config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def downgrade(connection: Connection, revision: str = "base") -> None:
    alembic.downgrade(config(connection), revision)


def timeless(dump: str) -> str:
    """Leave out when a row of the ledger was written, and how a script is indented."""
    dump = re.sub(r"[ \t]+", " ", dump)
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[.\d+]*", "then", dump)


def alembic_process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    done: subprocess.CompletedProcess[str] = run(
        [sys.executable, "-m", "alembic", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    return done


def script(shop: ChinookDatabase, *arguments: str) -> str:
    done = alembic_process(*arguments, "--sql", DATABASE_URL=shop.text)
    assert done.returncode == 0, done.stderr
    return done.stdout
