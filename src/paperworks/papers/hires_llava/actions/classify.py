"""A classifier of the user's images with slices and the adapter, beside one without and one at low resolution."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from paperworks import runs
from paperworks.errors import InputError
from paperworks.inputs.images import ImageDataset, read_images
from paperworks.metrics import wilson_interval
from paperworks.papers.hires_llava.actions.inputs import described, the_tower
from paperworks.papers.hires_llava.classifier import HiResClassifier
from paperworks.papers.hires_llava.config import Config
from paperworks.papers.hires_llava.entitygrid.generation import EntityGrid
from paperworks.papers.hires_llava.pixels import stored_rgb
from paperworks.runs.files import write_text

ADAPTED, SLICED, LOW = "slices with the adapter", "slices without", "whole image at one slice's size"
CANVASES = 240
"""Bundled canvases of EntityGrid, with the digit as the class."""


def classify(config: Config, run: runs.Run) -> runs.Report:
    """Train three classifiers on the same images and test them on the same others; the first is saved."""
    images, labels, notes = _labelled(config, run)
    train_rows, test_rows = _split(labels, config)
    tower = the_tower(config, run)
    settings: dict[str, Any] = {
        "sampler": config.sampler,
        "window": min(config.window, tower.side) if config.encoder is None else config.window,
        "max_slices": config.max_slices,
        "local_kernel": config.kernel,
        "path": config.path,
        "steps": config.steps,
        "batch_size": config.batch_size,
        "learning_rate": config.learning_rate,
        "device": config.device,
        "random_state": config.seed,
    }
    variants: dict[str, dict[str, Any]] = {
        ADAPTED: {"sra_layers": config.adapter_layers},
        SLICED: {"sra_layers": "none"},
        LOW: {"sra_layers": "none", "max_slices": 1, "global_view": False},
    }
    right: dict[str, np.ndarray] = {}
    found: HiResClassifier | None = None
    for number, (name, options) in enumerate(variants.items()):
        run.step(f"training: {name}, {config.steps} steps")
        classifier = HiResClassifier(tower, **(settings | options))
        classifier.fit(
            [images[i] for i in train_rows],
            labels[train_rows],
            checkpoint_dir=run.state / f"classifier-{number}",
            progress=run.progress,
        )
        right[name] = classifier.predict([images[i] for i in test_rows]) == labels[test_rows]
        found = classifier if found is None else found
    assert found is not None
    found.save(run.output("classifier"))
    n = len(test_rows)
    rows: list[list[runs.report.Cell]] = []
    for name, values in right.items():
        interval = wilson_interval(int(values.sum()), n)
        rows.append([name, float(values.mean()), f"{interval.low:.3f} to {interval.high:.3f}"])
    write_text(
        run.output("accuracy.json"), json.dumps({name: float(v.mean()) for name, v in right.items()}, indent=2) + "\n"
    )
    return runs.Report(
        headline=f"{right[ADAPTED].mean():.1%} of {n:,} unseen images are right with slices and the adapter, "
        f"{right[SLICED].mean():.1%} without the adapter, {right[LOW].mean():.1%} at one slice's size.",
        lead=[*notes, *found.notes_],
        metrics={
            "accuracy_adapter": float(right[ADAPTED].mean()),
            "accuracy_sliced": float(right[SLICED].mean()),
            "accuracy_low_resolution": float(right[LOW].mean()),
        },
        tables=[
            runs.Table(
                "Accuracy on unseen images",
                ["the encoder sees", "accuracy", "interval (95%)"],
                rows,
                note=f"{len(train_rows):,} images to train on, {n:,} to test, {len(found.classes_)} classes; "
                "one training each.",
            )
        ],
        files=[
            runs.ReportFile("classifier", "the classifier with slices and adapter: HiResClassifier.load reads it"),
            runs.ReportFile("accuracy.json", "the accuracies"),
        ],
    )


def _labelled(config: Config, run: runs.Run) -> tuple[list[np.ndarray], np.ndarray, list[str]]:
    if config.images == "digits":
        grid = EntityGrid("digits", canvas=32, seed=config.seed)
        rng = np.random.default_rng([config.seed, 9])
        count = min(config.limit, CANVASES) if config.limit != 64 else CANVASES
        part, names = grid.test, np.array(grid.entities.names)
        labels = np.arange(count) % len(names)
        rows = [int(rng.choice(np.flatnonzero(part.labels == label))) for label in labels]
        canvases = [grid.draw([(row, int(rng.integers(1, 10)))]) for row in rows]
        return canvases, names[labels], [f"{count} bundled canvases with a digit at one of nine positions"]
    run.step(f"reading {config.images}")
    dataset: ImageDataset = read_images(config.images, progress=run.progress)
    labels = np.array(dataset.class_names)[dataset.require_labels()]
    return [stored_rgb(dataset, row) for row in range(len(dataset))], labels, described(dataset)


def _split(labels: np.ndarray, config: Config) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.model_selection import train_test_split

    names, counts = np.unique(labels, return_counts=True)
    if len(names) < 2 or counts.min() < 2:
        found = f"{len(names)} class" if len(names) < 2 else f"{counts.min()} image of {names[counts.argmin()]!r}"
        raise InputError("images", found, "two classes or more, of at least two images each")
    count = max(len(names), round(config.test_size * len(labels)))
    if count > len(labels) - len(names):
        raise InputError(
            "test_size", config.test_size, f"a share that leaves one image of each of {len(names)} classes"
        )
    train, test = train_test_split(
        np.arange(len(labels)), test_size=count, stratify=labels, random_state=config.seed % 2**32
    )
    return np.sort(train), np.sort(test)
