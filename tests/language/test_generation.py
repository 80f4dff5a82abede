"""Generation: local models against transformers, the cache across kills, log-probabilities."""

from __future__ import annotations

import multiprocessing
import time
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
