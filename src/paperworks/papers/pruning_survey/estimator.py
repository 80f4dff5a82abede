"""A scikit-learn classifier around a network that is trained, pruned as a spec declares, and trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data
from torch.utils.data import TensorDataset

from paperworks.classification import TorchClassifier
from paperworks.errors import InputError
from paperworks.papers.pruning_survey.pruner import PruneResult, prune
from paperworks.papers.pruning_survey.spec import PruneSpec, read_spec
from paperworks.parameters import check_number, check_seed, check_whole
from paperworks.pruning import train_classifier
from paperworks.training import TrainingCallback


class PrunedClassifier(ClassifierMixin, BaseEstimator):
    """Train a module, prune it, recover; then use it as a scikit-learn classifier.

    Rows are taken as they are: scale them in a pipeline in front of it.

    Parameters
    ----------
    module : as in ``TorchClassifier``: a module, a function of the shape and the number of classes, or None, a
        perceptron with ``hidden`` layers.
    spec : a ``PruneSpec``, a dict, YAML text or a file. Its recovery is ``none``, ``update`` or ``finetune``.
    steps, recovery_steps : optimiser steps before and after pruning (between the rounds, of a gradual schedule).

    Attributes
    ----------
    classes_ : the labels, sorted ``[C]``.
    module_ : the pruned module. result_ : what ``prune`` gave, with masks and report.
    """

    def __init__(
        self,
        module: Any = None,
        spec: PruneSpec | Mapping[str, Any] | str | Path | None = None,
        *,
        hidden: Sequence[int] = (64,),
        steps: int = 300,
        recovery_steps: int = 150,
        batch_size: int = 32,
        learning_rate: float = 1e-2,
        device: str = "cpu",
        random_state: int = 0,
    ) -> None:
        self.module = module
        self.spec = spec
        self.hidden = hidden
        self.steps = steps
        self.recovery_steps = recovery_steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.device = device
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> PrunedClassifier:
        """Train on rows ``[n, ...]`` and labels ``[n]`` of any kind, prune, recover."""
        seed = check_seed("random_state", self.random_state) % 2**31
        check_whole("recovery_steps", self.recovery_steps)
        check_number("learning_rate", self.learning_rate)
        y = column_or_1d(y, warn=True)
        spec = read_spec(self.spec or {}, seed=seed)
        if spec.when == "before":
            raise InputError("spec", "when before", "after: the module is trained first")
        if spec.recovery not in ("none", "update", "finetune"):
            raise InputError("spec", f"recovery {spec.recovery}", "none, update or finetune")
        self.classifier_ = TorchClassifier(
            self.module,
            hidden=self.hidden,
            standardize=False,
            steps=self.steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            device=self.device,
            random_state=seed,
        ).fit(X, y)
        rows = validate_data(self, X, dtype=np.float32, allow_nd=True)
        self.classes_ = self.classifier_.classes_
        codes = np.searchsorted(self.classes_, np.asarray(y))
        data = TensorDataset(torch.from_numpy(np.ascontiguousarray(rows)), torch.from_numpy(codes.astype(np.int64)))

        def train(model: torch.nn.Module, callbacks: tuple[TrainingCallback, ...], number: int = 0) -> None:
            rounds = spec.rounds if spec.schedule == "gradual" else 1
            train_classifier(
                model,
                data,
                steps=self.recovery_steps // rounds,
                learning_rate=self.learning_rate,
                batch_size=max(1, min(self.batch_size, len(data) // 2)),
                seed=seed + number + 1,
                device=self.device,
                callbacks=callbacks,
                settle_norms=True,
            )

        found = prune(self.classifier_.module_, spec, data.tensors[0][:2], data, train=train)
        if spec.schedule != "gradual" and spec.recovery not in ("none", "update"):
            with found.holding() as callbacks:
                train(found.model, callbacks)
        self.result_: PruneResult = found
        self.module_ = self.classifier_.module_ = found.model
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of ``classes_``, float64 ``[n, C]``."""
        check_is_fitted(self)
        return self.classifier_.predict_proba(X)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row ``[n]``."""
        check_is_fitted(self)
        return self.classifier_.predict(X)
