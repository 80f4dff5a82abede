"""``SliceClassifier``: trains on a table of slices, gives a probability per slice, saves and loads itself."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch

from paperworks.errors import InputError
from paperworks.inputs.scans import Case
from paperworks.nn import evaluation_mode, resolve_device
from paperworks.papers.petct_slices.evaluation import Evaluation, evaluate
from paperworks.papers.petct_slices.examples import SliceBatches, inputs_of
from paperworks.papers.petct_slices.explanation import Method, class_activation_maps
from paperworks.papers.petct_slices.losses import slice_loss
from paperworks.papers.petct_slices.network import SliceNetwork, make_network
from paperworks.papers.petct_slices.slice_options import SliceOptions
from paperworks.papers.petct_slices.slice_table import SliceTable
from paperworks.papers.petct_slices.splits import patient_split
from paperworks.papers.petct_slices.thresholds import choose_threshold
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import new_folder
from paperworks.training import TrainResult, TrainSettings, Weighted, train
from paperworks.training.samplers import Grouped

FORMAT = 1
LABEL = "1 if any voxel of the slice is in the lesion mask, on the grid of the PET"


@dataclass
class Fit:
    """What a training left: its losses, the rows it trained and validated on, the threshold."""

    result: TrainResult
    train_rows: np.ndarray = field(default_factory=lambda: np.arange(0))
    validation_rows: np.ndarray = field(default_factory=lambda: np.arange(0))


class SliceClassifier:
    """Marks the axial slices of PET/CT scans that cut a lesion. Research software, not a medical device.

    Parameters
    ----------
    input : ``pet``, ``petct`` or ``ct``.
    regime : ``cag`` pools all centers and uses nothing of them; ``caw`` is aware of the center.
    caw : how: ``balanced`` draws center and label equally often, ``one-hot`` tells the head, ``batchnorm`` gives every
        center a BatchNorm of its own.
    backbone_path : a folder of transformers with a ResNet-18, or torchvision's weights; None begins with random ones.
    channels : ``pet,ct`` and the like; default three times the PET (or the CT), ``pet,ct`` for both.
    image_size : pixels of the slices; a table must have this size.
    network : ``resnet18``, or ``small`` (a tenth of a million parameters) for small images.
    pet_window, ct_window : SUV and HU that are mapped to [0, 1]; ``pet_scale="patient"`` standardises the SUV with the
        patient's mean and standard deviation instead.
    normalise : with ImageNet's mean and standard deviation.
    loss, gamma, alpha, pos_weight : focal loss (gamma, alpha), or cross-entropy (pos_weight).
    augment : flips, +-12 degrees, 0.9 to 1.1 times, 10 pixels of 224.
    epochs, batch_size, learning_rate, weight_decay : of AdamW with a cosine to 0. The weights of the epoch with the
        highest AUROC on the validation patients are kept.
    validation_size : share of the training patients that choose epoch and threshold.
    threshold : ``0.5``, or a rule on the validation slices: ``youden``, ``f1``, ``sensitivity-0.95``, ...
    spacing : mm that scans given to ``predict_proba`` are brought to, as the table's were.
    device, random_state : where and with which seed.

    Attributes
    ----------
    network_, centers_, threshold_, fit_ : after ``fit``.
    """

    def __init__(
        self,
        input: Literal["pet", "ct", "petct"] = "pet",
        regime: Literal["cag", "caw"] = "cag",
        *,
        backbone_path: str | Path | None = None,
        device: str = "auto",
        random_state: int = 0,
        **options: Any,
    ) -> None:
        check_seed("random_state", random_state)
        unknown = [name for name in options if name not in SliceOptions.__dataclass_fields__]
        if unknown:
            raise InputError(unknown[0], "no such option", f"one of {', '.join(SliceOptions.__dataclass_fields__)}")
        self.options = SliceOptions(input=input, regime=regime, **options)
        self.backbone_path, self.device, self.random_state = backbone_path, device, random_state
        self.network_: SliceNetwork | None = None
        self.centers_: list[str] = []
        self.threshold_ = 0.5
        self.fit_: Fit | None = None

    def fit(
        self,
        table: SliceTable,
        rows: np.ndarray | None = None,
        *,
        validation_rows: np.ndarray | None = None,
        checkpoint_dir: Path | None = None,
        progress: Progress = no_progress,
    ) -> Self:
        """Train on some rows of a table (all, by default).

        Validation slices are those of whole patients among them, or ``validation_rows``; they choose the epoch and the
        threshold. With ``checkpoint_dir`` a training that was stopped goes on.

        Raises
        ------
        InputError : slices without a label, one class only, a size other than ``image_size``, a modality that scans
            lack, fewer than two centers for ``caw``, a patient in training and validation.
        """
        options = self.options
        chosen = np.arange(len(table)) if rows is None else np.asarray(rows)
        self._check(table, chosen)
        if validation_rows is None:
            inner, held = patient_split(table.rows.iloc[chosen], options.validation_size, self.random_state)
            training, validation = chosen[inner], chosen[held]
        else:
            training, validation = chosen, np.asarray(validation_rows)
            if set(table.patients[training]) & set(table.patients[validation]):
                warnings.warn("Patients are in training and validation: the validation overestimates.", stacklevel=2)
        if len(set(table.labels[training].tolist())) < 2:
            raise InputError("label", "training slices of one class", "positive and negative slices")
        self.centers_ = sorted(set(table.rows["center"].iloc[training].astype(str)))
        if options.regime == "caw" and len(self.centers_) < 2:
            raise InputError(
                "regime", f"caw with {len(self.centers_)} center", "training slices of at least two centers"
            )
        self._warn_of_window()
        network = make_network(
            options.inputs().channels,
            architecture=options.network,
            backbone=self.backbone_path,
            center_mode=options.center_mode,
            n_centers=len(self.centers_),
            seed=self.random_state,
        )
        network.to(resolve_device(self.device))
        self.network_ = network
        result = self._train(table, training, validation, checkpoint_dir, progress)
        network.eval()
        self.fit_ = Fit(result, training, validation)
        scores = self.predict_proba(table, validation)
        self.threshold_ = choose_threshold(table.labels[validation], scores, options.threshold)
        return self

    def _warn_of_window(self) -> None:
        wide = self.options.pet_scale == "window" and self.options.pet_window[1] - self.options.pet_window[0] > 20
        if self.backbone_path is None and wide and "pet" in self.options.inputs().channels:
            low, high = self.options.pet_window
            share = (3 - low) / (high - low)
            warnings.warn(
                f"SUV {low:g} to {high:g} make a lesion of SUV 3 {share:.2f} of 1: with random weights use a narrower "
                "window, such as 0 to 15.",
                UserWarning,
                stacklevel=3,
            )

    def _train(
        self,
        table: SliceTable,
        training: np.ndarray,
        validation: np.ndarray,
        folder: Path | None,
        progress: Progress,
    ) -> TrainResult:
        options = self.options
        assert self.network_ is not None
        centers = self._center_codes(table, training)
        balanced = options.regime == "caw" and options.caw == "balanced"
        sampler: Any = None
        if balanced:
            sampler = Weighted(balancing_weights(centers, table.labels[training]))
        elif options.center_mode == "batchnorm":
            sampler = Grouped(centers)
        batches = SliceBatches(
            table,
            training,
            options.inputs(),
            centers=None if options.center_mode == "none" else centers,
            sampler=sampler,
            augment=options.augment,
        )
        per_epoch = batches.steps(1, options.batch_size)
        settings = TrainSettings(
            steps=batches.steps(options.epochs, options.batch_size),
            batch_size=options.batch_size,
            learning_rate=options.learning_rate,
            betas=(0.9, 0.999),
            weight_decay=options.weight_decay,
            clip_norm=0,
            schedule="cosine",
            eval_every=per_epoch,
            checkpoint_every=per_epoch,
            device=self.device,
            seed=self.random_state,
        )
        return train(
            self.network_,
            batches,
            settings,
            loss=slice_loss(options.loss, gamma=options.gamma, alpha=options.alpha, pos_weight=options.pos_weight),
            evaluate=self._validation(table, validation),
            checkpoint_dir=folder,
            progress=progress,
        )

    def _validation(self, table: SliceTable, validation: np.ndarray) -> Callable[[torch.nn.Module], float]:
        """1 - AUROC on the validation slices; their mean loss where they are of one class."""
        from sklearn.metrics import roc_auc_score

        labels = table.labels[validation]
        both = len(set(labels.tolist())) == 2

        def value(model: torch.nn.Module) -> float:
            logits = self._logits(model, table, validation, 256, no_progress)
            if both:
                return 1 - float(roc_auc_score(labels, logits))
            return float(np.logaddexp(0, -logits * (2 * labels - 1)).mean())

        return value

    def _center_codes(self, table: SliceTable, rows: np.ndarray) -> np.ndarray:
        """The number of each slice's center, int64; -1 for one that was not trained on."""
        known = {name: number for number, name in enumerate(self.centers_)}
        return np.array([known.get(str(c), -1) for c in table.rows["center"].iloc[rows]], dtype=np.int64)

    def decision_function(
        self,
        data: SliceTable | Case,
        rows: np.ndarray | None = None,
        *,
        batch_size: int = 256,
        progress: Progress = no_progress,
    ) -> np.ndarray:
        """The logit of every slice, float64 ``[n]``; see ``predict_proba``."""
        network = self._fitted()
        table = self.table_of(data)
        chosen = np.arange(len(table)) if rows is None else np.asarray(rows)
        self._check(table, chosen, labels=False)
        with evaluation_mode(network):
            return self._logits(network, table, chosen, batch_size, progress)

    def predict_proba(
        self,
        data: SliceTable | Case,
        rows: np.ndarray | None = None,
        *,
        batch_size: int = 256,
        progress: Progress = no_progress,
    ) -> np.ndarray:
        """The probability of a lesion for every slice, float64 ``[n]``: slices of a scan from the feet up.

        Raises InputError before ``fit``, and for slices of another size or without a modality that the network reads.
        """
        from scipy.special import expit

        return expit(self.decision_function(data, rows, batch_size=batch_size, progress=progress))

    def predict(self, data: SliceTable | Case, rows: np.ndarray | None = None) -> np.ndarray:
        """1 where the probability reaches the threshold, int64 ``[n]``."""
        return (self.predict_proba(data, rows) >= self.threshold_).astype(np.int64)

    def explain(
        self, table: SliceTable, rows: np.ndarray, method: Method = "grad-cam", *, progress: Progress = no_progress
    ) -> np.ndarray:
        """Class-activation maps of some slices, float32 ``[n, size, size]``; see ``class_activation_maps``.

        A network that is told the center is asked without it.
        """
        network = self._fitted()
        self._check(table, np.asarray(rows), labels=False)
        inputs = inputs_of(table, np.asarray(rows), self.options.inputs())
        return class_activation_maps(network, inputs, method, progress=progress)

    def evaluate(
        self, table: SliceTable, rows: np.ndarray | None = None, *, n_boot: int = 2000, progress: Progress = no_progress
    ) -> Evaluation:
        """All figures of labelled slices, with intervals over patients; see ``evaluation.evaluate``."""
        chosen = np.arange(len(table)) if rows is None else np.asarray(rows)
        scores = self.predict_proba(table, chosen, progress=progress)
        part = table.rows.iloc[chosen]
        return evaluate(
            part, scores, threshold=self.threshold_, n_boot=n_boot, seed=self.random_state, progress=progress
        )

    def table_of(self, data: SliceTable | Case) -> SliceTable:
        """A scan as a table of slices of the network's size; a table as it is."""
        if isinstance(data, SliceTable):
            return data
        options = self.options
        return SliceTable.from_cases([data], size=options.image_size, spacing=options.spacing, require_masks=False)

    def _logits(
        self, network: Any, table: SliceTable, rows: np.ndarray, batch_size: int, progress: Progress
    ) -> np.ndarray:
        device = next(network.parameters()).device
        centers = self._center_codes(table, rows)
        found = [np.empty(0)]
        starts = range(0, len(rows), batch_size)
        with torch.inference_mode():
            for start in progress(starts, "marking slices", len(starts)):
                part = rows[start : start + batch_size]
                inputs = inputs_of(table, part, self.options.inputs()).to(device)
                center = torch.from_numpy(centers[start : start + batch_size]).to(device)
                found.append(network(inputs, center).double().cpu().numpy())
        return np.concatenate(found)

    def _fitted(self) -> SliceNetwork:
        if self.network_ is None:
            raise InputError("classifier", "not trained yet", "fit, or from_pretrained")
        return self.network_

    def _check(self, table: SliceTable, rows: np.ndarray, labels: bool = True) -> None:
        if table.size != self.options.image_size:
            raise InputError("image_size", f"slices of {table.size} pixels", f"{self.options.image_size}")
        for name in sorted(set(self.options.inputs().channels)):
            table.images(name, rows[:0])
            if not table.has(name):
                raise InputError("cases", f"scans without {name.upper()}", f"{name.upper()} for every scan")
        if labels and (table.labels[rows] < 0).any():
            raise InputError("mask", "scans without a mask", "a mask for every scan that is trained on")

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write the network (safetensors) and how its input is made to a new or empty folder; return it."""
        network = self._fitted()
        with new_folder(Path(folder)) as out:
            network.save_pretrained(out / "network")
            content = {
                "format": FORMAT,
                "notice": "Research software, not a medical device.",
                "label": LABEL,
                "channels": list(self.options.inputs().channels),
                "centers": self.centers_,
                "threshold": self.threshold_,
                "options": asdict(self.options),
            }
            (out / "classifier.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        return Path(folder)

    @classmethod
    def from_pretrained(cls, folder: str | Path, device: str = "auto") -> Self:
        """Load what ``save_pretrained`` wrote: the same probabilities to the bit on the same device.

        Raises InputError naming ``model`` for a folder that is none.
        """
        place = Path(folder).expanduser()
        try:
            content = json.loads((place / "classifier.json").read_text(encoding="utf-8"))
            if content.get("format") != FORMAT:
                raise InputError("model", f"format {content.get('format')} in {place}", f"format {FORMAT}")
            options: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in content["options"].items()}
            made = cls(device=device, **options)
            made.centers_, made.threshold_ = list(content["centers"]), float(content["threshold"])
        except InputError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            found = f"{place}, without a readable classifier.json ({type(error).__name__})"
            raise InputError("model", found, "a folder of SliceClassifier.save_pretrained") from None
        made.network_ = SliceNetwork.from_pretrained(place / "network", resolve_device(device))
        return made


def balancing_weights(centers: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Weights with which every center and label is drawn equally often, float64 ``[n]``."""
    _, code, counts = np.unique(centers * 2 + labels, return_inverse=True, return_counts=True)
    return 1.0 / counts[code]
