"""The three stages on any model with one ``OptEmbedding``: supernet, search, retraining; and the export."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from paperworks.errors import InputError
from paperworks.nn import resolve_device
from paperworks.papers.optembed.compact import CompactEmbedding
from paperworks.papers.optembed.evolution import Candidates, Evolution, Found, evolve
from paperworks.papers.optembed.fitting import Clicks, ClickTraining, auc_of, fit_clicks, scores_of
from paperworks.papers.optembed.table import OptEmbedding
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import new_folder, replace_file, write_text

INITIAL, SUPERNET, MASKS, RETRAINED, RECORD = (
    "initial.safetensors",
    "supernet.safetensors",
    "masks.safetensors",
    "retrained.safetensors",
    "config.json",
)

TABLE_OPTIONS = ("threshold", "norm", "scale_norm", "pruned", "rows", "dimensions", "masked_norm")
"""Attributes of the table that decide what the stages find."""


class OptEmbedSearch:
    """Finds a smaller embedding table for a click model.

    The model is any module that maps ids int64 ``[B, n]`` to logits ``[B]`` and contains one ``OptEmbedding``. It is
    changed in place: after ``retrain`` it holds the retrained weights under the found masks.

    Parameters
    ----------
    model : the model, as it was initialised. Its weights now are those that retraining starts from.
    training : how the supernet is trained; retraining shares all but thresholds and regulariser.
    evolution : options of the search.
    fresh : retrain from newly drawn weights instead of those that the supernet started from.
    folder : where stages are kept. A stage that is there, of the same options and data, is not done again.
    device, random_state, progress : as usual.

    Attributes
    ----------
    history_ : thresholds, norms and kept rows of the supernet, by epoch.
    found_ : the search's result (``Found``).
    row_mask_ : bool ``[F]``; candidate_ : the dimensions of the fields.
    stages_ : AUC and log loss on the validation rows, by stage.

    References
    ----------
    OptEmbed (arXiv 2208.04482).
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        training: ClickTraining | None = None,
        evolution: Evolution | None = None,
        fresh: bool = False,
        folder: str | Path | None = None,
        device: str = "auto",
        random_state: int = 0,
        progress: Progress = no_progress,
    ) -> None:
        check_seed("random_state", random_state)
        tables = [m for m in model.modules() if isinstance(m, OptEmbedding)]
        if len(tables) != 1:
            raise InputError("model", f"{len(tables)} modules of type OptEmbedding", "one")
        self.model, self.table = model, tables[0]
        self.training, self.evolution = training or ClickTraining(), evolution or Evolution()
        self.fresh, self.device, self.random_state, self.progress = fresh, device, random_state, progress
        self.folder = None if folder is None else Path(folder)
        self.model.to(resolve_device(device))
        self.initial = _copied(model)
        self.stages_: dict[str, dict[str, float]] = {}

    def fit(self, train: Clicks, validation: Clicks) -> Self:
        """Stage 1: train the supernet with learned thresholds and random dimensions; then fix the row mask."""
        if hasattr(self, "row_mask_"):  # fitted before: from the start again
            self._unfix(self.initial)
        self._open(train, validation)
        record = self._read("supernet")
        if record is None:
            if self.folder is not None and not (self.folder / INITIAL).is_file():
                self._write_tensors(INITIAL, self.initial)
            _, history = fit_clicks(
                self.model,
                train,
                validation,
                self.training,
                device=self.device,
                seed=self.random_state,
                checkpoint_dir=None if self.folder is None else self.folder / "supernet",
                progress=self.progress,
            )
            self.table.set_candidate(None)
            record = {"history": history, **scores_of(self.model, validation)}
            self._write_tensors(SUPERNET, _copied(self.model))
            self._write("supernet", record)
        else:
            self._load(SUPERNET)
        self.supernet = _copied(self.model) if self.folder is None else None
        self.history_: list[dict[str, float]] = record["history"]
        self.stages_["supernet"] = {name: record[name] for name in ("auc", "log_loss")}
        self.row_mask_ = self.table.row_mask().cpu().clone()
        return self

    def search(self, validation: Clicks, *, budget: int | None = None, sparsity: float | None = None) -> Found:
        """Stage 2: evolution of the fields' dimensions, with validation AUC of the frozen supernet as fitness.

        Parameters
        ----------
        budget : the most parameters of the embedding table. sparsity : the same as the least share of the full table
            that goes, in [0, 1). One of the two, or neither.
        """
        self._require("row_mask_", "fit")
        self._require_supernet()
        rng = np.random.default_rng(self.random_state)
        candidates = Candidates(self.table.kept_rows().tolist(), self.table.dim, self._budget(budget, sparsity), rng)
        record = self._read("search")
        asked = {"budget": candidates.budget, **asdict(self.evolution)}
        if record is None or record["asked"] != asked:
            found = evolve(
                lambda dimensions: self.score(dimensions, validation),
                candidates,
                self.evolution,
                progress=self.progress,
            )
            record = {"asked": asked, **asdict(found)}
            self._write("search", record)
        scored = [(tuple(c), value, size) for c, value, size in record["scored"]]
        self.found_ = Found(tuple(record["dimensions"]), record["score"], scored, record["by_generation"])
        self.candidate_ = self.found_.dimensions
        self.table.set_candidate(self.candidate_)
        self.stages_["search"] = scores_of(self.model, validation)
        masks = {"row_mask": self.row_mask_, "candidate": torch.tensor(self.candidate_)}
        self._write_tensors(MASKS, masks)
        return self.found_

    def score(self, dimensions: Sequence[int], validation: Clicks) -> float:
        """The validation AUC of the supernet under given dimensions."""
        self._require_supernet()
        self.table.set_candidate(dimensions)
        return auc_of(self.model, validation)

    def retrain(
        self, train: Clicks, validation: Clicks, *, dimensions: Sequence[int] | None = None
    ) -> dict[str, float]:
        """Stage 3: train again under the masks, from the weights of the start. Returns validation AUC and log loss.

        ``dimensions`` are those that ``search`` found, or your own.
        """
        self._require("row_mask_", "fit")
        if dimensions is None:
            self._require("candidate_", "search")
            dimensions = self.candidate_
        self._restart()
        self.table.fix(self.row_mask_, dimensions)
        self.candidate_ = tuple(int(d) for d in dimensions)
        record = self._read("retrained")
        if record is None or record["dimensions"] != list(self.candidate_):
            result, _ = fit_clicks(
                self.model,
                train,
                validation,
                self.training,
                device=self.device,
                seed=self.random_state,
                checkpoint_dir=None if self.folder is None else self.folder / f"retrained-{_number(self.candidate_)}",
                progress=self.progress,
            )
            record = {
                "dimensions": list(self.candidate_),
                "epochs": result.steps,
                **scores_of(self.model, validation),
            }
            self._write_tensors(RETRAINED, _copied(self.model))
            self._write("retrained", record)
        else:
            self._load(RETRAINED)
        self.stages_["retrained"] = {name: record[name] for name in ("auc", "log_loss")}
        return self.stages_["retrained"]

    def report(self, names: Sequence[str] | None = None) -> dict[str, Any]:
        """Per field rows kept, dimension and parameters; AUC and log loss by stage. Plain values for JSON."""
        known = list(names) if names is not None else [f"field {i}" for i in range(len(self.table.field_dims))]
        kept, chosen = self.table.kept_rows().tolist(), self.table.candidate.tolist()
        full = len(self.table.weight) * self.table.dim
        return {
            "fields": [
                {"field": name, "rows": size, "rows_kept": k, "dimension": d, "parameters": k * d}
                for name, size, k, d in zip(known, self.table.field_dims, kept, chosen, strict=True)
            ],
            "parameters": self.table.parameters_kept(),
            "parameters_full": full,
            "sparsity": 1 - self.table.parameters_kept() / full,
            "stages": self.stages_,
        }

    def export(self, folder: str | Path) -> CompactEmbedding:
        """Write the compact table to ``folder/embedding``, the rest of the model beside it, and the report as JSON."""
        compact = self.table.compact()
        with new_folder(Path(folder)) as out:
            compact.save_pretrained(out / "embedding")
            inside = {name for name, module in self.model.named_modules() if module is self.table}
            prefix = f"{inside.pop()}."
            rest = {name: value for name, value in _copied(self.model).items() if not name.startswith(prefix)}
            save_file(rest, out / "model.safetensors")
            write_text(out / "report.json", json.dumps(self.report(), indent=1))
        return compact

    def _budget(self, budget: int | None, sparsity: float | None) -> int | None:
        if budget is not None and sparsity is not None:
            raise InputError("budget", f"{budget}, with sparsity {sparsity}", "one of the two")
        if sparsity is None:
            return budget
        if not 0 <= sparsity < 1:
            raise InputError("sparsity", sparsity, "from 0 to below 1")
        return int((1 - sparsity) * len(self.table.weight) * self.table.dim)

    def _unfix(self, weights: dict[str, torch.Tensor]) -> None:
        self.table.fixed = False
        self.table.thresholds.requires_grad_(True)
        self.model.load_state_dict(weights)

    def _require_supernet(self) -> None:
        """The supernet's weights back in the model, where a retraining has taken their place."""
        if not (self.table.fixed and hasattr(self, "row_mask_")):
            return
        if self.folder is not None:
            self._unfix(load_file(self.folder / SUPERNET))
        elif self.supernet is not None:
            self._unfix(self.supernet)

    def _restart(self) -> None:
        self._unfix(self.initial)
        if self.fresh:
            with torch.random.fork_rng():
                torch.manual_seed(self.random_state + 1)
                for module in self.model.modules():
                    reset: Any = getattr(module, "reset_parameters", None)
                    if module is not self.model and reset is not None:
                        reset()

    def _require(self, name: str, method: str) -> None:
        if not hasattr(self, name):
            raise InputError("search", f"called before {method}", f"{method} first")

    def _open(self, train: Clicks, validation: Clicks) -> None:
        """Make the folder, or see that what it holds is of the same options and data."""
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        identity = {
            "training": asdict(self.training),
            "field_dims": self.table.field_dims,
            "dim": self.table.dim,
            **{name: getattr(self.table, name) for name in TABLE_OPTIONS},
            **({} if self.table.bags.plain else self.table.bags.to_dict()),
            "fresh": self.fresh,
            "random_state": self.random_state,
            "data": [_digest(train), _digest(validation)],
        }
        record = self._records()
        if record and record["identity"] != identity:
            changed = [name for name in identity if record["identity"].get(name) != identity[name]]
            raise InputError(
                "folder", f"{self.folder}, of another {', '.join(changed)}", "an empty folder, or the same"
            )
        if not record:
            write_text(self.folder / RECORD, json.dumps({"identity": identity}))
        if (self.folder / INITIAL).is_file():  # an earlier attempt's start: retraining goes from there
            self.initial = load_file(self.folder / INITIAL)
            self.model.load_state_dict(self.initial)

    def _records(self) -> dict[str, Any]:
        path = None if self.folder is None else self.folder / RECORD
        return json.loads(path.read_text()) if path is not None and path.is_file() else {}

    def _read(self, stage: str) -> dict[str, Any] | None:
        return self._records().get(stage)

    def _write(self, stage: str, record: dict[str, Any]) -> None:
        if self.folder is not None:
            write_text(self.folder / RECORD, json.dumps({**self._records(), stage: record}))

    def _write_tensors(self, name: str, tensors: dict[str, torch.Tensor]) -> None:
        if self.folder is not None:
            with replace_file(self.folder / name) as path:
                save_file(tensors, path)

    def _load(self, name: str) -> None:
        assert self.folder is not None
        self.model.load_state_dict(load_file(self.folder / name))


def _digest(rows: Clicks) -> int:
    """A number that differs between sets of rows."""
    return zlib.crc32(np.ascontiguousarray(rows.labels).tobytes(), zlib.crc32(np.ascontiguousarray(rows.ids).tobytes()))


def _number(candidate: Sequence[int]) -> int:
    """A number that differs between candidates: each has a checkpoint of its own."""
    return zlib.crc32(json.dumps(list(candidate)).encode())


def _copied(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()}
