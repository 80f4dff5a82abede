"""One training loop, with its data, losses, optimisers, schedules, callbacks and checkpoints; and low-rank adapters.

``train(model, data, settings, loss=cross_entropy_loss())`` is what pretraining, fine-tuning, distillation and pruning
call. It runs on accelerate, evaluates and stops early, writes checkpoints beside their final name, and goes on from
them to the weights of a training that was not stopped.
"""

from paperworks.training.adapters import add_lora, merge_lora
from paperworks.training.callbacks import TrainingCallback
from paperworks.training.distillation import distillation_loss
from paperworks.training.loop import train
from paperworks.training.losses import (
    Batch,
    Loss,
    binary_cross_entropy_loss,
    cross_entropy_loss,
    model_logits,
    next_token_loss,
)
from paperworks.training.optimizers import Turn, make_optimizer
from paperworks.training.results import TrainResult
from paperworks.training.samplers import Grouped, Sampler, Shuffled, Subset, Weighted
from paperworks.training.schedules import learning_rate_factor
from paperworks.training.settings import TrainSettings
from paperworks.training.sources import BatchSource, Generated, RandomWindows, Rows, Stream

__all__ = [
    "Batch",
    "BatchSource",
    "Generated",
    "Grouped",
    "Loss",
    "RandomWindows",
    "Rows",
    "Sampler",
    "Shuffled",
    "Stream",
    "Subset",
    "TrainResult",
    "TrainSettings",
    "TrainingCallback",
    "Turn",
    "Weighted",
    "add_lora",
    "binary_cross_entropy_loss",
    "cross_entropy_loss",
    "distillation_loss",
    "learning_rate_factor",
    "make_optimizer",
    "merge_lora",
    "model_logits",
    "next_token_loss",
    "train",
]
