"""The command, run inside the test's process or as a process of its own."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from support import processes
from support.postgres_server import PASSWORD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Command = Callable[..., "Answer"]


class Answer(NamedTuple):
    """What a command ended with."""

    returncode: int
    stdout: str
    stderr: str


def error_of(done: Answer) -> dict[str, Any]:
    """Return the error that a command printed as its only line."""
    (line,) = done.stdout.splitlines()
    error = json.loads(line)["error"]
    assert set(error) == {"kind", "message", "exit_status", "sqlstate", "retryable"}
    assert error["exit_status"] == done.returncode
    assert f"Error: {error['message']}" in done.stderr.splitlines()
    return dict(error)


def _answer(code: int, output: bytes, errors: bytes) -> Answer:
    answer = Answer(code, output.decode(), errors.decode())
    for said in answer[1:]:
        assert "Traceback" not in said, said
        assert PASSWORD not in said, said
    return answer


def run_as_process(
    *arguments: str, stdin: str | bytes | None = None, cwd: Path, **environment: str
) -> Answer:
    """Run `chinook-sim` as a process of its own."""
    given = stdin.encode() if isinstance(stdin, str) else stdin
    done = processes.run(
        [sys.executable, "-m", "chinook_sim", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONUTF8": "1", **environment},
        input=b"" if given is None else given,
        capture_output=True,
    )
    return _answer(done.returncode, done.stdout, done.stderr)


def run_in_process(
    *arguments: str, stdin: str | bytes = b"", cwd: Path, **environment: str
) -> Answer:
    """Run `chinook-sim` inside this process: a tenth of the time."""
    from chinook_sim.cli import main

    given = stdin.encode() if isinstance(stdin, str) else stdin
    streams = [
        io.TextIOWrapper(io.BytesIO(content), "utf-8", write_through=True)
        for content in (given, b"", b"")
    ]
    with _as_it_was(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["chinook-sim", *arguments])
        for name, stream in zip(("stdin", "stdout", "stderr"), streams, strict=True):
            patch.setattr(sys, name, stream)
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.chdir(cwd)
        with pytest.raises(SystemExit) as ended:
            main()
    output, errors = (stream.buffer.getvalue() for stream in streams[1:])
    return _answer(int(ended.value.code or 0), output, errors)


@contextmanager
def _as_it_was() -> Iterator[None]:
    """Undo what the command changes in its process, which it otherwise ends."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    environment, hook = dict(os.environ), sys.unraisablehook
    loggers = [logging.getLogger(name) for name in ("chinook_sim", "psycopg", "sqlalchemy")]
    logged = [(logger, logger.level, logger.handlers[:]) for logger in loggers]
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.environ.clear()
        os.environ.update(environment)
        sys.unraisablehook = hook
        for logger, level, known in logged:
            logger.setLevel(level)
            logger.handlers[:] = known
