"""Completion, infilling and their evaluation, on the bundled model and on scripted ones."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from transformers import CodeGenTokenizer

from paperworks.errors import InputError
from paperworks.papers.codegen2 import (
    InfillTokens,
    check_layout,
    complete,
    evaluate_infill,
    infill,
    infill_many,
    infill_tokens,
    load_code_model,
    make_holes,
    pass_at_k,
    prompt_format,
    small_model,
    split_holes,
    truncate_completion,
)
from paperworks.papers.codegen2.conversion import SNIPPET
from paperworks.papers.codegen2.models import BUNDLED


@pytest.fixture(scope="module")
def bundled() -> Any:
    return load_code_model(device="cpu")


class Scripted(torch.nn.Module):
    """Stands in for a model: what comes next is written down by what came last."""


def test_prompt_and_fills(bundled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = bundled.model, bundled.tokenizer
    tokens = infill_tokens(tokenizer)
    seen: list[list[int]] = []
    said = ["  x = 1", "return x"]

    def generate(**options: Any) -> torch.Tensor:
        rows = options["input_ids"].tolist()
        seen.extend(rows)
        answer = [*tokenizer(said[len(seen) - 1])["input_ids"], tokens.eom, 5, 5]
        return torch.tensor([row + answer for row in rows])

    monkeypatch.setattr(model, "generate", generate)
    pieces = ("def f():\n", "\n  ", "\n# end")
    fills = infill_many(model, tokenizer, [pieces], 20, heal=False)[0]
    assert [f.text for f in fills] == said
    assert all(f.finished for f in fills)
    text = f"def f():\n<mask_1>\n  <mask_2>\n# end{tokenizer.eos_token}<sep><mask_1>"
    first = tokenizer("def f():\n")["input_ids"] + [tokens.masks[0]] + tokenizer("\n  ")["input_ids"]
    first += [tokens.masks[1]] + tokenizer("\n# end")["input_ids"] + [tokens.end, tokens.sep]
    assert seen[0] == [*first, tokens.masks[0]]
    assert tokenizer.decode(seen[0]) == text
    assert seen[1] == [*seen[0], *tokenizer(said[0])["input_ids"], tokens.eom, tokens.masks[1]]


def test_white_space_before_a_hole_is_taken_into_it(bundled: Any) -> None:
    prompt = "def f(x):\n    if x:\n        "
    made = infill_many(bundled.model, bundled.tokenizer, [(prompt, "\n    return x\n"), ("a = ", "\n")], 12)
    assert all(not fill[0].text.startswith("\n\n\n\n\n") for fill in made)
    text = complete(bundled.model, bundled.tokenizer, [prompt], 10, temperature=0, truncate=False)[0][0]
    assert isinstance(text, str)


@pytest.mark.parametrize("seed", range(20))
def test_an_answer_begins_with_the_white_space_in_whatever_tokens(bundled: Any, seed: int) -> None:
    from paperworks.papers.codegen2.completion import _Forced, encode

    processor: Any = _Forced(bundled.tokenizer, ["\n        "], 1)
    draw = torch.Generator().manual_seed(seed)
    ids = torch.tensor([[encode(bundled.tokenizer, "x")[0]]])
    said = ""
    while True:  # as in generation: called once for every token
        scores = processor(ids, torch.randn(1, bundled.model.config.vocab_size, generator=draw))
        if not processor.left[0]:
            break
        following = int(scores.argmax())
        said += bundled.tokenizer.decode([following])
        ids = torch.cat([ids, torch.tensor([[following]])], 1)
    assert said.startswith("\n        ")


def test_batches_are_as_each_alone_and_sampling_is_seeded(bundled: Any) -> None:
    documents = [("def f(x):\n    return ", "\n"), ("import ", "\n\nprint(1)\n", "\n"), ("class A:\n", "\n")]
    together = infill_many(bundled.model, bundled.tokenizer, documents, 8)
    alone = [infill_many(bundled.model, bundled.tokenizer, [d], 8)[0] for d in documents]
    assert together == alone
    assert together[0][0].text == infill(bundled.model, bundled.tokenizer, *documents[0], 8)
    state = torch.get_rng_state()
    drawn = [complete(bundled.model, bundled.tokenizer, ["x = "], 8, n=3, temperature=1.0, seed=s) for s in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0][0]) == 3
    assert torch.equal(torch.get_rng_state(), state)


def test_long_documents_are_cut_with_a_warning(bundled: Any) -> None:
    with pytest.warns(UserWarning, match="1 of 1 documents are longer"):
        infill(bundled.model, bundled.tokenizer, "x = 1\n" * 500, "\ny = 2" * 500, 4)
    with pytest.raises(InputError, match="tokens between holes"):
        infill_many(bundled.model, bundled.tokenizer, [("a", "x = 1\n" * 500, "b")], 4)
    with pytest.warns(UserWarning, match="prompts are longer"):
        complete(bundled.model, bundled.tokenizer, ["x = 1\n" * 500], 4)


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda m, t: complete(m, t, ["a"], 4, n=2, temperature=0), "n"),
        (lambda m, t: complete(m, t, "a", 4), "prompts"),
        (lambda m, t: complete(m, t, ["a"], 4000), "max_new_tokens"),
        (lambda m, t: infill_many(m, t, ["a"]), "documents, number 0"),
        (lambda m, t: infill(m, t, "a", "b", 0), "max_new_tokens"),
        (lambda m, t: infill(m, t, "a", "b", 4, temperature=-1), "temperature"),
        (lambda m, t: infill(m, t, "a", "b", 4, num_beams=2), "num_beams"),
        (lambda m, t: split_holes("no hole"), "file"),
        (lambda m, t: make_holes(["a = 1\nb = 2\nc = 3\nd = 4\n"], "line", 50), "n"),
        (lambda m, t: make_holes(["a"], "word"), "kind"),
        (lambda m, t: pass_at_k(5, 6, 1), "c"),
        (lambda m, t: pass_at_k(5, 2, 6), "k"),
        (lambda m, t: pass_at_k(5, 0.5, 1), "c"),
        (lambda m, t: small_model(100, heads=6), "heads"),
        (lambda m, t: small_model(100, rotary_dim=7), "rotary_dim"),
        (lambda m, t: check_layout(m, t, groups=5), "groups"),
        (lambda m, t: InfillTokens(1, 2, 3, (4,), vocabulary=4), "tokens"),
    ],
)
def test_bad_input_names_the_field(bundled: Any, call: Any, field: str) -> None:
    with pytest.raises(InputError) as caught:
        call(bundled.model, bundled.tokenizer)
    assert caught.value.field == field


def test_pass_at_k_by_enumeration() -> None:
    for n, c, k in ((5, 2, 1), (6, 2, 3), (7, 7, 2), (4, 0, 4), (6, 3, 6)):
        chosen = list(itertools.combinations(range(n), k))
        assert pass_at_k(n, c, k) == pytest.approx(np.mean([any(i < c for i in some) for some in chosen]))
    assert pass_at_k([200, 200], [10, 0], 100) == pytest.approx([1 - math.comb(190, 100) / math.comb(200, 100), 0.0])


COMPLETIONS = [
    "    return 1\n\n\n\nx = 2",
    "    x = 1\n\n# test\nprint(x)",
    "    a\ndef g():\n    b\ndef h():\n    c",
    "print(1)\nprint(2)\n",
    "    s\n'''doc'''\n",
    "    return x",
    "",
    "    a\n    print(1)\nprint(2)\nprint(3)\n\n#",
]


@pytest.mark.parametrize("text", COMPLETIONS)
def test_truncation_is_that_of_transformers(text: str) -> None:
    peer = CodeGenTokenizer.truncate(None, text, [r"\n\n^#", "^'''", "\n\n\n"])  # type: ignore[arg-type]
    assert truncate_completion(text) == peer


def test_truncation_at_the_end_token() -> None:
    assert truncate_completion("    return 1<|endoftext|>import os") == "    return 1"


def test_scores_of_holes(bundled: Any) -> None:
    texts = [SNIPPET, SNIPPET.replace("counter", "table")]
    for kind in ("line", "multiline", "span"):
        holes = make_holes(texts, kind, 8, seed=1)  # type: ignore[arg-type]
        assert all(texts[h.file] == h.prefix + h.middle + h.suffix for h in holes)
        assert all(h.middle.strip() for h in holes)
        lines = [h.middle.count("\n") + 1 for h in holes]
        assert {"line": max(lines) == 1, "multiline": min(lines) >= 2 and max(lines) <= 5, "span": True}[kind]
    scores = evaluate_infill(bundled.model, bundled.tokenizer, texts, "line", n=6, max_new_tokens=12)
    found = scores.to_dict()
    assert found["holes"] == len(scores.exact) == 6
    # the likelihood of one hole, from the text of the prompt
    tokens, hole = infill_tokens(bundled.tokenizer), scores.holes[0]
    head = hole.prefix.rstrip()
    encode = lambda text: bundled.tokenizer(text)["input_ids"]  # noqa: E731
    middle = encode(hole.prefix[len(head) :] + hole.middle)
    around = [*encode(head), tokens.masks[0], *encode(hole.suffix)]
    if len(around) + len(middle) + 3 <= 256:
        ids = torch.tensor([[*around, tokens.end, tokens.sep, tokens.masks[0], *middle]])
        logits = bundled.model(ids).logits[0].log_softmax(-1)
        wanted = -sum(float(logits[-len(middle) - 1 + i, t]) for i, t in enumerate(middle))
        assert scores.nll[0] == pytest.approx(wanted, rel=1e-4)
    assert (scores.nll_other != scores.nll).any()
    again = evaluate_infill(bundled.model, bundled.tokenizer, texts, "line", n=6, generate=False)
    assert again.nll == pytest.approx(scores.nll)
    with pytest.raises(InputError, match="generate"):
        _ = again.exact


def test_the_prompt_format_is_one_prompt(bundled: Any) -> None:
    said = prompt_format(bundled.tokenizer)
    prompt = said["infill"].format(prefix="a", suffix="b")
    assert prompt == f"a<mask_1>b{bundled.tokenizer.eos_token}<sep><mask_1>"
    fim = said["llm_ls"]["fim"]
    assert prompt == f"{fim['prefix']}a{fim['suffix']}b{fim['middle']}"


def test_the_bundled_model_is_small_and_has_a_card() -> None:
    assert sum(file.stat().st_size for file in BUNDLED.iterdir()) < 16_000_000
    assert "make_bundled --out" in (BUNDLED / "README.md").read_text()


def test_of_a_hole_longer_than_half_of_the_context_the_scored_bytes_count(bundled: Any) -> None:
    model, tokenizer = bundled.model, bundled.tokenizer
    line = "total = " + " + ".join(f"value_{i} * {i}" for i in range(200))
    scores = evaluate_infill(model, tokenizer, [f"import os\n{line}\nprint(total)\n"], n=1, generate=False)
    half = model.config.n_positions // 2
    assert scores.tokens.tolist() == [half]
    hole = f"\n{line}"  # white space in front of a hole is in it
    scored = tokenizer.decode(tokenizer(hole)["input_ids"][:half])
    assert hole.startswith(scored)
    assert scores.letters.tolist() == [len(scored)]
    short = evaluate_infill(model, tokenizer, ["import os\n  total = 1\nprint(total)\n"], n=1, generate=False)
    assert short.letters.tolist() == [len("\n  total = 1")]


def test_sampling_needs_a_temperature(bundled: Any) -> None:
    with pytest.raises(InputError, match="temperature: found 0"):
        infill(bundled.model, bundled.tokenizer, "a", "b", 4, do_sample=True)


def test_more_new_tokens_than_the_context_has(bundled: Any) -> None:
    with pytest.raises(InputError, match=r"max_new_tokens: found 300 for each of 2 holes.*expected at most 123"):
        infill_many(bundled.model, bundled.tokenizer, [("a", "b", "c")], 300)
