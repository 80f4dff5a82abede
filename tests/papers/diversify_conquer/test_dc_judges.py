"""What the judges read: the prompts of published raters, special tokens, chat templates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from paperworks.errors import InputError
from paperworks.papers.diversify_conquer import DeitaScorer, PerplexityScorer, RewardModelScorer
from tiny_checkpoint import tiny_inputs

CHAT = "[PAD]{% for m in messages %}{{ m.content }} .{% endfor %}{% if add_generation_prompt %}{% endif %}"
COMPLEXITY = (
    "You are a helpful assistant. Please identify the complexity score of the following user query. \n"
    "##Query: a {response} b  \n##Complexity: "
)
QUALITY = (
    "You are a helpful assistant. Please identify the quality score of the Response corresponding to the Question. \n"
    " #Question#:\na {response} b\n#Response#:\nthe {prompt} \n##Quality: "
)


def with_chat(folder: str | Path) -> Any:
    """The folder's tokenizer starts every text with [PAD], and so does its new chat template."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="[PAD] $A", special_tokens=[("[PAD]", tokenizer.pad_token_id)]
    )
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    return tokenizer


def inputs_of(model: Any) -> list[torch.Tensor]:
    """Collects the tokens of every call of a model."""
    seen: list[torch.Tensor] = []
    model.register_forward_pre_hook(lambda _module, _args, named: seen.append(named["input_ids"]), with_kwargs=True)
    return seen


def test_deitas_raters_read_what_they_were_trained_on(tmp_path: Path) -> None:
    folder, _ = tiny_inputs(tmp_path)
    scorer = DeitaScorer(folder, folder, range(2, 8), device="cpu")
    read: list[str] = []

    class Recorder:
        def __init__(self, tokenizer: Any) -> None:
            self.tokenizer = tokenizer

        def __call__(self, text: str, **options: Any) -> Any:
            read.append(text)
            return self.tokenizer(text, **options)

    scorer.raters = [(model, Recorder(tokenizer)) for model, tokenizer in scorer.raters]
    scorer.score(["a {response} b"], ["the {prompt}"])
    assert read == [COMPLEXITY, QUALITY]  # braces in the texts stay
    for options, field in (
        ({"complexity_template": "rate this: "}, "complexity_template"),
        ({"quality_template": "{prompt}: "}, "quality_template"),
        ({"batch_size": 0}, "batch_size"),
        ({}, "complexity_model"),  # a tokenizer without digits
    ):
        with pytest.raises(InputError) as caught:
            DeitaScorer(folder, folder, **options)  # type: ignore[arg-type]
        assert caught.value.field == field


def test_ratings_come_in_batches_and_do_not_depend_on_them(tmp_path: Path) -> None:
    folder, _ = tiny_inputs(tmp_path)
    prompts = ["the cat", "the big dog goes to the river and sees", "a fox", "the cow sees a bird", "the old cat"]
    alone = DeitaScorer(folder, folder, range(2, 8), device="cpu", batch_size=1)
    together = DeitaScorer(folder, folder, range(2, 8), device="cpu", batch_size=3)
    seen = inputs_of(together.raters[0][0])
    found = together.ratings(0, prompts, [""] * 5)
    np.testing.assert_allclose(found, alone.ratings(0, prompts, [""] * 5), atol=1e-5)
    assert [len(tokens) for tokens in seen] == [3, 2]
    assert len(set(found.round(6))) == 5


def test_a_chat_template_brings_its_special_tokens_once(tmp_path: Path) -> None:
    folder, _ = tiny_inputs(tmp_path)
    config = AutoConfig.from_pretrained(folder)
    config.num_labels = 1
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "reward")
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "reward")
    tokenizer = with_chat(tmp_path / "reward")
    for template, expected in ((None, "the cat . goes to ."), ("{prompt} {response}", "the cat goes to")):
        judge = RewardModelScorer(tmp_path / "reward", template=template, device="cpu")
        seen = inputs_of(judge.model)
        judge.score(["the cat"], ["goes to"])
        words = tokenizer(expected, add_special_tokens=False)["input_ids"]
        assert seen[0][0].tolist() == [tokenizer.pad_token_id, *words]


def test_perplexity_follows_the_chat_template(tmp_path: Path) -> None:
    folder, _ = tiny_inputs(tmp_path)
    tokenizer = with_chat(folder)
    judge = PerplexityScorer(folder, sign=-1, device="cpu")
    ids = tokenizer("[PAD] the big cat . goes to the house", add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        logs = judge.model(input_ids=torch.tensor([ids])).logits[0].float().log_softmax(-1)
    by_hand = np.mean([float(logs[i - 1, ids[i]]) for i in range(5, 9)])
    found = judge.score(["the big cat", "the fox " * 60], ["goes to the house", "sees a bird " * 40])
    assert found[0] == pytest.approx(by_hand, rel=1e-4)
    assert np.isfinite(found[1])  # cut to the context of 64 tokens, with the template's own
