"""What tests/training/test_processes.py runs in one process and in two: Compresso without dropout."""

from __future__ import annotations

import json

from paperworks.papers.compresso import Compresso, TrainerArgs
from training.test_loop import tiny, tokens


def prune(batch_size: int) -> dict[str, object]:
    """The course of a pruning with as many rows a step in each process, and the plan that it ends with."""
    arguments = TrainerArgs(
        tuning_steps=2,
        pruning_steps=8,
        final_steps=2,
        batch_size=batch_size,
        mask_learning_rate=1.0,
        learning_rate=1e-2,
        max_length=24,
    )
    method = Compresso(0.4, prompt="none", device="cpu", trainer_args=arguments).fit(tiny(), None, tokens(n=24))
    report = method.report_
    return {"course": [step.sparsity for step in report.course] + report.final_losses, "plan": json.dumps(report.plan)}
