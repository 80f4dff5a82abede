"""A click classifier with the interface of scikit-learn: a frame in, probabilities out, a small table inside."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from paperworks.errors import InputError
from paperworks.inputs.options import TableOptions
from paperworks.papers.optembed.bags import Pooling
from paperworks.papers.optembed.compact import CompactEmbedding
from paperworks.papers.optembed.encoding import FieldEncoder, Numbers
from paperworks.papers.optembed.evolution import Evolution
from paperworks.papers.optembed.fitting import Clicks, ClickTraining, predict_logits
from paperworks.papers.optembed.models import ClickModel, make_model
from paperworks.papers.optembed.search import OptEmbedSearch
from paperworks.papers.optembed.sources import without_markers
from paperworks.papers.optembed.table import OptEmbedding, Pruned, Threshold
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import new_folder


class OptEmbedClassifier(ClassifierMixin, BaseEstimator):
    """A click model whose embedding table is searched: supernet, evolution, retraining, compact table.

    Parameters
    ----------
    model : deepfm, fm, fnn, ipnn or dcn. dim : the full dimension D. hidden : layers of the perceptron.
    sparsity : the least share of the full table that goes; budget : the most parameters; None for no limit.
    threshold, norm, scale_norm, pruned : see ``OptEmbedding``. fresh : see ``OptEmbedSearch``.
    training, evolution : options of training and search.
    categorical, min_count, numbers, several, separator, most_values : see ``FieldEncoder``.
    pooling : "sum" or "mean" of the vectors of cells of several values.
    eight_bits : the compact table in eight bits, see ``CompactEmbedding.quantized``.
    validation_size : share of the rows that chooses epochs and dimensions.
    device, random_state, folder, progress : as usual; ``folder`` keeps the stages.

    Attributes
    ----------
    classes_ : the two labels. encoder_ : the fields. model_ : the retrained model with the compact table.
    search_ : the ``OptEmbedSearch`` that found it. report_ : rows, dimension and parameters by field.
    """

    def __init__(
        self,
        model: str = "deepfm",
        *,
        dim: int = 16,
        hidden: Sequence[int] = (64, 32),
        dropout: float = 0.0,
        sparsity: float | None = None,
        budget: int | None = None,
        threshold: Threshold = "field",
        norm: Literal[1, 2] = 1,
        scale_norm: bool = False,
        pruned: Pruned = "zero",
        fresh: bool = False,
        training: ClickTraining | None = None,
        evolution: Evolution | None = None,
        categorical: Sequence[str] = (),
        min_count: int = 2,
        numbers: Numbers = "auto",
        several: Sequence[str] = (),
        separator: str = "|",
        most_values: int = 16,
        pooling: Pooling = "sum",
        eight_bits: bool = False,
        validation_size: float = 0.1,
        device: str = "auto",
        random_state: int = 0,
        folder: str | Path | None = None,
        progress: Progress = no_progress,
    ) -> None:
        self.model, self.dim, self.hidden, self.dropout = model, dim, hidden, dropout
        self.sparsity, self.budget, self.threshold, self.pruned = sparsity, budget, threshold, pruned
        self.norm, self.scale_norm, self.fresh = norm, scale_norm, fresh
        self.training, self.evolution = training, evolution
        self.categorical, self.min_count, self.numbers = categorical, min_count, numbers
        self.several, self.separator, self.most_values = several, separator, most_values
        self.pooling, self.eight_bits = pooling, eight_bits
        self.validation_size, self.device, self.random_state = validation_size, device, random_state
        self.folder, self.progress = folder, progress

    def fit(self, X: Any, y: Any) -> Self:
        """Fit on a frame or array ``[rows, fields]`` of categories and numbers, and labels of two values ``[rows]``."""
        check_seed("random_state", self.random_state)
        frame = as_frame(X)
        labels = np.asarray(y)
        if labels.shape != (len(frame),):
            raise InputError("y", f"shape {labels.shape}", f"[{len(frame)}], one label for each row")
        missing = int(pd.isna(labels).sum())
        if missing:
            raise InputError("y", f"{missing} missing labels", "a label for each row")
        self.classes_ = np.unique(labels)
        if len(self.classes_) != 2:
            raise InputError("y", f"{len(self.classes_)} different labels", "two")
        if not 0 < self.validation_size < 1:
            raise InputError("validation_size", self.validation_size, "a share above 0, below 1")
        self.n_features_in_ = frame.shape[1]
        self.encoder_ = FieldEncoder(
            categorical=self.categorical,
            min_count=self.min_count,
            numbers=self.numbers,
            several=self.several,
            separator=self.separator,
            most_values=self.most_values,
        )
        ids = self.encoder_.fit(frame).transform(frame)
        target = (labels == self.classes_[1]).astype(np.int8)
        order = np.random.default_rng(self.random_state).permutation(len(ids))
        held = max(1, round(self.validation_size * len(ids)))
        validation, train = (Clicks(ids[part], target[part]) for part in (order[:held], order[held:]))
        return self.fit_clicks(train, validation)

    def fit_clicks(self, train: Clicks, validation: Clicks) -> Self:
        """Fit on rows that ``encoder_`` has encoded already."""
        sizes = self.encoder_.field_dims_
        with torch.random.fork_rng():
            torch.manual_seed(self.random_state)
            table = OptEmbedding(
                sizes,
                self.dim,
                threshold=self.threshold,
                norm=self.norm,
                scale_norm=self.scale_norm,
                pruned=self.pruned,
                slots=self.encoder_.slots_,
                pooling=self.pooling,
            )
            model = make_model(self.model, table, sizes, self.dim, hidden=self.hidden, dropout=self.dropout)
        self.search_ = OptEmbedSearch(
            model,
            training=self.training,
            evolution=self.evolution,
            fresh=self.fresh,
            folder=self.folder,
            device=self.device,
            random_state=self.random_state,
            progress=self.progress,
        )
        self.search_.fit(train, validation)
        self.search_.search(validation, budget=self.budget, sparsity=self.sparsity)
        self.search_.retrain(train, validation)
        self.report_ = self.search_.report([f.name for f in self.encoder_.fields_])
        self.model_ = with_compact_table(model, self.model, self.hidden, self.dropout, self.eight_bits)
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Logits ``[rows]`` of the second class."""
        check_is_fitted(self)
        frame = as_frame(X)
        if not isinstance(X, pd.DataFrame) and frame.shape[1] != len(self.encoder_.fields_):
            raise InputError("X", f"{frame.shape[1]} columns", f"{len(self.encoder_.fields_)}, as in fit")
        return predict_logits(self.model_, self.encoder_.transform(frame))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities ``[rows, 2]`` of ``classes_``."""
        positive = 1 / (1 + np.exp(-self.decision_function(X)))
        return np.stack([1 - positive, positive], 1)

    def predict(self, X: Any) -> np.ndarray:
        """The likelier label ``[rows]``."""
        second = self.decision_function(X) > 0
        return self.classes_[second.astype(int)]

    def save(self, folder: str | Path) -> Path:
        """Write a folder: the compact table, the other weights, the fields, the options. No pickles."""
        check_is_fitted(self)
        with new_folder(Path(folder)) as out:
            table = self.model_.embedding
            assert isinstance(table, CompactEmbedding)
            table.save_pretrained(out / "embedding")
            state = self.model_.state_dict().items()
            save_file(
                {n: v.detach().cpu().contiguous() for n, v in state if not n.startswith("embedding.")},
                out / "model.safetensors",
            )
            (out / "fields.json").write_text(self.encoder_.to_json(), encoding="utf-8")
            options = {
                "model": self.model,
                "dim": self.dim,
                "hidden": list(self.hidden),
                "classes": self.classes_.tolist(),
                "report": self.report_,
            }
            (out / "config.json").write_text(json.dumps(options, indent=1), encoding="utf-8")
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path) -> OptEmbedClassifier:
        """A fitted classifier from ``save``. It predicts; it has no ``search_``."""
        place = Path(folder)
        try:
            options = json.loads((place / "config.json").read_text(encoding="utf-8"))
            fields = (place / "fields.json").read_text(encoding="utf-8")
            weights = load_file(place / "model.safetensors")
        except (OSError, ValueError) as error:
            raise InputError("folder", f"{place} ({error})", "a folder that save wrote") from None
        found = cls(options["model"], dim=options["dim"], hidden=tuple(options["hidden"]))
        found.encoder_ = FieldEncoder.from_json(fields)
        found.classes_ = np.array(options["classes"])
        found.n_features_in_ = len(found.encoder_.fields_)
        found.report_ = options["report"]
        table = CompactEmbedding.from_pretrained(place / "embedding")
        found.model_ = make_model(found.model, table, found.encoder_.field_dims_, found.dim, hidden=found.hidden)
        unread = found.model_.load_state_dict(weights, strict=False)
        odd = [n for n in (*unread.missing_keys, *unread.unexpected_keys) if not n.startswith("embedding.")]
        if odd:
            raise InputError("folder", f"{place}, whose weights differ in {odd[0]}", "a folder that save wrote")
        found.model_.eval()
        return found


def with_compact_table(
    model: ClickModel, name: str, hidden: Sequence[int], dropout: float = 0.0, eight_bits: bool = False
) -> ClickModel:
    """The same model with its ``OptEmbedding`` as a ``CompactEmbedding``: the same logits, but for eight bits."""
    table = model.embedding
    if not isinstance(table, OptEmbedding):
        raise InputError("model", f"a table of type {type(table).__name__}", "an OptEmbedding")
    compact = table.compact().quantized() if eight_bits else table.compact()
    small = make_model(name, compact, table.field_dims, table.dim, hidden=hidden, dropout=dropout)
    rest = {n: v for n, v in model.state_dict().items() if not n.startswith("embedding.")}
    small.load_state_dict(rest, strict=False)
    return small.eval().to(table.weight.device)


def as_frame(X: Any) -> pd.DataFrame:
    """A frame with missing cells as NaN, from a frame or a 2-d array."""
    frame = X if isinstance(X, pd.DataFrame) else pd.DataFrame(np.asarray(X))
    if frame.ndim != 2 or frame.shape[1] < 1 or len(frame) < 1:
        raise InputError("X", f"shape {frame.shape}", "at least one row and one column")
    names = [str(c) for c in frame.columns]
    twice = next((n for i, n in enumerate(names) if n in names[:i]), None)
    if twice is not None:
        raise InputError("X", f"two columns named {twice!r}", "one column for each name")
    frame = frame.set_axis(names, axis=1)
    return without_markers(frame, ["", *TableOptions().missing])
