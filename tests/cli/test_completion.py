"""Completion in bash, zsh and fish, by the script that the documentation has readers install."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support import ROOT

PAGE = ROOT / "docs" / "how-to" / "shell-completion.md"

BIN = Path(sys.executable).parent
"""Where the installed command is."""

COMPLETE = {
    "bash": """
        COMP_WORDS=({words}); COMP_CWORD={last}
        _chinook_sim_completion chinook-sim; printf '%s\\n' "${{COMPREPLY[@]}}"
    """,
    "zsh": """
        words=({words}); CURRENT={last}+1
        _describe() {{ print -l -- "${{(@P)3}}" }}
        compadd() {{ print -l -- "${{(@P)5}}" }}
        _chinook_sim_completion
    """,
    "fish": "complete -C 'chinook-sim {typed}'",
}
"""What has each shell complete `words`, the `last` of which is incomplete. In zsh the functions
that would show the completions, given the name of an array, print it."""

TYPED = [
    ("gen", "generate"),
    ("generate --upd", "--updates"),
    ("status --kind simul", "simulate_sales"),
    ("live --profile real", "realistic"),
    ("verify --profile sh", "shop.toml"),
    ("init --spelling snake", "snake_case"),
]


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop.toml").touch()
    monkeypatch.chdir(tmp_path)


def run(*command: str, **environment: str) -> str:
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("typed", "completed"), TYPED)
@pytest.mark.parametrize("shell", COMPLETE)
def test_the_command_answers_every_shell(shell: str, typed: str, completed: str) -> None:
    words = f"chinook-sim {typed}".split()
    position = {} if shell == "fish" else {"COMP_CWORD": str(len(words) - 1)}
    last = {"COMP_CWORD": words[-1]} if shell == "fish" else position
    answer = run(
        "chinook-sim",
        _CHINOOK_SIM_COMPLETE=f"{shell}_complete",
        COMP_WORDS=" ".join(words[:-1] if shell == "fish" else words),
        **last,
    )
    assert completed in re.split(r"[\s,]+", answer)


@pytest.mark.parametrize(("typed", "completed"), TYPED)
@pytest.mark.parametrize("shell", [shell for shell in COMPLETE if shutil.which(shell)])
def test_the_page_s_script_completes_in_a_shell(shell: str, typed: str, completed: str) -> None:
    (script,) = re.findall(rf"^```{shell}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    words = f"chinook-sim {typed}".split()
    ask = COMPLETE[shell].format(words=" ".join(words), last=len(words) - 1, typed=typed)
    start = "autoload -Uz compinit && compinit -u\n" if shell == "zsh" else ""
    answer = run(shell, "-c", f"{start}{script}\n{ask}")
    assert completed in re.split(r"[\s:]+", answer)
