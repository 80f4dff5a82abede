"""Generation: local models against transformers, a server that fails, the cache across kills, log-probabilities."""

from __future__ import annotations

import json
import multiprocessing
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from paperworks.errors import InputError
from paperworks.language.generation import (
    CachedGenerator,
    CallableGenerator,
    EndpointGenerator,
    GenerationSettings,
    Generator,
    SampleRequest,
    TransformersGenerator,
    generate_samples,
    load_generator,
    score_responses,
)
from paperworks.language.generation.endpoint import _retry_after

PROMPTS = ["Once", "The quick brown fox", "a", "No more than this"]


@pytest.fixture
def local(small_model, byte_tokenizer) -> TransformersGenerator:
    return TransformersGenerator(small_model, byte_tokenizer, batch_size=3)


def test_greedy_is_transformers_alone(local: TransformersGenerator) -> None:
    found = local.generate(PROMPTS, GenerationSettings(max_new_tokens=8, n=2))
    for prompt, texts in zip(PROMPTS, found, strict=True):
        ids = torch.tensor([local.tokenizer(prompt)["input_ids"]])
        out = local.model.generate(ids, max_new_tokens=8, do_sample=False, eos_token_id=local.tokenizer.eos_token_id)
        expected = local.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
        assert texts == [expected, expected]
    assert isinstance(local, Generator)


@pytest.mark.parametrize("top_p", [1.0, 0.8])
def test_draws_do_not_depend_on_the_batch(local: TransformersGenerator, top_p: float) -> None:
    settings = GenerationSettings(max_new_tokens=6, temperature=0.9, top_p=top_p, n=3, seed=4)
    together = local.generate(PROMPTS, settings)
    alone = [
        TransformersGenerator(local.model, local.tokenizer, batch_size=1).generate([p], settings)[0] for p in PROMPTS
    ]
    assert together == alone
    assert local.generate(PROMPTS[::-1], settings) == together[::-1]
    assert len({text for texts in together for text in texts}) > 6
    other = GenerationSettings(max_new_tokens=6, temperature=0.9, top_p=top_p, n=3, seed=5)
    assert local.generate(PROMPTS, other) != together


def test_draws_have_the_models_probabilities(local: TransformersGenerator) -> None:
    count, prompt = 1500, "ab"
    settings = GenerationSettings(max_new_tokens=1, temperature=0.7, top_p=0.6, n=count)
    big = TransformersGenerator(local.model, local.tokenizer, batch_size=500)
    texts = big.generate([prompt], settings)[0]
    logits = local.model(torch.tensor([local.tokenizer(prompt)["input_ids"]])).logits[0, -1]
    p = (logits / 0.7).softmax(0)
    ranked, order = p.sort(descending=True)
    kept = int((ranked.cumsum(0) - ranked < 0.6).sum())
    expected: dict[str, float] = {}
    for token, share in zip(order[:kept].tolist(), (ranked[:kept] / ranked[:kept].sum()).tolist(), strict=True):
        text = local.tokenizer.decode([token], skip_special_tokens=True)
        expected[text] = expected.get(text, 0) + share
    assert set(texts) <= set(expected)
    for text, share in expected.items():
        assert abs(texts.count(text) / count - share) < 5 * (share * (1 - share) / count) ** 0.5 + 2 / count


def test_stops_chats_and_contexts(local: TransformersGenerator) -> None:
    whole = local.generate(["Once"], GenerationSettings(max_new_tokens=12))[0][0]
    stop = whole[3:5]
    assert (
        local.generate(["Once"], GenerationSettings(max_new_tokens=12, stop=(stop,)))[0][0] == whole[: whole.find(stop)]
    )
    with pytest.raises(InputError, match="no chat template"):
        local.generate([[{"role": "user", "content": "Hi"}]], GenerationSettings())
    tokenizer = local.tokenizer
    template = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
    )
    try:
        tokenizer.chat_template = template
        chat = local.generate([[{"role": "user", "content": "Hi"}]], GenerationSettings(max_new_tokens=5))
        assert chat == local.generate(["<user>Hi<a>"], GenerationSettings(max_new_tokens=5))
        as_chat = TransformersGenerator(local.model, tokenizer, chat=True)
        assert as_chat.generate(["Hi"], GenerationSettings(max_new_tokens=5)) == chat
    finally:
        tokenizer.chat_template = None
    with pytest.raises(InputError, match="prompts, number 1: found 5000 tokens and 128 to come"):
        local.generate(["a", "b" * 5000], GenerationSettings())
    with pytest.raises(InputError, match="prompts, number 0"):
        local.generate([3], GenerationSettings())  # type: ignore[list-item]
    assert local.generate([""], GenerationSettings(max_new_tokens=2))[0][0] is not None


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"temperature": -1.0}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"n": 0}, "n"),
        ({"stop": ("",)}, "stop"),
        ({"stop": "end"}, "stop"),
    ],
)
def test_bad_settings_are_named(options: dict, field: str) -> None:
    with pytest.raises(InputError) as caught:
        GenerationSettings(**options)
    assert caught.value.field == field


@pytest.mark.parametrize("end", [False, True])
def test_log_probabilities_do_not_depend_on_padding(small_model, byte_tokenizer, end: bool) -> None:
    prompts, responses = ["a", "Once upon", "xyz "], ["bc", "a", " time and again"]
    expected = []
    for prompt, response in zip(prompts, responses, strict=True):
        ids = byte_tokenizer(prompt + response)["input_ids"] + [byte_tokenizer.eos_token_id] * end
        logits = small_model(torch.tensor([ids])).logits[0].detach().double().log_softmax(-1)
        start = len(byte_tokenizer(prompt)["input_ids"])
        expected.append(sum(float(logits[t - 1, ids[t]]) for t in range(start, len(ids))))
    for side in ("left", "right"):
        for size in (1, 3):
            found = score_responses(
                small_model, byte_tokenizer, prompts, responses, end=end, padding_side=side, batch_size=size
            )
            np.testing.assert_allclose([f.log_probability for f in found], expected, atol=1e-4)
            assert [len(f.token_ids) for f in found] == [len(r) + end for r in responses]
            assert found[0].mean == pytest.approx(found[0].token_log_probabilities.mean())
    with pytest.raises(InputError, match="responses, number 0"):
        score_responses(small_model, byte_tokenizer, ["a"], [""])
    with pytest.raises(InputError, match="responses: found 2"):
        score_responses(small_model, byte_tokenizer, ["a"], ["b", "c"])


def test_functions_and_what_makes_a_generator(tmp_path: Path) -> None:
    upper = load_generator(str.upper)
    assert upper.generate(["ab"], GenerationSettings(n=2)) == [["AB", "AB"]]
    seeded = CallableGenerator(lambda prompt, settings: f"{prompt} {settings.seed}")
    answers = seeded.generate(["a", "b"], GenerationSettings(temperature=1.0, n=2))
    assert len({text for texts in answers for text in texts}) == 4
    assert seeded.generate(["b"], GenerationSettings(temperature=1.0, n=2))[0] == answers[1]
    assert isinstance(load_generator(), TransformersGenerator)
    assert isinstance(load_generator("http://localhost:1/v1", "m"), EndpointGenerator)
    assert load_generator(upper) is upper
    for bad, match in (((3,), "generator"), (("folder", "m"), "model"), (("http://x",), "endpoint_model")):
        with pytest.raises(InputError, match=match):
            load_generator(*bad)
    with pytest.raises(InputError, match="int"):
        CallableGenerator(lambda p: 3).generate(["a"], GenerationSettings())  # type: ignore[arg-type, return-value]


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


def test_a_cache_asks_once(tmp_path: Path) -> None:
    calls: list[str] = []

    def function(prompt: str, settings: GenerationSettings) -> str:
        calls.append(prompt)
        return f"{prompt}{settings.seed}"

    settings = GenerationSettings(temperature=0.5, n=2)
    with CachedGenerator(CallableGenerator(function, "f"), tmp_path / "a.sqlite") as cached:
        first = cached.generate(["a", "b", "a"], settings)
        assert len(calls) == 4  # the same prompt twice is asked once
        assert first[0] == first[2]
        assert cached.generate(["b"], settings) == [first[1]]
        more = cached.generate(["b"], GenerationSettings(temperature=0.5, n=3))[0]
        assert more[:2] == first[1]  # a third answer is one more call
        assert len(calls) == 5
        cached.generate(["b"], GenerationSettings(temperature=0.5, n=2, seed=1))
        assert len(calls) == 7
    with CachedGenerator(CallableGenerator(function, "f"), tmp_path / "a.sqlite") as again:
        assert again.generate(["a", "b", "a"], settings) == first
        assert again.asked == 0
    with CachedGenerator(CallableGenerator(function, "g"), tmp_path / "a.sqlite") as other:
        other.generate(["a"], settings)
        assert other.asked == 2

    class Plain:
        def generate(self, prompts, settings):
            return [[p.upper()] * settings.n for p in prompts]

    with pytest.raises(InputError, match="identity"):
        CachedGenerator(Plain(), tmp_path / "b.sqlite")
    with CachedGenerator(Plain(), tmp_path / "b.sqlite", identity="plain") as plain:
        assert plain.generate(["a", "b"], GenerationSettings(n=2)) == [["A", "A"], ["B", "B"]]
    (tmp_path / "c.sqlite").write_text("not a database, but a text that is long enough" * 50)
    with pytest.raises(InputError, match=r"c\.sqlite"):
        CachedGenerator(Plain(), tmp_path / "c.sqlite", identity="plain")


def _slow(calls: Path, seconds: float):
    def function(prompt: str) -> str:
        with calls.open("a") as out:
            out.write(prompt + "\n")
        time.sleep(seconds)
        return prompt.upper()

    return CallableGenerator(function, "slow")


def _generate(folder: Path, seconds: float) -> list[list[str]]:
    with CachedGenerator(_slow(folder / "calls", seconds), folder / "a.sqlite") as cached:
        return cached.generate([f"p{i}" for i in range(40)], GenerationSettings())


def test_a_kill_loses_no_answer(tmp_path: Path) -> None:
    child = multiprocessing.get_context("fork").Process(target=_generate, args=(tmp_path, 0.03))
    child.start()
    calls, deadline = tmp_path / "calls", time.monotonic() + 60
    while time.monotonic() < deadline and (not calls.exists() or len(calls.read_text().splitlines()) < 5):
        time.sleep(0.005)
    child.kill()
    child.join()
    before = calls.read_text().splitlines()
    assert 5 <= len(before) < 40
    assert _generate(tmp_path, 0) == [[f"P{i}"] for i in range(40)]
    again = calls.read_text().splitlines()[len(before) :]
    assert set(before) & set(again) <= {before[-1]}  # only the one under way, which had no answer yet


def test_single_requests_have_numbers_of_their_own(tmp_path: Path, local: TransformersGenerator) -> None:
    settings = GenerationSettings(max_new_tokens=4, temperature=1.0, n=3)
    wanted = local.generate(["ab", "cd"], settings)
    requests = [SampleRequest(p, settings, k) for k in (2, 0) for p in ("cd", "ab")]
    expected = [wanted[1][2], wanted[0][2], wanted[1][0], wanted[0][0]]
    assert generate_samples(local, requests) == expected
    calls: list[int] = []

    def function(prompt: str, own: GenerationSettings) -> str:
        calls.append(own.seed)
        return f"{prompt} {own.seed}"

    class Plain:
        def generate(self, prompts, own):
            assert own.n == 1
            return [[function(p, own)] for p in prompts]

    plain = generate_samples(Plain(), requests)
    assert plain == generate_samples(CallableGenerator(function, "f"), requests)
    calls.clear()
    for generator in (CallableGenerator(function, "f"), Plain()):
        with CachedGenerator(generator, tmp_path / "a.sqlite", identity=type(generator).__name__) as cached:
            assert generate_samples(cached, [*requests, requests[0]]) == [*plain, plain[0]]
            assert generate_samples(cached, requests[::-1]) == plain[::-1]
            if isinstance(generator, CallableGenerator):
                assert cached.generate(["ab"], settings)[0][::2] == [plain[3], plain[1]]
    assert len(calls) == 2 * 4 + 1  # four requests each, and the number that the last call asks for besides
    with pytest.raises(InputError, match="prompts, number 1"):
        generate_samples(local, [requests[0], SampleRequest(3, settings, 0)])  # type: ignore[arg-type]
