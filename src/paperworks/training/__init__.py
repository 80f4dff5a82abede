"""One training loop, its schedules and losses, and low-rank adapters.

``train(model, data, settings)`` is what pretraining, recovery fine-tuning and interleaved pruning all call. It runs on
accelerate, evaluates and stops early, writes checkpoints beside their final name, and goes on from them.
"""

from paperworks.training.adapters import add_lora, merge_lora
from paperworks.training.callbacks import TrainingCallback
from paperworks.training.data import RandomWindows
from paperworks.training.distillation import distillation_loss
from paperworks.training.loop import TrainResult, TrainSettings, adamw, train
from paperworks.training.losses import Loss, next_token_loss
from paperworks.training.schedules import learning_rate_factor

__all__ = [
    "Loss",
    "RandomWindows",
    "TrainResult",
    "TrainSettings",
    "TrainingCallback",
    "adamw",
    "add_lora",
    "distillation_loss",
    "learning_rate_factor",
    "merge_lora",
    "next_token_loss",
    "train",
]
