"""Multiple choice against a plain loop over tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from paperworks.errors import InputError
from paperworks.language.choice import Question, choice_accuracy, continuation_questions, ending_scores


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4
        )
        return LlamaForCausalLM(config).eval()


def test_scores_equal_a_loop(model: LlamaForCausalLM) -> None:
    question = Question((3, 4, 5), ((6, 7, 8), (9,), (1, 2)), 1, (3, 1, 2))
    for score, ending in zip(ending_scores(model, question), question.endings, strict=True):
        ids, total = list(question.context), 0.0
        for token in ending:
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
            total += float(logits.double().log_softmax(0)[token])
            ids.append(token)
        assert float(score) == pytest.approx(total, abs=1e-5)


def test_accuracy_counts_both_ways(model: LlamaForCausalLM) -> None:
    question = Question((3,), ((6, 7), (9,)), 0, (2, 1))
    scores = ending_scores(model, question)
    right = Question((3,), ((6, 7), (9,)), int(scores.argmax()), (2, 1))
    normed = int((scores / torch.tensor([2.0, 1.0])).argmax())
    found = choice_accuracy(model, [right])
    assert found == {"acc": 1.0, "acc_norm": float(normed == right.answer)}


def test_questions_hold_the_true_ending_once() -> None:
    windows = torch.arange(200).reshape(10, 20)
    questions = continuation_questions(windows, 8, 12, 6, np.random.default_rng(0))
    assert len({q.context for q in questions}) == 8
    for q in questions:
        assert q.endings[q.answer] == tuple(range(q.context[-1] + 1, q.context[-1] + 7))
        assert len(set(q.endings)) == 4
    assert len({q.answer for q in questions}) > 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"context": ()}, "context"),
        ({"endings": ((1,),)}, "endings"),
        ({"answer": 2}, "answer"),
        ({"lengths": (0, 1)}, "lengths"),
    ],
)
def test_bad_questions(change: dict, field: str) -> None:
    fields = {"context": (1,), "endings": ((1,), (2,)), "answer": 0, "lengths": (1, 1)}
    with pytest.raises(InputError, match=field):
        Question(**(fields | change))


def test_bad_windows() -> None:
    with pytest.raises(InputError, match="at least 30 tokens"):
        continuation_questions(torch.zeros(5, 20, dtype=torch.int64), 2, 20, 10, np.random.default_rng(0))
    with pytest.raises(InputError, match="1 to 3"):
        continuation_questions(torch.zeros(3, 20, dtype=torch.int64), 4, 5, 5, np.random.default_rng(0))
