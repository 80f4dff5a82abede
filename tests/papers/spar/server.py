"""A local OpenAI-compatible server that drafts, judges, repairs and rewrites; what fails is set by the test."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar


class Server(BaseHTTPRequestHandler):
    """Drafts have a comma where the seed is even; the judge says No to commas; repairs take them out."""

    asked: ClassVar[Counter[str]] = Counter()
    failures: ClassVar[list[tuple[int, dict[str, str]]]] = []
    key = ""
    guard = threading.Lock()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        cls = type(self)
        with cls.guard:
            status, headers = cls.failures.pop(0) if cls.failures else (200, {})
            if cls.key and self.headers.get("Authorization") != f"Bearer {cls.key}":
                status, headers = 401, {}
            if status == 200:
                cls.asked[json.dumps([body["messages"], body.get("seed")])] += 1
        text = json.dumps({"choices": [{"message": {"content": answer(body["messages"], body.get("seed", 0))}}]})
        data = text.encode() if status == 200 else f"refused: {self.headers.get('Authorization')}".encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


def answer(messages: list[dict[str, Any]], seed: int) -> str:
    """The reply to a chat, which its last message decides."""
    last = messages[-1]["content"]
    if "Rewrite a request" in last:
        return "None." if "sum" in last else f"[[start]]Rewritten: {last.rsplit(chr(10), 1)[-1]}[[end]]"
    if "repair the answer" in last:
        given = messages[0]["content"].rsplit("# Answer\n", 1)[1]
        return f"Fewer commas. [[start]]{given.replace(',', '', 1)}[[end]]"
    if "# Answer\n" in last:
        given = last.rsplit("# Answer\n", 1)[1]
        doubt = seed % 5 == 0
        return f"It was checked.\nFinal Judgement: {'Yes' if (',' in given) == doubt else 'No'}"
    return f"so, it, is {seed % 89}" if seed % 2 == 0 else f"so it is {seed % 89}"


@contextmanager
def running() -> Iterator[str]:
    """The address of a new server."""
    Server.asked, Server.failures, Server.key = Counter(), [], ""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
