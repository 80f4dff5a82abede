"""A bridge to lm-eval, which evaluates a model in memory on the field's own tasks. lm-eval is not a dependency."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from paperworks.errors import InputError


@dataclass(frozen=True)
class HarnessResult:
    """What lm-eval measured.

    Attributes
    ----------
    version : of lm-eval; 0.3 and 0.4 give different numbers.
    metrics : {task: {metric: value}}, with the harness's own names (``acc,none``, ``word_perplexity,none``, ...).
    few_shot : worked examples in front of each question.
    """

    version: str
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    few_shot: int = 0


def evaluate_with_harness(
    model: Any,
    tokenizer: Any,
    tasks: Sequence[str],
    *,
    few_shot: int = 0,
    batch_size: int = 8,
    limit: int | None = None,
    task_folder: str | None = None,
) -> HarnessResult:
    """Evaluate a causal language model of transformers, dense, sliced or pruned, on tasks of lm-eval.

    Parameters
    ----------
    tasks : names that lm-eval knows. Most fetch their data; ``task_folder`` adds tasks of your own on local files.
    limit : questions of each task; None is all.

    Raises
    ------
    InputError : lm-eval is not installed, no task is given, or lm-eval does not know one.
    """
    if not tasks:
        raise InputError("tasks", "none", "names of lm-eval tasks, such as arc_easy or wikitext")
    try:
        harness: Any = importlib.import_module("lm_eval")
        wrapper = importlib.import_module("lm_eval.models.huggingface").HFLM
        manager_class = importlib.import_module("lm_eval.tasks").TaskManager
    except ImportError as error:
        raise InputError("lm-eval", f"not installed ({error})", "pip install lm-eval") from error
    manager = manager_class(include_path=task_folder)
    unknown = sorted(set(tasks) - set(manager.all_tasks))
    if unknown:
        raise InputError("tasks", unknown, "tasks that lm-eval lists (lm-eval ls tasks)")
    wrapped = wrapper(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
    found = harness.simple_evaluate(
        model=wrapped, tasks=list(tasks), num_fewshot=few_shot, limit=limit, task_manager=manager
    )
    metrics = {
        task: {name: float(value) for name, value in row.items() if isinstance(value, int | float)}
        for task, row in found["results"].items()
    }
    return HarnessResult(str(getattr(harness, "__version__", "unknown")), metrics, few_shot)
