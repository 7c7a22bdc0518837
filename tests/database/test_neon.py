"""A connection string from the real neonctl, which asks a stand-in for Neon's API.

npm installs the real one, which takes seconds to start: its tests run with `--full`. What it is
given, and what is done with its answer, is tested with a script in its place.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import tempfile
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from chinook_sim.database.engine import open_connection
from chinook_sim.database.neon import connection_string
from chinook_sim.database.settings import find_database
from chinook_sim.errors import DatabaseUnavailable
from support import ROOT
from support.fake_neon_api import KEY, PASSWORD, PROJECT, NeonApi

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.command import Command

CACHE = ROOT / ".cache" / "neonctl"

# Node.js and npm come as a wheel; whatever else is installed is not looked at.
PATH = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])


ALL_SETTINGS = {
    "NEON_BRANCH": "dev",
    "NEON_ROLE": "clerk",
    "NEON_DATABASE": "other",
    "NEON_ORG_ID": "org-1",
}


@pytest.fixture(scope="module")
def bin_directory() -> str:
    """Install the real neonctl, once, into a folder that git ignores."""
    programs = CACHE / "node_modules" / ".bin"
    if not (programs / "neonctl").exists():
        CACHE.parent.mkdir(exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=CACHE.parent))
        installed = subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(draft), "neonctl@5"],
            env={**os.environ, "PATH": PATH},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if installed.returncode:
            pytest.skip(f"npm could not install neonctl: {installed.stderr[-300:]}")
        # Whole when it gets its name; another worker may have been faster.
        with suppress(OSError):
            draft.rename(CACHE)
        shutil.rmtree(draft, ignore_errors=True)
    return str(programs)


@pytest.fixture
def api() -> Iterator[NeonApi]:
    with NeonApi() as api:
        yield api


@pytest.fixture
def environ(api: NeonApi, bin_directory: str, tmp_path: Path) -> dict[str, str]:
    return {
        "PATH": os.pathsep.join([bin_directory, PATH]),
        "HOME": str(tmp_path),
        "NEON_API_KEY": KEY,
        "NEON_API_HOST": api.url,
        "NEON_PROJECT_ID": PROJECT,
        "NEON_ROLE": "keeper",
        "NEON_DATABASE": "shop",
    }


REAL = pytest.mark.slow(reason="npm installs neonctl, which takes seconds to start")


@pytest.fixture
def scripted(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """Return the environment for a neonctl that is a script of a shell."""

    def write(script: str) -> dict[str, str]:
        program = tmp_path / "neonctl"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
        return {"PATH": path, "NEON_API_KEY": KEY, "NEON_PROJECT_ID": PROJECT}

    return write


def test_the_settings_become_arguments(
    scripted: Callable[[str], dict[str, str]], tmp_path: Path
) -> None:
    url = f"postgresql://clerk:{quote(PASSWORD)}@ep-dev-2.example.com/other?sslmode=require"
    environ = scripted(f"echo \"$@\" > {tmp_path}/asked; echo Connecting; echo '{url}'")
    environ |= ALL_SETTINGS
    location = find_database(environ, directory=Path())
    assert location.source == "NEON_PROJECT_ID"
    assert location.url.host == "ep-dev-2.example.com"
    assert location.url.password == PASSWORD
    assert PASSWORD not in location.shown
    assert (tmp_path / "asked").read_text() == (
        f"connection-string dev --project-id {PROJECT} --org-id org-1 "
        "--role-name clerk --database-name other\n"
    )


def test_what_it_complains_of_is_one_line_without_the_key(
    scripted: Callable[[str], dict[str, str]],
) -> None:
    environ = scripted(f"echo 'ERROR: no such\nbranch for {KEY}.' >&2; exit 1")
    with pytest.raises(DatabaseUnavailable) as caught:
        connection_string(environ)
    assert str(caught.value).startswith("neonctl refused: no such branch for ***; check NEON_API")


@pytest.mark.parametrize(
    ("complaint", "said"),
    [
        ("ERROR: project not found", "project not found"),
        (
            "ERROR: Branch nowhere not found.\nAvailable branches: main, dev",
            "Branch nowhere not found. Available branches: main, dev",
        ),
    ],
)
def test_the_complaints_of_the_real_one_are_one_line(
    scripted: Callable[[str], dict[str, str]], complaint: str, said: str
) -> None:
    # As version 5 writes them.
    with pytest.raises(DatabaseUnavailable) as caught:
        connection_string(scripted(f"echo '{complaint}' >&2; exit 1"))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_does_not_answer_is_stopped(
    scripted: Callable[[str], dict[str, str]], tmp_path: Path
) -> None:
    environ = scripted(f"sleep 600 & echo $! > {tmp_path}/child; wait")
    with pytest.raises(DatabaseUnavailable, match=r"within 0.5 s"):
        connection_string(environ, timeout=0.5)
    # So is what it started, which nobody may have waited for yet.
    status = Path(f"/proc/{(tmp_path / 'child').read_text().strip()}/stat")
    assert not status.exists() or status.read_text().split()[2] == "Z"


@REAL
def test_the_default_branch_is_found(environ: dict[str, str]) -> None:
    location = find_database(environ, directory=Path())
    assert location.source == "NEON_PROJECT_ID"
    assert location.url.drivername == "postgresql+psycopg"
    assert location.url.host == "ep-main-1.eu-central-1.example.com"
    assert (location.url.username, location.url.database) == ("keeper", "shop")
    assert location.url.password == PASSWORD
    assert dict(location.url.query) == {"sslmode": "require", "channel_binding": "require"}
    assert PASSWORD not in location.shown


@REAL
def test_branch_role_and_database_are_passed_on(environ: dict[str, str]) -> None:
    environ |= ALL_SETTINGS
    location = find_database(environ, directory=Path())
    assert location.url.host == "ep-dev-2.eu-central-1.example.com"
    assert (location.url.username, location.url.database) == ("clerk", "other")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"NEON_API_KEY": "hunter2-key"}, "rejected the API key"),
        ({"NEON_ROLE": ""}, "Multiple roles found"),
    ],
)
@REAL
def test_a_refusal_is_one_line(environ: dict[str, str], change: dict[str, str], said: str) -> None:
    with pytest.raises(DatabaseUnavailable) as caught:
        connection_string(environ | change)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "hunter2-key" not in str(caught.value)


def test_without_neonctl_it_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable, match="npm install -g neonctl"):
        connection_string({"PATH": str(tmp_path), "NEON_PROJECT_ID": PROJECT})


@REAL
def test_a_slow_answer_is_not_waited_for(environ: dict[str, str]) -> None:
    with NeonApi(delay=300) as slow:
        # On a busy machine it takes longer until neonctl has asked.
        for timeout in (3, 9, 27):
            with pytest.raises(DatabaseUnavailable, match=rf"within {timeout} s"):
                connection_string(environ | {"NEON_API_HOST": slow.url}, timeout=timeout)
            if slow.asked:
                break
        assert slow.asked


@REAL
def test_the_command_shows_no_password(
    command: Command, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The host does not exist: a connection is all that can fail, and it fails each time.
    once = partial(open_connection, timeout=0)
    monkeypatch.setattr("chinook_sim.database.engine.open_connection", once)
    done = command("status", **{**environ, "PGCONNECT_TIMEOUT": "2"})
    assert done.returncode == 3
    assert "ep-main-1" in done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    assert "n3on" not in done.stdout + done.stderr
