"""The bridge to lm-eval: what it hands over, what it gives back, and what it says without lm-eval."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from paperworks.errors import InputError
from paperworks.language import evaluate_with_harness


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """An lm-eval that notes what it is asked."""
    noted: list[dict[str, Any]] = []

    def simple_evaluate(**kwargs: Any) -> dict[str, Any]:
        noted.append(kwargs)
        return {"results": {"arc_easy": {"acc,none": 0.5, "acc_norm,none": 1, "alias": "arc_easy"}}}

    class Manager:
        all_tasks = ("arc_easy", "wikitext")

        def __init__(self, include_path: str | None = None) -> None:
            self.include_path = include_path

    names = ("lm_eval", "lm_eval.models", "lm_eval.models.huggingface", "lm_eval.tasks")
    modules: dict[str, Any] = {name: ModuleType(name) for name in names}
    modules["lm_eval"].simple_evaluate, modules["lm_eval"].__version__ = simple_evaluate, "0.4.9"
    modules["lm_eval.models.huggingface"].HFLM = lambda **kwargs: kwargs
    modules["lm_eval.tasks"].TaskManager = Manager
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return noted


def test_it_hands_the_model_over_and_returns_numbers(calls: list[dict[str, Any]]) -> None:
    found = evaluate_with_harness("model", "tokenizer", ["arc_easy"], few_shot=5, limit=7, task_folder="mine")
    assert found.metrics == {"arc_easy": {"acc,none": 0.5, "acc_norm,none": 1.0}}
    assert (found.version, found.few_shot) == ("0.4.9", 5)
    assert calls[0]["model"] == {"pretrained": "model", "tokenizer": "tokenizer", "batch_size": 8}
    assert (calls[0]["num_fewshot"], calls[0]["limit"], calls[0]["task_manager"].include_path) == (5, 7, "mine")
    with pytest.raises(InputError, match="nonsense"):
        evaluate_with_harness("model", "tokenizer", ["nonsense"])


def test_without_lm_eval_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(InputError, match="pip install lm-eval"):
        evaluate_with_harness("model", "tokenizer", ["arc_easy"])
    with pytest.raises(InputError, match="tasks"):
        evaluate_with_harness("model", "tokenizer", [])
