"""What tests/training/test_processes.py runs in one process and in two: ATP without dropout."""

from __future__ import annotations

import json

from peft import LoraConfig

from paperworks.papers.atp import ATP, Search, TrainerArgs
from training.test_loop import tiny, tokens


def prune(batch_size: int) -> dict[str, object]:
    """The course of a pruning with as many rows a step in each process, and the plan that it ends with."""
    arguments = TrainerArgs(steps=8, batch_size=batch_size, calibration_batch_size=4, learning_rate=1e-2)
    search = Search(learning_rate=1e-2, offset=0.0)
    lora = LoraConfig(r=4, lora_dropout=0.0)
    method = ATP(0.4, lora=lora, trainer_args=arguments, device="cpu", generator=search).fit(tiny(), tokens(n=24))
    course = method.report_.trajectory
    return {"course": course.tuning_loss + course.remaining, "plan": json.dumps(method.plan_.to_json())}
