"""The privileges that `init`, upgrades and `verify` need."""

from __future__ import annotations

import json
import re
from datetime import date
from typing import TYPE_CHECKING

import pytest
from sqlalchemy.orm import Session

from chinook_sim import generate_d1
from chinook_sim.provisioning.migration_runner import upgrade
from support.cases import (
    cases,
    on_each_postgresql_shape,
    on_each_postgresql_shape_unmigrated,
    on_two_postgresql_shapes,
    on_variants,
)
from support.chinook_variants import SHAPES
from support.roles import Role, climb, spelled

if TYPE_CHECKING:
    from pathlib import Path

    from support.command import Command
    from support.databases import ChinookDatabase

DAY = date(2026, 1, 31)


@on_each_postgresql_shape_unmigrated
def test_an_upgrade_says_which_privileges_it_lacks(shop: ChinookDatabase, role: Role) -> None:
    def work() -> None:
        with role.connect() as connection, connection.begin():
            upgrade(connection)

    climb(
        role,
        work,
        spelled(shop, "SELECT ON [Invoice]", "SELECT ON [InvoiceLine]")
        | {"CREATE ON SCHEMA public"},
    )
    assert shop.value("SELECT count(*) FROM chinook_sim_run") == 1


@on_each_postgresql_shape
def test_status_shows_what_a_role_may_see(
    shop: ChinookDatabase, role: Role, command: Command
) -> None:
    role.grant("USAGE ON SCHEMA public")
    role.grant(*spelled(shop, "SELECT ON [Invoice]", "SELECT ON [Customer]"))
    url = shop.url.set(username=role.name, password="x").render_as_string(hide_password=False)
    told = json.loads(command("status", "--json", DATABASE_URL=url).stdout)
    assert (told["invoices"], told["customers"]) == (30, 12)
    for name in ("tracks", "revision", "runs"):
        assert told[name].startswith("not readable: permission denied for table"), told
    assert told["latest_runs"] == []
    done = command("status", DATABASE_URL=url)
    assert done.returncode == 0
    assert "not readable: permission denied for table chinook_sim_version" in done.stdout


@on_two_postgresql_shapes
@pytest.mark.parametrize("options", [("--all",), ("--day", str(DAY)), ("--shape", "--all")])
def test_verify_names_all_that_it_may_not_read(
    shop: ChinookDatabase, role: Role, command: Command, options: tuple[str, ...]
) -> None:
    with Session(shop.engine) as session, session.begin():
        generate_d1(session, 5, day=DAY)
    role.grant("USAGE ON SCHEMA public")
    url = shop.url.set(username=role.name, password="x").render_as_string(hide_password=False)
    done = command("verify", *options, DATABASE_URL=url)
    assert done.returncode == 3
    named = re.findall(r"GRANT (SELECT ON [^;]*?) TO \w+", done.stderr)
    assert len(named) == 7
    role.grant(*named)
    assert command("verify", *options, DATABASE_URL=url).returncode == 0


@on_each_postgresql_shape
def test_init_of_what_is_ready_names_what_it_may_not_read(
    shop: ChinookDatabase, role: Role, command: Command
) -> None:
    role.grant("USAGE ON SCHEMA public")
    url = shop.url.set(username=role.name, password="x").render_as_string(hide_password=False)
    done = command("init", DATABASE_URL=url)
    assert done.returncode == 3
    named = re.findall(r"GRANT (SELECT ON [^;]*?) TO \w+", done.stderr)
    assert len(named) == 2
    role.grant(*named)
    done = command("init", DATABASE_URL=url)
    assert done.returncode == 0, done.stderr


def init(role: Role, command: Command, *options: str) -> list[str]:
    """Let a role run `init` on its shop; return the GRANTs that it names, which are then given."""
    url = role.shop.url.set(username=role.name, password="x")
    done = command("init", *options, DATABASE_URL=url.render_as_string(hide_password=False))
    assert done.returncode in (0, 3), done.stderr
    named = re.findall(r"GRANT (\w+ ON [^;]*?) TO \w+", done.stderr)
    assert done.returncode == 0 or named, done.stderr
    role.grant(*named)
    return named


@on_each_postgresql_shape_unmigrated
def test_init_names_all_that_it_lacks_at_once(
    shop: ChinookDatabase, role: Role, command: Command
) -> None:
    role.grant("USAGE ON SCHEMA public")
    assert len(init(role, command, "--ledger-schema", "apart")) == 5
    assert init(role, command, "--ledger-schema", "apart") == []


@on_variants([case for case in cases() if case.shape.name == "postgres-neon"])
@pytest.mark.slow(reason="as of a Chinook that is there")
def test_init_of_an_empty_database_names_all_that_it_lacks(
    shop: ChinookDatabase, role: Role, command: Command
) -> None:
    shop.execute("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    assert init(role, command) == ["USAGE ON SCHEMA public", "CREATE ON SCHEMA public"]
    assert init(role, command) == []


@on_each_postgresql_shape_unmigrated
def test_init_from_a_dump_names_what_it_lacks(
    shop: ChinookDatabase, role: Role, command: Command, tmp_path: Path
) -> None:
    dump = tmp_path / "chinook.sql"
    dump.write_text(";\n".join((*SHAPES[1].schema(), "")))
    shop.execute("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    role.grant("USAGE ON SCHEMA public")
    assert init(role, command, "--from", str(dump)) == ["CREATE ON SCHEMA public"]


@on_each_postgresql_shape
def test_an_upgrade_by_another_role_names_the_owner(
    shop: ChinookDatabase, role: Role, command: Command
) -> None:
    shop.execute("UPDATE chinook_sim_version SET version_num = '0007'")
    role.grant("ALL ON SCHEMA public", "SELECT ON ALL TABLES IN SCHEMA public")
    url = shop.url.set(username=role.name, password="x").render_as_string(hide_password=False)
    done = command("init", DATABASE_URL=url)
    assert done.returncode == 3
    assert f"must be owner of the tables of chinook_sim. Run it as {shop.url.username}" in (
        done.stderr
    )
