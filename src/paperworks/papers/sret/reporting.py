"""The report of a run: networks side by side, where the cost is, and the paper's own figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from paperworks import runs
from paperworks.inputs.images import ImageDataset
from paperworks.metrics import Interval, wilson_interval
from paperworks.papers.sret.classifier import SReTClassifier
from paperworks.papers.sret.costs import Profile, profile
from paperworks.papers.sret.figures import (
    groups_figure,
    losses_figure,
    networks_figure,
    predictions_figure,
)
from paperworks.structure.trace import measure_latency

PAPER = [
    ["SReT_T without slices", "4.8 M", "1.4 G", "76.1 %"],
    ["SReT_T", "4.8 M", "1.1 G", "76.0 %"],
    ["SReT_S without slices", "20.9 M", "4.7 G", "82.0 %"],
    ["SReT_S", "20.9 M", "4.2 G", "81.9 %"],
]
"""ImageNet-1K, from the README of the official repository."""
TIMED = 8
"""Images in a batch that is timed."""


@dataclass(frozen=True)
class Trained:
    """A trained network on the test images: probabilities ``[n, C]`` and true labels ``[n]``."""

    name: str
    classifier: SReTClassifier
    probabilities: np.ndarray
    truth: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """Whether each test image is classified rightly."""
        return self.classifier.classes_[self.probabilities.argmax(1)] == self.truth

    @property
    def accuracy(self) -> Interval:
        """Share of the test images that are right, with Wilson's interval."""
        return wilson_interval(int(self.right.sum()), len(self.right), unit="images")

    @property
    def cost(self) -> Profile:
        """Parameters and multiply-adds."""
        return profile(self.classifier.model_)


def report(
    train: ImageDataset,
    test: ImageDataset,
    notes: list[str],
    trained: list[Trained],
    final: Trained,
    files: list[runs.ReportFile],
) -> runs.Report:
    """The report of a run whose first network is the one that it is about."""
    cost, accuracy = final.cost, final.accuracy
    seconds = _seconds(trained)
    others = [f"{other.name} {other.accuracy.estimate:.1%}" for other in trained if other is not final]
    beside = f" ({', '.join(others)})" if others else ""
    saves = f"Sharing saves {cost.sharing_saves:.0%} of the parameters of this depth"
    if cost.macs < cost.macs_unsliced:
        saves += f", slicing {cost.slicing_saves:.0%} of the multiply-adds"
    rows: list[list[runs.report.Cell]] = [
        [
            one.name,
            one.cost.parameters,
            one.cost.macs,
            one.accuracy.estimate,
            f"{one.accuracy.low:.3f} to {one.accuracy.high:.3f}",
            round(1e3 * took / TIMED, 3),
        ]
        for one, took in zip(trained, seconds, strict=True)
    ]
    compared = [(t.name, t.cost.parameters, t.cost.macs, _ends(t.accuracy)) for t in trained]
    order = np.argsort(final.right, kind="stable")[:16]
    pixels = test.array(order, size=final.classifier.model_.config.sides)
    said = final.classifier.classes_[final.probabilities.argmax(1)]
    words = [str(said[row]) if final.right[row] else f"{said[row]}, not {final.truth[row]}" for row in order]
    return runs.Report(
        headline=f"The network of {cost.parameters:,} parameters gets {accuracy.estimate:.1%} of {len(test):,} test "
        f"images right{beside}. {saves}.",
        metrics={
            "accuracy": accuracy.estimate,
            "parameters": cost.parameters,
            "multiply_adds": cost.macs,
            "saved_by_sharing": cost.sharing_saves,
            "saved_by_slicing": cost.slicing_saves,
        },
        labels={
            "accuracy": "accuracy on test images",
            "parameters": "parameters",
            "multiply_adds": "multiply-adds an image",
            "saved_by_sharing": "parameters saved by sharing, share",
            "saved_by_slicing": "multiply-adds saved by slicing, share",
        },
        tables=[
            runs.Table(
                f"Trained on {len(train):,} images",
                ["network", "parameters", "multiply-adds", "accuracy", "95 % interval", "ms an image"],
                rows,
                note="One training of each: a difference within the intervals says nothing. Time: one thread of this "
                f"machine, batches of {TIMED}.",
            ),
            _stages(final),
            runs.Table(
                "The paper's own, ImageNet",
                ["network", "parameters", "multiply-adds", "top-1"],
                [list(row) for row in PAPER],
                note="From the official repository; 300 epochs of ImageNet were not trained here.",
            ),
        ],
        figures=[
            runs.Figure(
                "Groups of tokens",
                groups_figure(_first(test, final), final.classifier.model_),
                "Tokens of the first stage attend to tokens of their own colour only. The first pass takes runs of "
                "neighbouring tokens; later passes permute all tokens first, so that groups exchange information.",
            ),
            runs.Figure("Networks side by side", networks_figure(compared)),
            runs.Figure("Loss in training", losses_figure({t.name: t.classifier.losses_ for t in trained})),
            runs.Figure(
                "Test images and what the network says",
                predictions_figure(pixels, words, final.right[order]),
                "Wrong answers first, in red.",
            ),
        ],
        files=files,
        notes=notes[1:],
        lead=notes[:1],
    )


def _ends(interval: Interval) -> tuple[float, float, float]:
    return interval.estimate, interval.low, interval.high


def _first(test: ImageDataset, final: Trained) -> np.ndarray:
    return test.array([0], size=final.classifier.model_.config.sides)[0]


def _seconds(trained: list[Trained]) -> list[float]:
    """Seconds for a batch of each network; each at its own image size, on the CPU, with one thread."""
    found = []
    for one in trained:
        model: Any = one.classifier.model_
        device = next(model.parameters()).device
        images = torch.zeros(TIMED, model.config.num_channels, *model.config.sides)
        timed = measure_latency({one.name: model.cpu()}, {"pixel_values": images}, rounds=3, seconds=0.02)
        model.to(device)
        found.append(timed[one.name].median)
    return found


def _stages(final: Trained) -> runs.Table:
    cost = final.cost
    config: Any = final.classifier.model_.config
    groups = ", ".join("-".join(map(str, counts)) for counts in (config.groups1, config.groups2))
    rows: list[list[runs.report.Cell]] = [
        [
            number + 1,
            stage.tokens,
            stage.width,
            f"{stage.distinct} x {stage.passes // stage.distinct}",
            f"{config.groups1[number]}, {config.groups2[number]}",
            stage.macs,
            stage.attention,
            stage.attention_unsliced,
        ]
        for number, stage in enumerate(cost.stages)
    ]
    return runs.Table(
        f"Where the cost is: groups [{groups}]",
        [
            "stage",
            "tokens",
            "width",
            "blocks x passes",
            "groups",
            "multiply-adds",
            "of which quadratic",
            "quadratic without slices",
        ],
        rows,
        note=f"Stem {cost.stem:,}, head {cost.head:,}. Quadratic: scores and weighted sums, 2 N^2 D / G for each pass.",
    )
