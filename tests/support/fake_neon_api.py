"""A small stand-in for Neon's HTTP API, for the real neonctl to talk to."""

from __future__ import annotations

import http.server
import json
import re
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

KEY = "key-that-works"
PROJECT = "quiet-forest-123"
PASSWORD = "n3on/p@ss"

BRANCHES = [
    {"id": "br-main-1", "name": "main", "default": True, "primary": True, "project_id": PROJECT},
    {"id": "br-dev-2", "name": "dev", "default": False, "primary": False, "project_id": PROJECT},
]


class NeonApi:
    """Listens on loopback; `delay` seconds pass before each answer."""

    def __init__(self, delay: float = 0) -> None:
        self.asked: list[str] = []
        api = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                api.asked.append(self.path)
                time.sleep(delay)
                status, answer = api.answer(self.path, self.headers.get("Authorization", ""))
                body = json.dumps(answer).encode()
                # Who asked may have given up, and the traceback would be another test's.
                with suppress(ConnectionError):
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            do_POST = do_GET  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, authorization: str) -> tuple[int, object]:
        """Answer as Neon does, for one project with two branches."""
        if authorization != f"Bearer {KEY}":
            return 401, {"code": "", "message": "not authenticated"}
        path = path.partition("?")[0]
        if path == "/users/me":
            return 200, {"id": "u", "login": "shop", "email": "shop@example.com"}
        if path == "/auth":
            return 200, {"account_id": "u", "auth_method": "api_key_user"}
        if not path.startswith(f"/projects/{PROJECT}"):
            return 404, {"code": "", "message": "project not found"}
        if path == f"/projects/{PROJECT}/branches":
            return 200, {"branches": BRANCHES}
        branch = (re.findall("/branches/([^/]+)", path) or [""])[0]
        host = {"br-main-1": "ep-main-1", "br-dev-2": "ep-dev-2"}.get(branch, "ep-none")
        endpoint = {
            "id": host,
            "host": f"{host}.eu-central-1.example.com",
            "branch_id": branch,
            "type": "read_write",
            "project_id": PROJECT,
            "proxy_host": "eu-central-1.example.com",
        }
        answers: dict[str, object] = {
            "endpoints": {"endpoints": [endpoint]},
            "databases": {"databases": [_owned("shop"), _owned("other")]},
            "roles": {"roles": [{"name": "keeper"}, {"name": "clerk"}]},
            "reveal_password": {"password": PASSWORD},
        }
        last = path.rpartition("/")[2]
        return (200, answers[last]) if last in answers else (404, {"message": "not found"})


def _owned(name: str) -> dict[str, str]:
    return {"name": name, "owner_name": "keeper"}
