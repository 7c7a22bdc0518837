"""A connection string from Neon, by its own command-line client."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

from chinook_sim.errors import DatabaseUnavailable, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["connection_string"]

TIMEOUT = 20.0
"""Seconds; neonctl without a login opens a browser, and waits for it longer than any job should."""

OPTIONS = {
    "--project-id": "NEON_PROJECT_ID",
    "--org-id": "NEON_ORG_ID",
    "--role-name": "NEON_ROLE",
    "--database-name": "NEON_DATABASE",
}


def connection_string(environ: Mapping[str, str], *, timeout: float = TIMEOUT) -> str:
    """Ask `neonctl connection-string` for the URL of a Neon branch.

    Args:
        environ: the environment: NEON_PROJECT_ID, and where set NEON_ORG_ID, NEON_BRANCH,
            NEON_ROLE, NEON_DATABASE; neonctl itself also reads NEON_API_KEY.
        timeout: seconds after which it is stopped.

    Raises:
        InvalidInput: NEON_BRANCH is no name.
        DatabaseUnavailable: neonctl is not installed, not logged in, or refused.
    """
    program = shutil.which("neonctl", path=environ.get("PATH"))
    if program is None:
        raise DatabaseUnavailable(
            "NEON_PROJECT_ID is set, but neonctl is not installed; "
            "run `npm install -g neonctl`, or set DATABASE_URL"
        )
    command = [program, "connection-string", *filter(None, [environ.get("NEON_BRANCH")])]
    for option, variable in OPTIONS.items():
        if environ.get(variable):
            command += [option, environ[variable]]
    if environ.get("NEON_BRANCH", "").startswith("-"):
        raise InvalidInput("NEON_BRANCH is an option of neonctl; give the name of a branch")
    # CI and no standard input keep it from asking; a group of its own lets it be stopped together
    # with what it started.
    with subprocess.Popen(  # noqa: S603
        command,
        env={**environ, "CI": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            output, complaint = process.communicate(timeout=timeout)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            raise DatabaseUnavailable(
                f"neonctl did not answer within {timeout:g} s; "
                "set NEON_API_KEY, or log in with `neonctl auth`"
            ) from None
    lines = output.split()
    if process.returncode or not lines:
        raise DatabaseUnavailable(_refused(complaint, environ.get("NEON_API_KEY")))
    return lines[-1]


def _refused(complaint: str, key: str | None) -> str:
    said = " ".join(complaint.split()).rpartition("ERROR: ")[2]
    reason = said[:300].rstrip(".") or "it gave no reason"
    if key:
        reason = reason.replace(key, "***")
    return f"neonctl refused: {reason}; check NEON_API_KEY and the NEON_ settings"
