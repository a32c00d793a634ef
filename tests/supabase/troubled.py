"""A line to Supabase that fails as it is told: what the real world does to a request between here and there.

with Troubled(stack.url) as line:
    line.troubles += ["500", "429:1", "committed", "cut"]    # one for each request that writes, in their order
"""

import http.client
import http.server
import signal
import threading
import time
from typing import Any, Self
from urllib.parse import urlsplit

_HOP = ("connection", "transfer-encoding", "keep-alive")


class Troubled:
    """``url`` passes on to another; ``troubles`` are what befalls the next requests to tables, ``chokes_on`` what no
    request may hold, ``largest`` the bytes of the largest that came."""

    def __init__(self, url: str) -> None:
        self.troubles: list[str] = []
        self.always: str | None = None
        self.chokes_on: bytes | None = None
        self.largest = 0
        split = urlsplit(url)
        line = self

        class Passing(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _handle(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                line.largest = max(line.largest, len(body))
                trouble = "500" if line.chokes_on and line.chokes_on in body else line._next(self.path)
                if trouble.startswith(("4", "5")):
                    status, _, after = trouble.partition(":")
                    self._answer(int(status), {"Retry-After": after} if after else {}, b"")
                    return
                there = http.client.HTTPConnection(split.hostname or "", split.port, timeout=60)
                there.request(self.command, self.path, body, dict(self.headers))
                answer = there.getresponse()
                told = answer.read()
                there.close()
                headers = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP}
                if trouble == "committed":  # it is done over there, and nobody hears of it
                    time.sleep(line.patience + 0.5)
                elif trouble == "cut":
                    self.wfile.write(b"HTTP/1.1 201 Created\r\nContent-Le")
                    self.close_connection = True
                    return
                self._answer(answer.status, headers, told)

            do_GET = do_POST = do_PATCH = do_DELETE = _handle  # noqa: N815

            def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
                headers = {name: value for name, value in headers.items() if name.lower() != "content-length"}
                self.send_response_only(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                """Who hangs up is no news here."""

        self.patience = 1.0
        self._server = Server(("127.0.0.1", 0), Passing)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        # (lshctl's commands, in tests before, leave a process that would end as soon as a client of ours hangs up)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _next(self, path: str) -> str:
        if "/rpc/lsh_schema_version" in path:
            return ""
        return self.always or (self.troubles.pop(0) if self.troubles else "")
