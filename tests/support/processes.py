"""Processes of Python, forked from one that has imported what the command imports.

To start Python and import takes more than a second of a processor, and a fork a hundredth of it.
What is forked is a process like any other: it can be killed and interrupted, and its descriptors,
directory and environment are its own. Its standard streams are opened anew, and Python ends in it
as it always does. Wherever the environment has other variables that Python reads when it starts,
a new Python is started.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil

IMPORTED = (
    "alembic.config",
    "chinook_sim.cli",
    "chinook_sim.migrate",
    "chinook_sim.operations.align",
    "chinook_sim.operations.backfill",
    "chinook_sim.operations.generate",
    "chinook_sim.operations.live",
    "chinook_sim.operations.undo",
    "chinook_sim.provisioning.initialise",
    "chinook_sim.provisioning.sample_data",
    "chinook_sim.verification",
    "psycopg",
    "sqlalchemy.dialects.postgresql",
    "sqlalchemy.dialects.sqlite",
)

HELD = {signal.SIGINT, signal.SIGTERM}

PR_SET_CHILD_SUBREAPER = 36


class Popen(subprocess.Popen[Any]):
    """`subprocess.Popen`, which forks `[sys.executable, "-m" or "-c", …]`, where that is Linux."""

    _executed = subprocess.Popen._execute_child  # type: ignore[attr-defined]

    def _execute_child(self, args: Any, *others: Any) -> None:
        cwd, env = others[4], others[5]
        environment = dict(os.environ if env is None else env)
        if (
            sys.platform != "linux"
            or not isinstance(args, list)
            or args[0] != sys.executable
            or args[1] not in ("-m", "-c")
            or _read_at_start(environment) != _read_at_start(os.environ)
        ):
            self._executed(args, *others)
            return
        pipes = others[9:15]
        order = {
            "arguments": [os.fspath(it) for it in args[1:]],
            "directory": os.fspath(cwd or Path.cwd()),
            "environment": environment,
        }
        theirs = (pipes[0], pipes[3], pipes[5])
        streams = [number if it == -1 else it for number, it in enumerate(theirs)]
        self.pid = ForkServer.running().fork(order, streams)
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


def run(arguments: list[Any], *, timeout: float = 120, **how: Any) -> Any:
    """Run a process to its end, as `subprocess.run` does."""
    given = how.pop("input", None)
    if how.pop("capture_output", False):
        how |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    if given is not None:
        how["stdin"] = subprocess.PIPE
    check = how.pop("check", False)
    with Popen(arguments, **how) as process:
        try:
            output, errors = process.communicate(given, timeout=timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(arguments, process.returncode, output, errors)
    if check:
        done.check_returncode()
    return done


def wait_for_cpu_time(pid: int, seconds: float, *, timeout: float = 120) -> None:
    """Wait until a process has used the processor for some time, however busy the machine is.

    A forked process starts at zero. Returns at once if the process has ended.
    """
    until = time.monotonic() + timeout
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        while process.status() != psutil.STATUS_ZOMBIE:
            used = process.cpu_times()
            if used.user + used.system >= seconds:
                return
            assert time.monotonic() < until, f"{used} after {timeout} s"
            time.sleep(0.01)


def adopt_orphans() -> None:
    """Become the parent of descendants whose parent has ended, where that is Linux."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0, ctypes.get_errno()


def _read_at_start(environment: Any) -> dict[str, str]:
    """Return the variables that Python reads when it starts, and not later."""
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(("PYTHON", "LC_", "LANG")) and (name, value) != ("PYTHONUTF8", "1")
    }


class ForkServer:
    """The process that forks, one for each process that runs tests."""

    _running: ForkServer | None = None
    _lock = threading.Lock()

    @classmethod
    def running(cls) -> ForkServer:
        """Return the server, and start it the first time."""
        with cls._lock:
            if cls._running is None:
                cls._running = cls()
            return cls._running

    def __init__(self) -> None:
        # What is forked is our grandchild, and becomes our child, whose end we can wait for.
        adopt_orphans()
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # It ends when our end of the channel is closed, however we end.
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                env={**os.environ, "PYTHONUTF8": "1"},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )

    def fork(self, order: dict[str, Any], streams: list[int]) -> int:
        """Fork a process; return its number."""
        with self._lock:
            socket.send_fds(self._channel, [json.dumps(order).encode()], streams)
            answer = self._channel.recv(100)
        assert answer, "the server that forks processes has ended"
        return int(answer)

    @classmethod
    def stop(cls) -> None:
        """End the server."""
        if cls._running is not None:
            cls._running._channel.close()
            cls._running._process.wait()
            cls._running = None


def serve(channel: socket.socket) -> dict[str, Any]:
    """Fork what is asked for, until nobody can ask; return the order in each child."""
    # A signal that comes before a child is ready waits for it.
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    for name in IMPORTED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    while True:
        message, streams, _, _ = socket.recv_fds(channel, 2**20, 3)
        if not message:
            os._exit(0)
        reading, writing = os.pipe()
        between = os.fork()
        if between == 0:
            if child := os.fork():
                os.write(writing, str(child).encode())
                os._exit(0)
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
            channel.detach()
            os.closerange(3, 1 + max(*streams, reading, writing))
            order: dict[str, Any] = json.loads(message)
            return order
        os.close(writing)
        for stream in streams:
            os.close(stream)
        os.waitpid(between, 0)
        channel.send(os.read(reading, 100))
        os.close(reading)


def become(order: dict[str, Any]) -> tuple[str, str]:
    """Be as if started with these arguments; return how, and the module or code."""
    how, what, *arguments = order["arguments"]
    os.chdir(order["directory"])
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.path[0] = order["directory"]
    sys.argv = [how, *arguments]
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        old = getattr(sys, name)
        new = open(  # noqa: SIM115 - Python closes it when it ends
            number,
            "w" if number else "r",
            encoding=old.encoding,
            errors=old.errors,
            buffering=1 if number == 2 else -1,
            closefd=False,
        )
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
    return how, what


if __name__ == "__main__":
    _how, _what = become(serve(socket.socket(fileno=int(sys.argv[1]))))
    if _how == "-m":
        runpy.run_module(_what, run_name="__main__", alter_sys=True)
    else:
        exec(compile(_what, "<string>", "exec"), {"__name__": "__main__"})
