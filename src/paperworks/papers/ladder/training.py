"""Classifiers that the recipe and the studies train: the classifier under audit, and its rivals."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from paperworks.classification import fit
from paperworks.nn import MLP
from paperworks.papers.ladder.baselines import group_dro, just_train_twice
from paperworks.papers.ladder.hard_examples import cvar_dro, learning_from_failure
from paperworks.runs import Progress, no_progress
from paperworks.training import TrainSettings

STEPS, BATCH = 600, 108


def settings(seed: int, steps: int = STEPS) -> TrainSettings:
    """AdamW, batches of 108 (SubpopBench's)."""
    return TrainSettings(
        steps=steps, batch_size=BATCH, optimizer="adamw", learning_rate=2e-3, weight_decay=1e-4, device="cpu", seed=seed
    )


def digit_network(seed: int) -> MLP:
    """The perceptron with one hidden layer of 64, untrained."""
    torch_seed = torch.random.get_rng_state()
    try:
        torch.manual_seed(seed)
        return MLP(inputs=432, hidden=(64,), outputs=2)
    finally:
        torch.random.set_rng_state(torch_seed)


def train_erm(
    images: np.ndarray, y: np.ndarray, seed: int, *, steps: int = STEPS, progress: Progress = no_progress
) -> MLP:
    """Plain training."""
    model = digit_network(seed)
    fit(model, images, y, settings=settings(seed, steps), progress=progress)
    return model.eval()


def train_jtt(images: np.ndarray, y: np.ndarray, seed: int, *, steps: int = STEPS) -> Any:
    """Just train twice, with SubpopBench's settings: half of the steps, weight 10."""
    return just_train_twice(digit_network(seed), images, y, settings=settings(seed, steps)).eval()


def train_group_dro(images: np.ndarray, y: np.ndarray, groups: np.ndarray, seed: int, *, steps: int = STEPS) -> Any:
    """Group DRO with SubpopBench's eta, on known groups."""
    return group_dro(digit_network(seed), images, y, groups, settings=settings(seed, steps), eta=1e-2).eval()


def train_cvar_dro(images: np.ndarray, y: np.ndarray, seed: int, *, steps: int = STEPS) -> Any:
    """CVaR-DRO with SubpopBench's alpha."""
    return cvar_dro(digit_network(seed), images, y, settings=settings(seed, steps), alpha=0.1).eval()


def train_failure(images: np.ndarray, y: np.ndarray, seed: int, *, steps: int = STEPS) -> Any:
    """Learning from failure with SubpopBench's q."""
    return learning_from_failure(digit_network(seed), images, y, settings=settings(seed, steps), q=0.7).eval()
