"""The wheel and the sdist carry the migrations, and the wheel, built from the sdist, works."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from support import ROOT


def run(*command: str | Path, cwd: Path) -> None:
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow(reason="builds and installs the package")
def test_wheel_and_sdist_carry_the_migrations_and_the_wheel_works(tmp_path: Path) -> None:
    uv = os.environ.get("UV") or shutil.which("uv")
    assert uv is not None
    run(uv, "build", "-q", "-o", tmp_path / "dist", cwd=ROOT)
    (wheel,), (sdist,) = ((tmp_path / "dist").glob(kind) for kind in ("*.whl", "*.tar.gz"))
    files = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "migrations").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    with zipfile.ZipFile(wheel) as archive:
        assert {f"chinook_sim/{name}" for name in files} <= set(archive.namelist())
    with tarfile.open(sdist) as tar:
        top = sdist.name.removesuffix(".tar.gz")
        assert {f"{top}/{name}" for name in files} <= set(tar.getnames())

    # The packages it needs are those of these tests, so that nothing is downloaded.
    run(uv, "venv", "-q", "--python", sys.executable, tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    run(uv, "pip", "install", "-q", "--no-deps", "--python", python, wheel, cwd=tmp_path)
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    command = python.parent / "chinook-sim"
    run(command, "generate", "5", cwd=tmp_path)
    used = subprocess.check_output(
        [python, "-c", "import chinook_sim; print(chinook_sim.__file__)"], cwd=tmp_path, text=True
    )
    assert Path(used.strip()).is_relative_to(site)
