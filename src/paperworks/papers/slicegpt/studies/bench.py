"""What the studies on language models share: the bundled model, its calibration sets and its held-out text."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from transformers import PreTrainedModel

from paperworks import runs
from paperworks.language import (
    Calibration,
    bundled_model_path,
    bundled_text,
    load_model,
    load_tokenizer,
    perplexity,
    token_windows,
)
from paperworks.papers.slicegpt.estimator import SliceGPT

LENGTH = 256
TEST_WINDOWS = 128
DRAWS = "calibration draws"
SLICINGS = (0.125, 0.25, 0.3125, 0.5)


@dataclass
class Bench:
    """The bundled model with its calibration and test windows."""

    run: runs.Run
    fast: bool

    @cached_property
    def dense(self) -> PreTrainedModel:
        return load_model(None, "float32", "cpu")[0]

    @cached_property
    def tokenizer(self) -> Any:
        return load_tokenizer(bundled_model_path())

    @cached_property
    def test(self) -> torch.Tensor:
        return token_windows(self.tokenizer, bundled_text("test"), LENGTH)[: 8 if self.fast else TEST_WINDOWS]

    @property
    def seeds(self) -> range:
        """Each draws calibration text of its own, and turns the kept directions in its own way."""
        return range(2 if self.fast else 3)

    @cached_property
    def dense_perplexity(self) -> float:
        return self.perplexity(self.dense)

    def calibration(self, n: int, seed: int = 0, text: str | None = None) -> Calibration:
        return Calibration.from_texts(self.tokenizer, [text or bundled_text("train")], n, LENGTH, seed)

    def perplexity(self, model: torch.nn.Module) -> float:
        return perplexity(model, self.test, batch_size=16, progress=self.run.progress)

    def sliced(
        self, slicing: float = 0.25, n: int = 128, calibration: Calibration | None = None, **settings: Any
    ) -> SliceGPT:
        """SliceGPT fitted to a copy of the bundled model."""
        method = SliceGPT(slicing, device="cpu", **settings)
        data = calibration or self.calibration(8 if self.fast else n, settings.get("seed", 0))
        method.fit(copy.deepcopy(self.dense), data, batch_size=16, progress=self.run.progress)
        return method
