"""One training loop, its schedules and losses, and low-rank adapters.

``train(model, data, settings)`` is what pretraining, recovery fine-tuning and interleaved pruning all call. It runs on
accelerate, evaluates and stops early, writes checkpoints beside their final name, and goes on from them.
"""

from paperworks.training.adapters import add_lora, merge_lora
from paperworks.training.data import RandomWindows
from paperworks.training.distillation import distillation_loss
from paperworks.training.loop import Companion, TrainResult, TrainSettings, adamw, train
from paperworks.training.losses import Loss, next_token_loss
from paperworks.training.schedules import learning_rate_factor
from paperworks.training.sparsity import group_penalty, lora_group_norms, proximal_step, zero_adapters

__all__ = [
    "Companion",
    "Loss",
    "RandomWindows",
    "TrainResult",
    "TrainSettings",
    "adamw",
    "add_lora",
    "distillation_loss",
    "group_penalty",
    "learning_rate_factor",
    "lora_group_norms",
    "merge_lora",
    "next_token_loss",
    "proximal_step",
    "train",
    "zero_adapters",
]
