"""Generation by servers: work that is shared, servers that fail, keys, and endpoints that are none."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from paperworks.errors import InputError
from paperworks.language.generation import EndpointGenerator, GenerationSettings
from paperworks.language.generation.endpoint import _retry_after

PROMPTS = ["Once", "The quick brown fox", "a", "No more than this"]


class _Server(BaseHTTPRequestHandler):
    """Answers with the last message in capitals and the seed; what fails is set by the test."""

    log: list[dict] = []  # noqa: RUF012 - shared on purpose
    failures: list[tuple[int, dict[str, str]]] = []  # noqa: RUF012 - shared on purpose
    answered: list[str] = []  # noqa: RUF012 - shared on purpose
    delay = 0.0

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        record = {"path": self.path, "key": self.headers.get("Authorization"), "port": self.server.server_port, **body}
        type(self).log.append(record)
        time.sleep(self.delay)
        status, headers = type(self).failures.pop(0) if type(self).failures else (200, {})
        text = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
        if status == 200:
            type(self).answered.append(text)
        said = f"{text.upper()} {body.get('seed', '')}".strip()
        choice = {"message": {"content": said}} if "messages" in body else {"text": said}
        data = json.dumps({"choices": [choice]}).encode() if status == 200 else b"no, " + str(record["key"]).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


@pytest.fixture
def servers():
    """The addresses of two local OpenAI-compatible servers."""
    _Server.log, _Server.failures, _Server.answered, _Server.delay = [], [], [], 0.0
    running = [ThreadingHTTPServer(("127.0.0.1", 0), _Server) for _ in range(2)]
    for server in running:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield [f"http://127.0.0.1:{server.server_port}/v1" for server in running]
    for server in running:
        server.shutdown()
        server.server_close()


def test_servers_share_the_work_and_samples_have_seeds(servers: list[str]) -> None:
    _Server.delay = 0.02
    with EndpointGenerator(servers, "m", parallel=4) as generator:
        found = generator.generate(PROMPTS, GenerationSettings(temperature=1.0, n=3, stop=("QUICK",), top_p=0.9))
    assert len({text for texts in found for text in texts}) == 10  # the three with the stop are one text
    assert found[1] == ["THE "] * 3
    assert {r["port"] for r in _Server.log} == {int(u.split(":")[2].split("/")[0]) for u in servers}
    assert all(r["stop"] == ["QUICK"] and r["top_p"] == 0.9 and r["max_tokens"] == 128 for r in _Server.log)
    assert all(r["path"] == "/v1/chat/completions" for r in _Server.log)
    with EndpointGenerator(servers[0], "m", api="completions") as generator:
        assert generator.generate(["abc"], GenerationSettings()) == [["ABC"]]
        assert _Server.log[-1]["prompt"] == "abc"
        with pytest.raises(InputError, match="completions API"):
            generator.generate([[{"role": "user", "content": "Hi"}]], GenerationSettings())


def test_further_fields_of_a_request_are_sent_and_are_part_of_what_decides_the_answers(servers: list[str]) -> None:
    fields = {"response_format": {"type": "json_object"}}
    with EndpointGenerator(servers[0], "m", fields=fields) as generator:
        generator.generate(["abc"], GenerationSettings())
        assert _Server.log[-1]["response_format"] == {"type": "json_object"}
        assert _Server.log[-1]["temperature"] == 0
        with EndpointGenerator(servers[0], "m") as other:
            assert generator.identity != other.identity


def test_failures_are_tried_again_and_the_key_stays_hidden(servers: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    waits: list[float] = []
    generator = EndpointGenerator(servers[0], "m", parallel=1, sleep=waits.append)
    _Server.failures = [(429, {"Retry-After": "7"}), (503, {})]
    assert generator.generate(["hi"], GenerationSettings()) == [["HI"]]
    assert waits == pytest.approx([7.0, 2.0], abs=0.2)
    assert _Server.log[0]["key"] == "Bearer sk-secret"
    _Server.failures = [(401, {})]
    with pytest.raises(InputError, match=r"status 401: no, Bearer \(the key\)"):
        generator.generate(["hi"], GenerationSettings())
    _Server.failures = [(500, {})] * 5
    with pytest.raises(InputError, match=r"status 500.*within 5 attempts"):
        generator.generate(["hi"], GenerationSettings())
    assert "sk-secret" not in repr(vars(generator)["urls"]) + generator.identity
    dead = EndpointGenerator(["http://127.0.0.1:9/v1", servers[0]], "m", parallel=1, sleep=waits.append)
    assert dead.generate(["a", "b"], GenerationSettings()) == [["A"], ["B"]]  # the other server answers
    _Server.delay = 0.5
    slow = EndpointGenerator(servers[0], "m", timeout=0.05, attempts=2, sleep=waits.append)
    with pytest.raises(InputError, match="no answer"):
        slow.generate(["a"], GenerationSettings())


def test_a_server_that_fails_rests_and_no_answer_is_lost_or_asked_twice(servers: list[str]) -> None:
    """Two of four servers fail, one from its fourth request on; the requests go to the others without waiting."""
    broken = ThreadingHTTPServer(
        ("127.0.0.1", 0), type("Broken", (_Server,), {"failures": [(503, {})] * 1000, "log": []})
    )
    tiring = type("Tiring", (_Server,), {"failures": [(200, {})] * 3 + [(500, {})] * 1000, "log": [], "answered": []})
    stopping = ThreadingHTTPServer(("127.0.0.1", 0), tiring)
    for server in (broken, stopping):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    urls = ["http://127.0.0.1:9/v1", *(f"http://127.0.0.1:{s.server_port}/v1" for s in (broken, stopping)), servers[0]]
    waits: list[float] = []
    texts = [f"text {i}" for i in range(24)]
    with EndpointGenerator(urls, "m", parallel=3, attempts=4, sleep=waits.append) as generator:
        found = generator.generate(texts, GenerationSettings())
    for server in (broken, stopping):
        server.shutdown()
        server.server_close()
    assert found == [[text.upper()] for text in texts]
    assert sorted(_Server.answered + tiring.answered) == sorted(texts)  # type: ignore[attr-defined]
    assert not waits
    assert EndpointGenerator([urls[1], urls[1] + "/"], "m").urls == [urls[1]]


def test_retry_after_is_seconds_or_a_date() -> None:
    from datetime import UTC, datetime, timedelta
    from email.utils import format_datetime

    assert [_retry_after(v) for v in (None, "", "3", "-1", "soon")] == [0, 0, 3, 0, 0]
    later = _retry_after(format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True))
    assert 25 < later <= 30


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"urls": "localhost"}, "endpoint"),
        ({"urls": []}, "endpoint"),
        ({"model": ""}, "endpoint_model"),
        ({"api": "responses"}, "api"),
        ({"parallel": 0}, "parallel"),
        ({"attempts": 0}, "attempts"),
        ({"timeout": 0}, "timeout"),
    ],
)
def test_bad_endpoints_are_named(arguments: dict, field: str) -> None:
    with pytest.raises(InputError) as caught:
        EndpointGenerator(**({"urls": "http://localhost:1", "model": "m"} | arguments))
    assert caught.value.field == field
