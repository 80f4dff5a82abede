"""Training a click model: Adam with coupled weight decay, a plain step for thresholds, stopping by validation AUC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import log_loss, roc_auc_score
from torch import nn

from paperworks.errors import InputError
from paperworks.nn import evaluation_mode, resolve_device
from paperworks.papers.optembed.table import OptEmbedding
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress
from paperworks.training import (
    Batch,
    TrainingCallback,
    TrainResult,
    TrainSettings,
    binary_cross_entropy_loss,
    train,
)

EVALUATION_ROWS = 8192


@dataclass(frozen=True)
class Clicks:
    """Rows of a click table: ids int32 or int64 ``[N, n]`` counted within each field, and labels 0 or 1 ``[N]``.

    A field of several values has several columns, -1 where a row has fewer (see ``Bags``).
    """

    ids: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        if self.ids.ndim != 2 or self.ids.dtype.kind not in "iu":
            raise InputError("ids", f"{self.ids.dtype} of shape {self.ids.shape}", "whole numbers [rows, fields]")
        if self.labels.shape != (len(self.ids),):
            raise InputError("labels", f"shape {self.labels.shape}", f"[{len(self.ids)}], one for each row")
        values = np.unique(self.labels)
        if not np.isin(values, (0, 1)).all():
            raise InputError("labels", values[:5].tolist(), "0 and 1")

    def __len__(self) -> int:
        return len(self.ids)

    def require_two_classes(self, field: str) -> None:
        """Raises InputError naming ``field``, where AUC is undefined."""
        if len(np.unique(self.labels)) < 2:
            raise InputError(field, f"one class only in {len(self):,} rows", "both 0 and 1: AUC is undefined otherwise")


@dataclass(frozen=True)
class ClickTraining:
    """How a click model is trained.

    Attributes
    ----------
    learning_rate, l2 : of Adam; the weight decay is coupled, and acts on all parameters but the thresholds.
    threshold_lr : of the plain gradient steps of the thresholds.
    alpha : weight of the regulariser, the sum of exp(-threshold).
    epochs, batch_size : the most passes, and rows in a step.
    patience : stop after so many epochs in a row without a better validation AUC.
    """

    learning_rate: float = 1e-3
    l2: float = 1e-5
    threshold_lr: float = 1e-4
    alpha: float = 1e-4
    epochs: int = 30
    batch_size: int = 2048
    patience: int = 1

    def __post_init__(self) -> None:
        for name in ("learning_rate", "threshold_lr"):
            if not getattr(self, name) > 0:
                raise InputError(name, getattr(self, name), "a number above 0")
        for name in ("l2", "alpha"):
            if not getattr(self, name) >= 0:
                raise InputError(name, getattr(self, name), "0 or more")
        for name, least in (("epochs", 1), ("batch_size", 2), ("patience", 1)):  # batch norms need two rows
            if getattr(self, name) < least:
                raise InputError(name, getattr(self, name), f"{least} or more")


class AdamWithThresholds(torch.optim.Adam):
    """Adam, and plain gradient descent without decay for the group whose option ``plain`` is true (the thresholds)."""

    def step(self, closure: Any = None) -> Any:
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"] if group.get("plain") else ():
                    if parameter.grad is not None:
                        parameter.add_(parameter.grad, alpha=-group["lr"])
                        parameter.grad = None  # Adam passes over parameters without a gradient
        return super().step(closure)


def optimizer_of(model: nn.Module, training: ClickTraining) -> torch.optim.Optimizer:
    """The two optimisers of the supernet in one: Adam for all parameters, plain steps for thresholds."""
    thresholds = [m.thresholds for m in model.modules() if isinstance(m, OptEmbedding) and m.thresholds.requires_grad]
    known = {id(p) for p in thresholds}
    rest = [p for p in model.parameters() if p.requires_grad and id(p) not in known]
    groups: list[dict[str, Any]] = [{"params": rest, "weight_decay": training.l2}]
    if thresholds:
        plain = {"plain": True, "scheduled": False, "lr": training.threshold_lr, "weight_decay": 0.0}
        groups.append({"params": thresholds, **plain})
    return AdamWithThresholds(groups, lr=training.learning_rate)


class TableRecord(TrainingCallback):
    """After every epoch: the thresholds, quantiles of the rows' norms, and how many rows are above."""

    def __init__(self, table: OptEmbedding | None, steps_per_epoch: int) -> None:
        self.table, self.every = table, steps_per_epoch
        self.records: list[dict[str, float]] = []

    def after_step(self, step: int, loss: float, learning_rate: float) -> None:
        if (step + 1) % self.every or self.table is None or self.table.fixed or not self.table.rows:
            return
        with torch.no_grad():
            norms, thresholds = self.table.row_norms().float(), self.table.thresholds.float()
            low, middle, high = (float(norms.quantile(q)) for q in (0.1, 0.5, 0.9))
            self.records.append(
                {
                    "epoch": (step + 1) // self.every,
                    "loss": loss,
                    "threshold_min": float(thresholds.min()),
                    "threshold_mean": float(thresholds.mean()),
                    "threshold_max": float(thresholds.max()),
                    "norm_10%": low,
                    "norm_50%": middle,
                    "norm_90%": high,
                    "rows_kept": int(self.table.row_mask().sum()),
                }
            )

    def state_dict(self) -> Mapping[str, Any]:
        return {"records": self.records}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.records = list(state["records"])


def fit_clicks(
    model: nn.Module,
    rows: Clicks,
    validation: Clicks,
    training: ClickTraining,
    *,
    device: str = "auto",
    seed: int = 0,
    checkpoint_dir: Path | None = None,
    callbacks: Sequence[TrainingCallback] = (),
    progress: Progress = no_progress,
) -> tuple[TrainResult, list[dict[str, float]]]:
    """Train a model that maps ids ``[B, n]`` to logits ``[B]``; it ends with the weights of its best validation AUC.

    Returns the result, and the record of thresholds and norms by epoch (empty without learned thresholds).
    """
    check_seed("seed", seed)
    rows.require_two_classes("train")
    validation.require_two_classes("validation")
    steps = -(-len(rows) // training.batch_size)
    tables = [m for m in model.modules() if isinstance(m, OptEmbedding)]
    record = TableRecord(tables[0] if tables else None, steps)
    settings = TrainSettings(
        steps=steps * training.epochs,
        batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        weight_decay=training.l2,
        clip_norm=0.0,
        schedule="constant",
        eval_every=steps,
        patience=training.patience,
        device=device,
        seed=seed,
    )
    bce = binary_cross_entropy_loss()

    def loss(network: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        total, count = bce(network, batch)
        pushed = [t.regularizer() for t in tables if t.rows and not t.fixed]
        return total + training.alpha * count * sum(pushed), count

    result = train(
        model,
        {"inputs": torch.from_numpy(np.ascontiguousarray(rows.ids)), "labels": torch.from_numpy(rows.labels).float()},
        settings,
        loss=loss,
        evaluate=lambda network: -auc_of(network, validation),
        callbacks=[record, *callbacks],
        optimizer=optimizer_of(model, training),
        checkpoint_dir=checkpoint_dir,
        progress=progress,
    )
    return result, record.records


def predict_logits(model: nn.Module, ids: np.ndarray, device: str | torch.device | None = None) -> np.ndarray:
    """Logits float64 ``[N]`` of ids ``[N, n]``, in batches, in evaluation mode."""
    place = next(iter(model.parameters())).device if device is None else resolve_device(device)
    found = []
    with evaluation_mode(model), torch.no_grad():
        for start in range(0, len(ids), EVALUATION_ROWS):
            part = torch.from_numpy(np.ascontiguousarray(ids[start : start + EVALUATION_ROWS])).to(place)
            found.append(model(part).double().cpu().numpy())
    return np.concatenate(found) if found else np.zeros(0)


def auc_of(model: nn.Module, rows: Clicks) -> float:
    """Area under the ROC curve of a model on rows; 0.5 where its logits are not finite."""
    logits = predict_logits(model, rows.ids)
    return float(roc_auc_score(rows.labels, logits)) if np.isfinite(logits).all() else 0.5


def scores_of(model: nn.Module, rows: Clicks) -> dict[str, float]:
    """AUC and log loss (nats) on rows."""
    rows.require_two_classes("rows")
    logits = predict_logits(model, rows.ids)
    return {
        "auc": float(roc_auc_score(rows.labels, logits)),
        "log_loss": float(log_loss(rows.labels, 1 / (1 + np.exp(-logits)))),
    }
