"""A sliced recursive transformer trained on the user's images, beside the same network without slices or recursion."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from paperworks import runs
from paperworks.errors import InputError
from paperworks.inputs.images import ImageDataset, read_images
from paperworks.inputs.transforms import Compose, RandomCrop, RandomHorizontalFlip
from paperworks.papers.sret.classifier import SReTClassifier
from paperworks.papers.sret.config import Config
from paperworks.papers.sret.export import to_onnx
from paperworks.papers.sret.modeling import SReTForImageClassification
from paperworks.papers.sret.networks import image_sides, network_config
from paperworks.papers.sret.official import load_official
from paperworks.papers.sret.reporting import Trained, report

__all__ = ["Config", "run"]

OURS, UNSLICED, ONCE = "sliced, recursive", "without slices", "without recursion"


def run(config: Config, run: runs.Run) -> runs.Report:
    """Train a classifier that reuses its blocks, and show what sharing and slicing save."""
    run.step(f"reading {config.data}")
    source = read_source(config, run)
    job = _Job(config, run, source)
    trained: list[Trained] = []
    for name, network in job.networks().items():
        run.step(f"training: {name}")
        trained.append(job.train(name, network))
    if config.finetune_at is not None:
        run.step(f"tuning at {config.finetune_at} pixels")
        trained.append(job.finetune(trained[0]))
    final = trained[-1] if config.finetune_at is not None else trained[0]
    files = _save(config, run, source, final)
    return report(source.train, source.test, source.notes, trained, final, files)


@dataclass(frozen=True)
class Source:
    """The images to train on and to test on, labelled, and what was understood of them."""

    train: ImageDataset
    test: ImageDataset
    notes: list[str] = field(default_factory=list)


def read_source(config: Config, run: runs.Run) -> Source:
    """Read what ``config.data`` names, and split it. Raises InputError for images without two classes."""
    images = read_images(config.data, label_column=config.label, progress=run.progress)
    labels = images.require_labels()
    notes = images.describe().split("\n")
    if config.limit is not None and config.limit < len(images):
        images = images.subset(np.sort(run.rng("limit").permutation(len(images))[: config.limit]))
        labels = images.require_labels()
        notes[0] += f"; {config.limit:,} of them, drawn with the seed, are used"
    codes, counts = np.unique(labels, return_counts=True)
    if len(codes) < 2:
        raise InputError("data", f"one class ({images.class_names[codes[0]]!r})", "two or more")
    if counts.min() < 2:
        found = f"{counts.min()} image of class {images.class_names[codes[counts.argmin()]]!r}"
        raise InputError("data", found, "two or more of each class, to train on one and to test on another")
    if images.splits is not None and {"train", "test"} <= set(images.splits.tolist()):
        return Source(images.split("train"), images.split("test"), notes)
    from sklearn.model_selection import train_test_split

    rows, seed = np.arange(len(labels)), config.seed % 2**32
    try:
        train, test = train_test_split(rows, test_size=config.test_size, stratify=labels, random_state=seed)
    except ValueError as error:
        raise InputError("test_size", f"{config.test_size} ({error})", "a share with images of every class") from None
    return Source(images.subset(np.sort(train)), images.subset(np.sort(test)), notes)


class _Job:
    """The trainings of one run. Each has a folder of checkpoints, so that a stopped run goes on."""

    def __init__(self, config: Config, run: runs.Run, source: Source) -> None:
        self.config, self.run, self.source = config, run, source
        self.seed = config.seed % 2**31

    def networks(self) -> dict[str, Any]:
        """Name and network of each training."""
        config, images = self.config, self.source.train
        if config.model is not None:
            return {"the given network": load_model(config.model)}
        sides = image_sides(images, config.image_size)
        channels = 1 if images.array([0]).shape[1] == 1 else 3
        classes = len(np.unique(images.require_labels()))

        def network(sliced: bool, loops: int) -> Any:
            seed = self.seed
            return network_config(
                config.network, sides, channels, classes, sliced=sliced, loops=loops, permutation_seed=seed
            )

        ours = network(config.sliced, config.loops)
        found = {OURS if config.sliced else "recursive": ours}
        if config.compare:
            others = {UNSLICED: network(False, config.loops), ONCE: network(config.sliced, 1)}
            known = ("groups1", "groups2", "depth")
            found |= {n: o for n, o in others.items() if any(getattr(o, k) != getattr(ours, k) for k in known)}
        return found

    def train(self, name: str, network: Any) -> Trained:
        config = self.config
        augment: Any = None
        if config.augment:
            colour = self.source.train.array([0]).shape[1] == 3
            augment = Compose([RandomCrop(2), *([RandomHorizontalFlip()] if colour else [])])
        classifier = SReTClassifier(
            network,
            # a new network has a size of its own, rounded up from that of the images
            image_size=config.image_size if config.model is not None else None,
            epochs=config.epochs,
            batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            augment=augment,
            teacher=config.teacher,
            alpha=config.alpha,
            temperature=config.temperature,
            device=config.device,
            random_state=self.seed,
            checkpoint_dir=self.run.state / name.replace(" ", "-"),
            progress=self.run.progress,
        )
        return self._tested(name, classifier.fit(self.source.train))

    def finetune(self, first: Trained) -> Trained:
        side = self.config.finetune_at
        assert side is not None
        tuned = first.classifier.finetune_at(
            side,
            self.source.train,
            epochs=self.config.finetune_epochs,
            checkpoint_dir=self.run.state / f"at-{side}",
        )
        return self._tested(f"tuned at {side} pixels", tuned)

    def _tested(self, name: str, classifier: SReTClassifier) -> Trained:
        test = self.source.test
        probabilities = classifier.predict_proba(test)
        truth = np.array(test.class_names)[test.require_labels()]
        return Trained(name, classifier, probabilities, truth)


def load_model(path: Path) -> SReTForImageClassification:
    """A trained network from a folder of ``save_pretrained``, or from a .pth file of the official code."""
    if path.suffix in (".pth", ".pt"):
        return load_official(path)
    from paperworks.nn.loading import check_model_folder, load_strict

    kind = check_model_folder(path).get("model_type")
    if kind != "sret":
        raise InputError("model", f"a model of type {kind} in {path}", "sret, or a .pth file of the official code")
    return load_strict(SReTForImageClassification, path)


def _save(config: Config, run: runs.Run, source: Source, final: Trained) -> list[runs.ReportFile]:
    final.classifier.save_pretrained(run.output("model"))
    best = final.probabilities.argmax(1)
    table = pd.DataFrame(
        {
            "id": source.test.ids,
            "label": final.truth,
            "predicted": final.classifier.classes_[best],
            "probability": final.probabilities[np.arange(len(best)), best],
        }
    )
    table.to_csv(run.files / "predictions.csv", index=False)
    files = [
        runs.ReportFile("model", "the network with its image processor, for AutoModelForImageClassification"),
        runs.ReportFile("predictions.csv", "every test image with what the network says"),
    ]
    if config.onnx:
        difference = to_onnx(final.classifier.model_, run.output("model.onnx"))
        words = f"ONNX, any batch size; logits differ from PyTorch's by {difference:.1g} at most"
        files.append(runs.ReportFile("model.onnx", words))
    return files
