"""A site that answers as it is told, and a clock that does not wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from paperworks.page.feed import ImportOutcome


@dataclass
class Request:
    path: str
    query: dict[str, str]
    headers: dict[str, str]


@dataclass
class Reply:
    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class Site:
    """A server on 127.0.0.1 whose answers a test decides; it notes what it was asked."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answer: Callable[[Request], Reply] = lambda request: Reply(status=404)
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                request = Request(
                    parts.path,
                    {k: v[0] for k, v in parse_qs(parts.query).items()},
                    {k.lower(): v for k, v in self.headers.items()},
                )
                site.requests.append(request)
                reply = site.answer(request)
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.sleeps: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.time += seconds

    def __call__(self) -> float:
        return self.time


ATOM = """<?xml version="1.0"?><feed xmlns="http://www.w3.org/2005/Atom"><title>Papers</title>
<entry><title type="html">On graphs &amp;amp; trees</title><id>urn:x</id><link rel="self" href="/self"/>
 <link rel="alternate" href="https://example.org/graphs"/><link rel="related" href="https://doi.org/10.1/x"/>
 <author><name>Bee, Ada</name></author><published>2024-02-02T00:00:00Z</published>
 <summary>More on trees.</summary></entry>
</feed>"""


def figures(outcome: ImportOutcome) -> tuple[int, int, int, int]:
    return outcome.added, outcome.updated, outcome.unchanged, len(outcome.skipped)


def rss(*items: str) -> bytes:
    return f"<rss xmlns:arxiv='http://arxiv.org/schemas/atom'><channel>{''.join(items)}</channel></rss>".encode()


def arxiv_entry(identity: str, title: str, abstract: str = "An abstract.") -> str:
    return f"""<entry><id>http://arxiv.org/abs/{identity}</id><published>2024-01-26T17:35:45Z</published>
      <title>{escape(title)}</title><summary>  {escape(abstract)}
      </summary><author><name>Ada Bee</name></author><author><name>Cai Dee</name></author>
      <arxiv:comment>8 pages, code at https://github.com/a/b.</arxiv:comment><arxiv:doi>10.1000/ab</arxiv:doi>
      <category term="cs.LG" scheme="x"/><category term="stat.ML" scheme="x"/></entry>"""


def arxiv_feed(entries: list[str], total: int) -> bytes:
    return f"""<?xml version="1.0" encoding="UTF-8"?><feed xmlns="http://www.w3.org/2005/Atom"
      xmlns:arxiv="http://arxiv.org/schemas/atom" xmlns:opensearch="http://a9.com/-/spec/opensearch/1.1/">
      <opensearch:totalResults>{total}</opensearch:totalResults>{"".join(entries)}</feed>""".encode()
