"""What the recipe works on: images, the dense network, and samples to calibrate with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.inputs.images import read_images
from paperworks.nn import resolve_device
from paperworks.papers.modhifi.config import SYNTHETIC, Config
from paperworks.papers.modhifi.synthetic import SyntheticImages
from paperworks.pruning import ImageTask, image_task, model_maker, train_classifier
from paperworks.runs import Run


@dataclass(frozen=True)
class ImageWork:
    """A dense classifier with its images and what the method may see.

    Attributes
    ----------
    calibration, codes : samples ``[n, c, h, w]`` and their classes, or None where a folder has none.
    trained : whether the network came trained.
    """

    task: ImageTask
    dense: nn.Module
    calibration: torch.Tensor
    codes: torch.Tensor | None
    trained: bool
    notes: list[str]


def image_work(config: Config, run: Run) -> ImageWork:
    """Read the images, train or load the network, draw the samples."""
    run.step(f"reading {config.data}")
    task = image_task(config, run)
    given = None if config.calibration in SYNTHETIC else _calibration(config, run, task)  # read before the training
    make, trained = model_maker(config.model, task, progress=run.progress)
    dense = make(config.seed % 2**32).to(resolve_device(config.device))
    notes = list(task.notes[:1])
    if not trained:
        run.step(f"training {config.model} on {len(task.train):,} images: there is no trained model")
        train_classifier(
            dense,
            task.train,
            epochs=config.epochs,
            learning_rate=config.learning_rate,
            weight_decay=5e-4,
            seed=config.seed % 2**32,
            device=config.device,
            settle_norms=True,
            checkpoint_dir=run.state / "dense",
            progress=run.progress,
        )
    dense.eval()
    images, codes, said = given or _calibration(config, run, task)
    place = next(dense.parameters()).device
    return ImageWork(task, dense, images.to(place), codes, trained, [*notes, said])


def _calibration(config: Config, run: Run, task: ImageTask) -> tuple[torch.Tensor, torch.Tensor | None, str]:
    if config.calibration in SYNTHETIC:
        kind: Any = config.calibration
        inputs, labels = task.train.tensors
        source = SyntheticImages(kind, config.bandwidth, seed=config.seed % 2**32).fit(inputs, labels)
        images, drawn = source.sample(config.samples, seed=config.seed % 2**63)
        words = {
            "density": f"from a kernel density of each class, bandwidth {config.bandwidth:g}",
            "mixture": "from a Gaussian mixture of each class",
            "moments": "from the mean and covariance of each class",
            "noise": "as noise with the mean and variance of every pixel",
        }[config.calibration]
        return images, drawn, f"Calibration: {len(images):,} synthetic images, {words}; no label, no gradient."
    found = read_images(config.calibration, progress=run.progress)
    channels, height, width = task.shape
    wanted: Any = channels
    batch = torch.from_numpy(found.array(size=(height, width), channels=wanted))
    if len(batch) < 2:
        raise InputError("calibration", f"{len(batch)} image", "2 or more")
    codes = None
    if found.labels is not None and set(found.class_names) <= set(task.class_names):
        place = [task.class_names.index(name) for name in found.class_names]
        codes = torch.tensor(place)[torch.from_numpy(found.labels)]
    return batch, codes, f"Calibration: {len(batch):,} images of {Path(config.calibration).name}, as they are."
