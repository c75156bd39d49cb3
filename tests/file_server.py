"""A file server on the loopback that can do what real ones do: cut a download, ignore ranges, redirect, not have a file."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONTENT = bytes(range(256)) * 2000
"""512,000 bytes."""


@dataclass
class Server:
    """What it has, how it behaves, and the ranges that it was asked for."""

    port: int = 0
    content: bytes = CONTENT
    ranges: bool = True
    """Whether it answers a request for a part with that part."""
    cut: int | None = None
    """Bytes after which it closes the connection."""
    status: int = 200
    redirect: str | None = None
    length: str | None = None
    """What it says of the length, where that is not true."""
    more: int = 0
    """How often it sends its content again, after the end."""
    sent: int = 0
    """How often it came to send it again."""
    asked: list[str | None] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/models/weights.pth"


@contextmanager
def serve() -> Iterator[Server]:
    """A server, stopped at the end."""
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            state.asked.append(asked)
            if state.redirect or state.status >= 400:
                self.send_response(302 if state.redirect else state.status)
                self.send_header("Location", state.redirect or "")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and state.ranges else 0
            if start >= len(state.content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", state.length or str(len(state.content) - start))
            self.end_headers()
            end = len(state.content) if state.cut is None else start + state.cut
            with suppress(ConnectionError):  # of a client that has heard enough
                self.wfile.write(state.content[start:end])
                for _ in range(state.more):
                    self.wfile.write(state.content)
                    state.sent += 1

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
