"""Fidelity of every input of every layer of a network, from unlabelled samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from torch import nn

from paperworks.errors import InputError, nearest
from paperworks.nn import evaluation_mode
from paperworks.papers.modhifi.fidelity import Method, hifi_set, subset_fidelity
from paperworks.papers.modhifi.layers import ReadLayer, layer_at, readable_layers
from paperworks.papers.modhifi.moments import Center, Moments, batches_of, call, collect
from paperworks.papers.modhifi.normalised import normalised_layers
from paperworks.papers.modhifi.scores import SCORES, contribution_scores, similarity_matrix
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import new_file

if TYPE_CHECKING:
    import pandas as pd

CenterChoice = Literal["auto", "none", "channel", "map"]


@dataclass(frozen=True)
class LayerFidelity:
    """One layer: what its scores are made of.

    Attributes
    ----------
    score : name of the score.
    scores : float64 [c_out, c_in].
    center : how its moments are centred.
    """

    path: str
    matrix: torch.Tensor
    gram: torch.Tensor
    blocks: torch.Tensor
    score: str
    scores: torch.Tensor
    center: Center

    def similarity(self, output: int) -> torch.Tensor:
        """Q of one output, float64 [c_in, c_in]."""
        if not 0 <= output < len(self.matrix):
            raise InputError("output", output, f"0 to {len(self.matrix) - 1}, an output of {self.path}")
        group = output * len(self.gram) // len(self.matrix)
        return similarity_matrix(self.matrix[output], self.gram[group], self.blocks)


class FidelityReport:
    """Scores and similarity matrices by layer. ``layers`` has what each is made of."""

    def __init__(self, layers: dict[str, LayerFidelity]) -> None:
        self.layers = layers

    @property
    def scores(self) -> dict[str, torch.Tensor]:
        """Scores by layer, float64 [c_out, c_in]."""
        return {path: layer.scores for path, layer in self.layers.items()}

    def _layer(self, path: str) -> LayerFidelity:
        if path not in self.layers:
            raise InputError("layer", repr(path), f"one of {', '.join(self.layers)}{nearest(path, self.layers)}")
        return self.layers[path]

    def similarity(self, layer: str, output: int) -> torch.Tensor:
        """The similarity matrix Q of one output of a layer, float64 [c_in, c_in]."""
        return self._layer(layer).similarity(output)

    def fidelity(self, layer: str, output: int, subset: Sequence[int]) -> float:
        """Subset fidelity of some inputs for one output."""
        return subset_fidelity(self.similarity(layer, output), subset)

    def hifi_set(
        self,
        layer: str,
        output: int,
        k: int | None = None,
        eta: float | None = None,
        *,
        method: Method = "naive",
        tries: int = 1000,
        seed: int = 0,
    ) -> tuple[list[int], float]:
        """Inputs that rebuild one output, and their fidelity: see ``fidelity.hifi_set``."""
        return hifi_set(self.similarity(layer, output), k, eta, method=method, tries=tries, seed=seed)

    def share_needed(self, layer: str, eta: float = 0.8, *, method: Method = "greedy") -> float:
        """Mean over outputs of the share of inputs whose fidelity reaches ``eta``."""
        one = self._layer(layer)
        sizes = [len(hifi_set(one.similarity(c), eta=eta, method=method)[0]) for c in range(len(one.matrix))]
        return sum(sizes) / len(sizes) / len(one.blocks)

    def frame(self) -> pd.DataFrame:
        """One row for every (layer, output, input) with its score."""
        import pandas as pd

        rows = []
        for path, layer in self.layers.items():
            outputs, inputs = layer.scores.shape
            rows.append(
                pd.DataFrame(
                    {
                        "layer": path,
                        "output": torch.arange(outputs).repeat_interleave(inputs).numpy(),
                        "input": torch.arange(inputs).repeat(outputs).numpy(),
                        layer.score: layer.scores.flatten().numpy(),
                    }
                )
            )
        return pd.concat(rows, ignore_index=True)

    def to_parquet(self, path: str | Path) -> Path:
        """Write ``frame()`` to a new file."""
        with new_file(Path(path)) as aside:
            self.frame().to_parquet(aside, index=False)
        return Path(path)


class FidelityAnalyzer:
    """Measures which inputs carry the output of each layer.

    Parameters
    ----------
    score : of ``scores.SCORES``; ``auto`` is ``rowsum`` for convolutions and ``energy`` for linear layers.
    center : ``auto`` centres the moments of layers that a BatchNorm follows (``channel``: one mean for each
        contribution over samples and places) and leaves the others; or ``none``, ``channel``, ``map`` for all.
    layers : paths; None means all linear layers and convolutions.
    batch_size : samples in a forward.

    Attributes
    ----------
    report_ : a ``FidelityReport``.
    """

    def __init__(
        self,
        score: str = "auto",
        center: CenterChoice = "auto",
        *,
        layers: Sequence[str] | None = None,
        batch_size: int = 64,
    ) -> None:
        if score not in ("auto", *SCORES):
            raise InputError("score", repr(score), f"auto, {', '.join(SCORES)}{nearest(score, SCORES)}")
        if center not in ("auto", "none", "channel", "map"):
            raise InputError("center", repr(center), "auto, none, channel or map")
        self.score, self.center, self.layers, self.batch_size = score, center, layers, batch_size
        self.report_: FidelityReport

    def fit(self, model: nn.Module, calibration: Any, *, progress: Progress = no_progress) -> Self:
        """Measure a model on samples (see ``moments.batches_of``). The model is not changed."""
        paths = list(readable_layers(model) if self.layers is None else self.layers)
        batches = batches_of(calibration, self.batch_size, device=_device(model))
        with normalised_layers(model) as normalised, evaluation_mode(model), torch.no_grad():
            call(model, batches[0])
        moments = collect(model, batches, paths, progress=progress)
        found = {}
        for path in paths:
            center = center_for(self.center, path in normalised)
            found[path] = layer_fidelity(model, path, moments[path], self.score, center)
        self.report_ = FidelityReport(found)
        return self


def center_for(choice: CenterChoice, normalised: bool) -> Center:
    """``auto`` made definite: ``channel`` in front of a BatchNorm."""
    if choice == "auto":
        return "channel" if normalised else "none"
    return choice


def score_for(choice: str, layer: ReadLayer) -> str:
    """``auto`` made definite: ``rowsum`` for convolutions, ``energy`` for linear layers."""
    if choice != "auto":
        return choice
    return "rowsum" if layer.convolution else "energy"


def layer_fidelity(model: nn.Module, path: str, moments: Moments, score: str, center: Center) -> LayerFidelity:
    """Scores of one layer from its moments."""
    layer = layer_at(model, path)
    name = score_for(score, layer)
    matrix, gram, blocks = layer.matrix(), moments.matrix(center), layer.blocks()
    return LayerFidelity(path, matrix, gram, blocks, name, contribution_scores(matrix, gram, blocks, name), center)


def _device(model: nn.Module) -> torch.device:
    first = next(model.parameters(), None)
    return torch.device("cpu") if first is None else first.device
