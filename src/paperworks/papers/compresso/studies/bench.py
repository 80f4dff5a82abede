"""What the studies share: the bundled model, its windows, and fits of a stated size."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from paperworks import runs
from paperworks.language import bundled_text, load_model, perplexity, token_windows
from paperworks.language.choice import choice_outcomes, continuation_questions
from paperworks.papers.compresso.data import Data
from paperworks.papers.compresso.estimator import Compresso
from paperworks.papers.compresso.settings import TrainerArgs

LENGTH, BATCH = 64, 8
RATE = 1e-3


@dataclass
class Bench:
    """The bundled model; everything is on the CPU and in float32."""

    run: runs.Run
    fast: bool

    @cached_property
    def _loaded(self) -> Any:
        return load_model(None, "float32", "cpu")

    def dense(self) -> Any:
        """A fresh copy of the model."""
        return copy.deepcopy(self._loaded[0])

    @property
    def tokenizer(self) -> Any:
        return self._loaded[1]

    @cached_property
    def windows(self) -> torch.Tensor:
        """Training windows, int64 [n, 64]."""
        return token_windows(self.tokenizer, bundled_text("train"), LENGTH)

    @cached_property
    def test(self) -> torch.Tensor:
        """Held-out windows, int64 [n, 128]."""
        return token_windows(self.tokenizer, bundled_text("test"), 128)[: 8 if self.fast else 160]

    def perplexity(self, model: Any) -> float:
        return perplexity(model, self.test, batch_size=16, progress=self.run.progress)

    def outcomes(self, model: Any) -> np.ndarray:
        """Right answers, 0 or 1: which of four stretches of 24 tokens goes on from 64 tokens of held-out text?"""
        questions = continuation_questions(
            self.test, 8 if self.fast else len(self.test), 64, 24, np.random.default_rng(0)
        )
        return choice_outcomes(model, questions, progress=self.run.progress)[0]

    def steps(self, n: int) -> int:
        """``n`` steps, or three in the smoke version."""
        return 3 if self.fast else n

    def fitted(
        self,
        steps: tuple[int, int, int],
        data: Data | None = None,
        model: Any = None,
        seed: int = 0,
        mask_rate: float = 0.2,
        penalty_factor: float = 10.0,
        **options: Any,
    ) -> Compresso:
        """Compresso on a copy of the bundled model: steps of tuning, of pruning, and behind fixed masks."""
        tuning, pruning, final = (self.steps(n) if n else 0 for n in steps)
        args = TrainerArgs(
            tuning_steps=tuning,
            pruning_steps=pruning,
            final_steps=final,
            batch_size=BATCH,
            max_length=LENGTH,
            learning_rate=RATE,
            final_learning_rate=RATE,
            mask_learning_rate=mask_rate,
            penalty_factor=penalty_factor,
        )
        options = {"prompt": "none", "warmup": 0.5, **options}
        method = Compresso(trainer_args=args, seed=seed, device="cpu", **options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            method.fit(
                self.dense() if model is None else model,
                self.tokenizer,
                self.windows if data is None else data,
                progress=self.run.progress,
            )
        return method
