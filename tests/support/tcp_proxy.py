"""A real TCP proxy between a client and a server, that can cut the connection where it is told."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, Self

if TYPE_CHECKING:
    from collections.abc import Callable

Side = Literal["request", "answer"]

RESET = b"\1\0\0\0\0\0\0\0"
"""SO_LINGER that makes closing a socket a reset."""


class TcpProxy:
    """Passes bytes on, in turns: the client asks, the server answers, the client asks again.

    Args:
        port: the server's.
        cut_after: bytes of the client after which the connection is cut.
    """

    def __init__(self, port: int, *, cut_after: int | None = None) -> None:
        self._target = port
        self._cut_after = cut_after
        self._cut_at: int | None = None
        self._cut_when: bytes | None = None
        self._side: Side = "request"
        self._hang = False
        self._before: Callable[[], object] | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._passed = 0
        self._asking = False
        self.turns = 0
        self.was_cut = False
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def arm(
        self,
        *,
        turn: int | None = None,
        when: bytes | None = None,
        side: Side,
        hang: bool = False,
        before: Callable[[], object] | None = None,
    ) -> None:
        """Cut what is connected, once, at a turn counted from now.

        Args:
            turn: which, from 1.
            when: or that of the first request that contains these bytes.
            side: before the request reaches the server, or when its answer comes back.
            hang: leave the servers' ends open, as a network that loses packets does.
            before: called while the request or the answer is held back; afterwards only this
                connection is cut.
        """
        with self._lock:
            self._cut_at, self._cut_when, self._side, self._hang = turn, when, side, hang
            self._before = before
            self._asking, self.turns, self.was_cut = False, 0, False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Closing alone does not wake a thread that is waiting in accept.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._close([end for pair in self._pairs for end in pair])
        for thread in self._threads:
            thread.join(5)

    def cut(self) -> None:
        """Cut what is connected, with a reset."""
        self.was_cut = True
        self._cut_at = self._cut_when = None
        for client, server in self._pairs:
            self._close([client] if self._hang else [client, server])

    @staticmethod
    def _close(ends: list[socket.socket]) -> None:
        for end in ends:
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._pairs.append((client, server))
                for source, target, stops in (
                    (client, server, self._asks),
                    (server, client, self._answers),
                ):
                    thread = threading.Thread(
                        target=self._pump, args=(source, target, stops), daemon=True
                    )
                    self._threads.append(thread)
                    thread.start()

    def _pump(
        self, source: socket.socket, target: socket.socket, stops: Callable[[bytes], bool]
    ) -> None:
        with suppress(OSError):
            while block := source.recv(65_536):
                with self._lock:
                    stop, before = stops(block), self._before
                    if stop and before is not None:
                        self._cut_at = self._cut_when = None
                    elif stop:
                        self.cut()
                        return
                if stop and before is not None:
                    before()
                    self._close([source, target])
                    return
                target.sendall(block)
        # One end closing closes the other, as it does without a proxy.
        if not (self._hang and self.was_cut):
            with suppress(OSError):
                target.shutdown(socket.SHUT_RDWR)

    def _asks(self, block: bytes) -> bool:
        """Note a block of the client; tell whether the connection is to be cut before it."""
        if not self._asking:
            self._asking = True
            self.turns += 1
        self._passed += len(block)
        if self._cut_after is not None and self._passed > self._cut_after:
            return True
        if self._cut_when is not None and self._cut_when in block:
            self._cut_at = self.turns
        return self._side == "request" and self.turns == self._cut_at

    def _answers(self, _: bytes) -> bool:
        self._asking = False
        return self._side == "answer" and self.turns == self._cut_at
