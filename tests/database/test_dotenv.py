"""The file .env."""

from __future__ import annotations

import os
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from chinook_sim.database import dotenv
from chinook_sim.database.dotenv import load_dotenv
from chinook_sim.errors import InvalidInput

if TYPE_CHECKING:
    from pathlib import Path


def test_dotenv_is_read_and_never_overrides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHINOOK_SIM_SEED", "1")
    monkeypatch.delenv("CHINOOK_SIM_DAY", raising=False)
    (tmp_path / ".env").write_text(
        "# a comment\nexport CHINOOK_SIM_SEED=2\nCHINOOK_SIM_DAY='2026-01-31'\nNEON_BRANCH\n"
    )
    monkeypatch.setattr(os, "environ", os.environ.copy())
    load_dotenv(tmp_path)
    assert os.environ["CHINOOK_SIM_SEED"] == "1"
    assert os.environ["CHINOOK_SIM_DAY"] == "2026-01-31"
    assert "NEON_BRANCH" not in os.environ


def test_a_directory_above_is_not_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("CHINOOK_SIM_SEED=2\n")
    (tmp_path / "inner").mkdir()
    monkeypatch.setattr(os, "environ", os.environ.copy())
    load_dotenv(tmp_path / "inner")
    assert "CHINOOK_SIM_SEED" not in os.environ


def test_a_dotenv_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInput, match="UTF-8"):
        load_dotenv(tmp_path)


@pytest.mark.parametrize("line", ["garbage line =x", 'DB="unclosed', "=x", "'A=B'=1", "A=\0"])
def test_a_line_of_dotenv_that_cannot_be_read_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / ".env").write_text(f"# fine\n{line}\n")
    with pytest.raises(InvalidInput, match="line 2"):
        load_dotenv(tmp_path)


def test_of_a_name_that_is_set_twice_the_last_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("A_SETTING=first\nA_SETTING=last\nANOTHER=x\nANOTHER\n")
    monkeypatch.setattr(os, "environ", {"ANOTHER": "mine"})
    load_dotenv(tmp_path)
    assert os.environ == {"A_SETTING": "last", "ANOTHER": "mine"}


def test_dotenv_may_be_a_named_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / ".env")
    writer = threading.Thread(target=(tmp_path / ".env").write_text, args=["A_SETTING=piped\n"])
    writer.start()
    monkeypatch.setattr(os, "environ", os.environ.copy())
    load_dotenv(tmp_path)
    writer.join()
    assert os.environ["A_SETTING"] == "piped"


def test_a_named_pipe_that_nobody_writes_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / ".env")
    monkeypatch.setattr(dotenv, "PIPE_TIMEOUT", 0.05)
    with pytest.raises(InvalidInput, match="nothing writes to it"):
        load_dotenv(tmp_path)


def test_dotenv_may_refer_to_other_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text(
        "A_HOST=there\nMINE=file\n"
        "A_URL=postgresql://$u:p$$@${A_HOST}/${MINE}${NOT_SET}='x'\n"
        "QUOTED=\"${A_HOST} ${NOT_SET:-by default}\"\nLITERAL='${A_HOST}'\n"
        "LATER=${LAST}\nLAST=1\n"
    )
    monkeypatch.setattr(os, "environ", {"MINE": "mine"})
    load_dotenv(tmp_path)
    assert os.environ == {
        "MINE": "mine",
        "A_HOST": "there",
        "A_URL": "postgresql://$u:p$$@there/mine='x'",
        "QUOTED": "there by default",
        "LITERAL": "${A_HOST}",
        "LATER": "",
        "LAST": "1",
    }


@pytest.mark.parametrize("kind", ["directory", "link to nothing", "socket"])
def test_a_dotenv_that_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ".env"
    with socket.socket(socket.AF_UNIX) as listener:
        if kind == "directory":
            path.mkdir()
        elif kind == "socket":
            listener.bind(str(path))
        else:
            path.symlink_to(tmp_path / "nothing")
        with pytest.raises(InvalidInput, match=r"\.env"):
            load_dotenv(tmp_path)
    if kind == "directory":
        # A virtual environment of that name.
        (path / "pyvenv.cfg").touch()
        load_dotenv(tmp_path)


def test_a_password_in_dotenv_is_taken_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("PGPASSWORD='a${HOME}b'\n")
    monkeypatch.setattr(os, "environ", os.environ.copy())
    load_dotenv(tmp_path)
    assert os.environ["PGPASSWORD"] == "a${HOME}b"
