"""Which package imports which, and what the package exports."""

from __future__ import annotations

import re
import subprocess
import sys
from inspect import isfunction, signature
from pathlib import Path

import pytest

import chinook_sim
from chinook_sim import errors
from chinook_sim.database.backends import Backend

PACKAGE = Path(chinook_sim.__file__).parent


def test_packages_import_what_is_below_them() -> None:
    # In a process of its own: it configures logging, and disables the loggers that are there.
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_package_stands_in_the_architecture() -> None:
    text = (PACKAGE.parent / "ARCHITECTURE.md").read_text(encoding="utf-8")
    table = set(re.findall(r"^\| `(\w+)/?`", text, re.MULTILINE))
    there = {
        path.stem
        for path in PACKAGE.iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").exists()) and path.stem[0] != "_"
    }
    assert there <= table


def test_no_module_is_long() -> None:
    lengths = {
        path.relative_to(PACKAGE.parent).as_posix(): path.read_text(encoding="utf-8").count("\n")
        for directory in (PACKAGE, PACKAGE.parent / "migrations")
        for path in directory.rglob("*.py")
    }
    assert {name for name, lines in lengths.items() if lines > 350} == set()


def test_only_backends_ask_which_database_it_is() -> None:
    # A revision has SQL for one database or the other; see `RevisionContext.postgresql`.
    # A URL says it before there is a connection.
    allowed = {
        "database/backends/__init__.py",
        "database/settings.py",
        "provisioning/revision_context.py",
    }
    asked = re.compile(
        r"\bdialect\.name\b|\.name [!=]= \"(postgresql|sqlite)\"|get_backend_name|\.drivername"
    )
    asking = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if asked.search(path.read_text(encoding="utf-8"))
    }
    assert asking == allowed


def test_what_a_backend_offers_is_used() -> None:
    code = "".join(
        path.read_text(encoding="utf-8")
        for path in PACKAGE.rglob("*.py")
        if "backends" not in path.parts
    )
    offered = {name for name in vars(Backend) if not name.startswith("_")}
    offered |= Backend.__annotations__.keys()
    assert len(offered) > 20
    assert {name for name in offered if not re.search(rf"\.{name}\b", code)} == set()


def test_what_is_exported_exists_and_nothing_else_is() -> None:
    for name in chinook_sim.__all__:
        assert getattr(chinook_sim, name) is not None
    assert dir(chinook_sim) == sorted(chinook_sim.__all__)
    # A module of the same name would take its place as soon as anybody imports the module.
    assert not {path.stem for path in PACKAGE.iterdir()} & set(chinook_sim.__all__)
    with pytest.raises(AttributeError, match="generate_d2"):
        _ = chinook_sim.generate_d2


def test_all_errors_and_results_are_exported() -> None:
    classes = {name for name in errors.__all__ if isinstance(getattr(errors, name), type)}
    assert classes <= {*chinook_sim.__all__}
    functions = filter(isfunction, [getattr(chinook_sim, name) for name in chinook_sim.__all__])
    results = {
        name
        for it in functions
        for name in re.findall(r"[A-Z]\w+", signature(it).return_annotation)
    }
    # An engine's Chinook is for writers, and most callers of `recognise` do not use it. What
    # `load_names` returns is only passed on.
    assert results - {"Chinook", "Iterator", "NameMap"} <= {*chinook_sim.__all__}


def test_help_imports_nothing_that_takes_long() -> None:
    code = (
        "import sys\nfrom chinook_sim.cli import cli\n"
        "cli.main(['generate', '--help'], standalone_mode=False)\n"
        "slow = {'sqlalchemy', 'numpy', 'faker', 'alembic', 'psycopg'} & set(sys.modules)\n"
        "assert not slow, slow"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
