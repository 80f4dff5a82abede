"""Language models in text: the protocol, shared passes, stub models with known scores, and a server in this process."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from paperworks.errors import InputError
from paperworks.papers.icl_discrete import BooleanTask, CallableModel, Endpoint, LocalModel, Neighbours, evaluate_llm
from paperworks.papers.icl_discrete.language_models import ask_prompts, small_task
from paperworks.papers.icl_discrete.prompts import instruction_text, majority, parse_answer, text_prompt

XS = np.array([[1, -1, 1], [-1, -1, 1], [1, 1, 1]], np.int8)
YS = np.array([1, -1, 1], np.int8)


def test_the_text_of_a_prompt():
    prompt = text_prompt(XS, YS, (1, 2), "Say.")
    assert prompt.text == "Say.\n\nInput: 1 0 1\nLabel: 1\n\nInput: 0 0 1\nLabel: 0\n\nInput: 1 1 1\nLabel:"
    assert prompt.questions == ["Say.\n\nInput: 1 0 1\nLabel: 1\n\nInput: 0 0 1\nLabel:", prompt.text]
    texts = {instruction_text(k, BooleanTask("majority")) for k in ("plain", "class", "algorithm", "steps", "python")}
    assert len(texts) == 5
    assert any("majorities" in t for t in texts)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        (" 1", 1),
        ("0", -1),
        (" 0\n\nInput: 1", -1),
        ("1.", 1),
        ("", 0),
        ("\n1", 0),
        ("yes", 0),
        ("10", 0),
        ("-1", 0),
        ("Input 1", 0),
        (" 1 0", 1),
    ],
)
def test_what_counts_as_an_answer(text, label):
    assert parse_answer(text).label == label


def test_step_by_step_answers_end_with_the_label():
    assert parse_answer("x0 is 1, so the label is 0.", last_number=True).label == -1
    assert parse_answer("It is 2", last_number=True).label == 0
    assert parse_answer("no idea", last_number=True).label == 0
    assert [majority([parse_answer(t) for t in ts]).label for ts in (["1", "0", "1"], ["1", "0"], ["x", "0"])] == [
        1,
        0,
        -1,
    ]


def copier(question):
    """The label of the latest identical input; no answer where there is none."""
    blocks = [b.split("\nLabel:") for b in question.split("\n\nInput: ")[1:]]
    *seen, (asked, _) = blocks
    return next((label for x, label in reversed(seen) if x == asked), " what?")


def test_a_model_that_copies_scores_what_can_be_computed():
    task = BooleanTask("conjunction", 3, literals=0.5)
    result = evaluate_llm(CallableModel(copier), task, n_prompts=40, n_points=20, every=3, seed=5)
    prompts = task.sample(40, 20, 5)
    expected = []
    for b in range(40):
        for j in range(3, 20, 3):
            expected.append(any((prompts.xs[b, i] == prompts.xs[b, j]).all() for i in range(j)))
    assert result.right["language model"].ravel().tolist() == expected
    assert result.tenable == pytest.approx(np.mean(expected))
    assert result.answers["answer"].isna().sum() == len(expected) - sum(expected)
    curves = result.curves[result.curves["learner"] == "language model"]
    assert curves["position"].tolist() == [3, 6, 9, 12, 15, 18]
    nearest = np.sign(Neighbours(1).scores(prompts.xs, prompts.ys)) == prompts.ys
    own = result.curves[result.curves["learner"] == "1-NN"]["accuracy"]
    np.testing.assert_allclose(own, nearest[:, 3::3].mean(0))


def test_few_bits_keep_more_literals():
    assert small_task(BooleanTask("conjunction", 5)).literal_probability == 0.5
    assert small_task(BooleanTask("conjunction", 8)).literal_probability == 0.3
    assert small_task(BooleanTask("parity", 5)) == BooleanTask("parity", 5)


def one_by_one(model, tokenizer, prompt):
    """Every question asked on its own: transformers' generate, and the probabilities of the two continuations."""
    texts, log_odds = [], []
    for question in prompt.questions:
        ids = torch.tensor([tokenizer(question).input_ids])
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=2, do_sample=False, pad_token_id=0
        )
        texts.append([tokenizer.decode([t]) for t in out[0, ids.shape[1] :]])
        chances = []
        for label in (" 0", " 1"):
            whole = tokenizer(question + label).input_ids
            with torch.no_grad():
                logits = model(torch.tensor([whole])).logits[0].log_softmax(-1)
            chances.append(sum(float(logits[i - 1, whole[i]]) for i in range(ids.shape[1], len(whole))))
        log_odds.append(chances[1] - chances[0])
    return texts, log_odds


def test_one_pass_gives_what_single_questions_give():
    local = LocalModel.load(None, "logits", "cpu")
    local.model.float()  # bfloat16 rounds differently in passes of other lengths
    text = LocalModel(local.model, local.tokenizer, "text")
    calls = []
    plain = local.model.forward
    prompts = BooleanTask("conjunction", 4).sample(3, 6, 0)
    for b in range(3):
        prompt = text_prompt(prompts.xs[b], prompts.ys[b], (1, 2, 3, 4, 5), "Guess the label.")
        texts, log_odds = one_by_one(local.model, local.tokenizer, prompt)
        answers = local.answers(prompt)
        assert [a.label for a in answers] == [int(np.sign(o)) for o in log_odds]
        for answer, odds in zip(answers, log_odds, strict=True):
            zero, one = (float(part.rsplit(" ", 1)[1]) for part in answer.text.split(", "))
            assert one - zero == pytest.approx(odds, abs=2e-3)
        for answer, pieces in zip(text.answers(prompt), texts, strict=True):
            assert answer.text in (pieces[0], "".join(pieces))
            assert answer.label == parse_answer(pieces[0] if pieces[0].strip() else "".join(pieces)).label
    local.model.forward = lambda *a, **k: (calls.append(1), plain(*a, **k))[1]
    prompt = text_prompt(XS, YS, (1, 2), "Guess.")
    try:
        LocalModel(local.model, local.tokenizer, "text").answers(prompt)
    finally:
        del local.model.forward
    assert len(calls) <= 3


def words_tokenizer():
    """One token per word, so that ' 0' and ' 1' are single tokens, as in most language models."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["[UNK]", "Input", "Label", ":", "0", "1", "Guess", "."]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")


def test_single_token_labels_need_one_pass_and_contexts_have_an_end():
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=8, n_positions=40, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    model = GPT2LMHeadModel(config).eval()
    tokenizer = words_tokenizer()
    local, passes = LocalModel(model, tokenizer), []
    plain = local._logits
    local._logits = lambda ids, places: (passes.append(ids), plain(ids, places))[1]
    prompt = text_prompt(XS, YS, (0, 1, 2), "Guess.")
    answers = local.answers(prompt)
    assert len(passes) == 1
    for answer, question in zip(answers, prompt.questions, strict=True):
        logits = model(torch.tensor([tokenizer(question).input_ids])).logits[0, -1]
        assert answer.label == (1 if logits[5] > logits[4] else -1)
    with pytest.raises(InputError, match=r"n_points: found a prompt of 49 tokens; .*at most 40 tokens.*only 4 of 6"):
        six = np.tile(XS, (2, 1))
        local.answers(text_prompt(six, np.tile(YS, 2), (0, 1, 2, 3, 4, 5), "Guess."))
    with pytest.raises(InputError, match="method: found 'guess'"):
        LocalModel(model, tokenizer, "guess")


class Server(BaseHTTPRequestHandler):
    """A chat and completions server that copies labels; the first request of each kind fails."""

    requests: list[dict] = []  # noqa: RUF012 - shared on purpose
    failures = 0

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).requests.append({"path": self.path, "key": self.headers.get("Authorization"), **body})
        if type(self).failures > 0:
            type(self).failures -= 1
            self.send_response(503)
            self.end_headers()
            return
        question = body["messages"][0]["content"] if "messages" in body else body["prompt"]
        if body["model"] == "strange":
            content = {"nothing": 1}
        elif "messages" in body:
            content = {"choices": [{"message": {"role": "assistant", "content": copier(question)}}]}
        else:
            content = {"choices": [{"text": copier(question)}]}
        data = json.dumps(content).encode()
        self.send_response(404 if body["model"] == "missing" else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    Server.requests, Server.failures = [], 0
    running = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}/v1"
    running.shutdown()
    running.server_close()


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_a_server_gives_what_the_function_behind_it_gives(server, api, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    task = BooleanTask("conjunction", 3)
    Server.failures = 2
    waits = []
    kept = tmp_path / "answers.sqlite"
    endpoint = Endpoint(server, "copier", api, kept=kept, sleep=waits.append)
    found = evaluate_llm(endpoint, task, n_prompts=4, n_points=12, every=4)
    direct = evaluate_llm(CallableModel(copier), task, n_prompts=4, n_points=12, every=4)
    assert found.answers.equals(direct.answers)
    assert len(waits) == 2
    first = Server.requests[0]
    assert first["path"] == ("/v1/chat/completions" if api == "chat" else "/v1/completions")
    assert (first["key"], first["temperature"], first["max_tokens"]) == ("Bearer secret", 0.0, 2)
    assert first["stop"] == ["\n", "Input"]
    count = len(Server.requests)
    again = Endpoint(server, "copier", api, kept=kept)
    assert evaluate_llm(again, task, n_prompts=4, n_points=12, every=4).answers.equals(direct.answers)
    assert len(Server.requests) == count
    assert b"secret" not in kept.read_bytes()


def test_bad_servers_are_named(server):
    prompt = text_prompt(XS, YS, (2,), "Guess.")
    waits = []
    for model, message in [("missing", "endpoint: found .*status 404"), ("strange", "an answer of another form")]:
        with pytest.raises(InputError, match=message):
            Endpoint(server, model, sleep=waits.append).answers(prompt)
    assert waits == []
    Server.failures = 99
    with pytest.raises(InputError, match="status 503"):
        Endpoint(server, "copier", sleep=waits.append).answers(prompt)
    with pytest.raises(InputError, match="no answer"):
        Endpoint("http://127.0.0.1:9/v1", "copier", sleep=waits.append).answers(prompt)
    with pytest.raises(InputError, match="endpoint: found 'localhost'"):
        Endpoint("localhost", "copier")
    with pytest.raises(InputError, match="n: found 0"):
        Endpoint(server, "copier", samples=0)
    sampled = Endpoint(server, "copier", samples=3, sleep=waits.append)
    Server.failures, Server.requests = 0, []
    sampled.answers(prompt)
    assert [r["temperature"] for r in Server.requests] == [1.0] * 3


def test_bad_questions_are_named():
    prompts = BooleanTask("conjunction", 3).sample(1, 4, 0)
    with pytest.raises(InputError, match="every: found 0"):
        ask_prompts(CallableModel(copier), prompts, every=0, instruction="", learners=[])
    with pytest.raises(InputError, match="n_points: found 4; expected more than 5"):
        ask_prompts(CallableModel(copier), prompts, every=5, instruction="", learners=[])
