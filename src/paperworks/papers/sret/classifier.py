"""``SReTClassifier``: a scikit-learn estimator on images, with a teacher, and another resolution later."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from paperworks.classification import ImageExamples, features, fit, predict_proba
from paperworks.errors import InputError
from paperworks.inputs.images import ImageDataset, read_images
from paperworks.inputs.images.pixels import Fit, ValueRange
from paperworks.inputs.transforms import Transform
from paperworks.papers.sret.configuration import SReTConfig
from paperworks.papers.sret.modeling import SReTForImageClassification
from paperworks.papers.sret.networks import image_sides, network_config
from paperworks.papers.sret.resolution import resize_positions
from paperworks.papers.sret.teachers import check_logits, teacher_logits
from paperworks.parameters import check_number, check_seed, check_whole
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import new_folder
from paperworks.training import TrainSettings, make_optimizer

IN_MEMORY = 2**30
"""Bytes of images (float32) up to which they are kept decoded; others are decoded batch by batch."""
SAMPLE = 2_000
"""Images that mean and deviation of the channels are computed from."""


class SReTClassifier(ClassifierMixin, BaseEstimator):
    """Train a sliced recursive transformer on images.

    Images are an array (``[n, h, w]``, ``[n, h, w, c]``, ``[n, c, h, w]``), an ``ImageDataset``, or the path of a
    folder or file of images, whose own labels count where ``y`` is None (see ``paperworks.inputs.images.read_images``).

    Parameters
    ----------
    network : "auto", "micro", "tiny", "tiny-large" or "small" (see ``network_config``); an ``SReTConfig``, whose sizes
        and classes must be those of the images; or a trained ``SReTForImageClassification``, of which a copy is tuned
        and whose head is new where its classes are others.
    image_size : side, or (height, width), that images are resized to; None: their own, rounded up as the network needs.
    sliced : with groups; False is plain attention. For a network by name.
    channels : 1 (grey) or 3; None: as the given network has, or the images.
    fit_images : "stretch", "crop" or "pad", for images of another shape.
    value_range : values that are black and white, for arrays of floats outside of [0, 1] and 32-bit integers.
    epochs, batch_size, learning_rate, weight_decay, warmup, clip_norm : of AdamW with a cosine schedule; ``warmup`` is
        the share of steps in which the rate rises. Positions, coefficients, gains and biases do not decay.
    label_smoothing : without a teacher only.
    augment : applied to batches of images in [0, 1] after they were normalised; see ``paperworks.inputs.transforms``.
    teacher : see ``teacher_logits``; or a module, which sees the student's own batches, augmented and normalised.
    alpha, temperature : weight of the teacher, and softness of the distributions; 1 and 1 is the paper's soft labels.
    device : "auto", or a device of PyTorch.
    random_state : seed of weights, order and permutations.
    checkpoint_dir : where a stopped training goes on from.
    progress : a ``Progress``.

    Attributes
    ----------
    classes_ : the labels, sorted ``[C]``.
    model_ : the trained ``SReTForImageClassification``.
    mean_, deviation_ : of the channels, by which images are normalised.
    losses_ : mean loss of each step.

    Examples
    --------
    >>> classifier = SReTClassifier(epochs=60).fit("digits")  # doctest: +SKIP
    >>> classifier.predict(images), classifier.finetune_at(16, images, labels)  # doctest: +SKIP
    """

    takes_images = True

    def __init__(
        self,
        network: str | SReTConfig | SReTForImageClassification = "auto",
        *,
        image_size: int | Sequence[int] | None = None,
        sliced: bool = True,
        channels: int | None = None,
        fit_images: Fit = "stretch",
        value_range: ValueRange | None = None,
        epochs: float = 60,
        batch_size: int = 64,
        learning_rate: float = 2e-3,
        weight_decay: float = 0.05,
        warmup: float = 0.1,
        clip_norm: float = 1.0,
        label_smoothing: float = 0.0,
        augment: Transform | None = None,
        teacher: Any = None,
        alpha: float = 1.0,
        temperature: float = 1.0,
        device: str = "auto",
        random_state: int = 0,
        checkpoint_dir: Path | None = None,
        progress: Progress = no_progress,
    ) -> None:
        self.network = network
        self.image_size = image_size
        self.sliced = sliced
        self.channels = channels
        self.fit_images = fit_images
        self.value_range = value_range
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup = warmup
        self.clip_norm = clip_norm
        self.label_smoothing = label_smoothing
        self.augment = augment
        self.teacher = teacher
        self.alpha = alpha
        self.temperature = temperature
        self.device = device
        self.random_state = random_state
        self.checkpoint_dir = checkpoint_dir
        self.progress = progress

    def fit(self, X: Any, y: Any = None, *, unlabelled: Any = None) -> SReTClassifier:
        """Train on images and labels.

        Parameters
        ----------
        y : labels of any kind ``[n]``; None: those that the images have.
        unlabelled : more images, which the student learns from the teacher alone; with a teacher and ``alpha`` 1.

        Raises
        ------
        InputError : images without two classes or of mixed sizes without ``image_size``, a teacher of other classes,
            an option out of bounds.
        """
        self._check()
        images, labels = self._labelled(X, y)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError("y", f"one class ({self.classes_[0]!r})", "labels of at least two classes")
        self._channels = self.channels or self._own_channels(images)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.random_state % 2**63)
            self.model_ = self._make(images)
        self._normalise_like(images)
        self._train(images, codes, unlabelled)
        return self

    def finetune_at(
        self, image_size: int | Sequence[int], X: Any, y: Any = None, *, unlabelled: Any = None, **options: Any
    ) -> SReTClassifier:
        """A new classifier for images of another size: positions are resized, and all weights tuned.

        Parameters
        ----------
        image_size : side in pixels, or (height, width).
        X, y, unlabelled : as in ``fit``, with the same classes.
        options : parameters of this class to change, such as ``epochs`` (default: a third) and ``learning_rate``
            (default: a tenth); and ``groups1`` and ``groups2``, where the groups do not divide the numbers of tokens.
        """
        check_is_fitted(self)
        groups = {name: options.pop(name) for name in ("groups1", "groups2") if name in options}
        known = self.get_params(deep=False)
        unknown = [name for name in options if name not in known]
        if unknown:
            raise InputError(unknown[0], "an option of finetune_at", f"one of {', '.join(known)}, groups1, groups2")
        values = {"epochs": self.epochs / 3, "learning_rate": self.learning_rate / 10, "checkpoint_dir": None}
        found = SReTClassifier(**{**known, **values, **options, "image_size": image_size})
        found._check()
        found.model_ = resize_positions(self.model_, image_size, **groups)
        for name in ("classes_", "mean_", "deviation_", "_channels"):
            setattr(found, name, getattr(self, name))
        images, labels = found._labelled(X, y)
        found._train(images, found._codes(labels), unlabelled)
        return found

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of ``classes_``, float64 ``[n, C]``."""
        check_is_fitted(self)
        return predict_proba(self.model_, self._examples(self._images(X)), device=self.device)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each image ``[n]``."""
        best = self.predict_proba(X).argmax(1)
        return self.classes_[best]

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Accuracy; ``y`` None: the labels that the images have."""
        images, labels = self._labelled(X, y)
        right = self.predict(images) == labels
        return float(np.average(right, weights=sample_weight))

    def features(self, X: Any) -> np.ndarray:
        """The normalised mean of the tokens of each image, float32 ``[n, D]``: what the head reads."""
        check_is_fitted(self)
        return features(self.model_, self._examples(self._images(X)), "classifier", of="input", device=self.device)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model, its image processor and the classes to a new folder.

        Transformers loads it after ``import paperworks``: ``pipeline("image-classification", model=folder)``, which has
        three channels always, or ``AutoModelForImageClassification``. So does ``from_pretrained``.
        """
        import transformers

        check_is_fitted(self)
        kind: Any = getattr(transformers, "ViTImageProcessorPil", None) or transformers.ViTImageProcessor
        height, width = self.model_.config.sides
        processor = kind(
            size={"height": height, "width": width}, image_mean=self.mean_.tolist(), image_std=self.deviation_.tolist()
        )
        kept: dict[str, Any] = {name: getattr(self, name) for name in ("channels", "fit_images", "value_range")}
        content = {**kept, "classes": self.classes_.tolist(), "image_size": [height, width]}
        with new_folder(Path(folder)) as aside:
            self.model_.save_pretrained(aside)
            processor.save_pretrained(aside)
            (aside / "classifier.json").write_text(json.dumps(content) + "\n", encoding="utf-8")

    @classmethod
    def from_pretrained(cls, folder: str | Path, **options: Any) -> Self:
        """The classifier that ``save_pretrained`` wrote. ``options``: parameters of the class, such as ``device``.

        Raises InputError for a folder of another kind.
        """
        from transformers import AutoImageProcessor

        from paperworks.nn.loading import load_beside, load_strict

        source = Path(folder).expanduser()
        try:
            content = json.loads((source / "classifier.json").read_text(encoding="utf-8"))
            kept = {name: content[name] for name in ("channels", "fit_images", "value_range", "image_size")}
            kept["value_range"] = tuple(kept["value_range"]) if kept["value_range"] else None
            classes = np.array(content["classes"])
        except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
            raise InputError("folder", f"{source} ({error})", "a folder of SReTClassifier.save_pretrained") from None
        model = load_strict(SReTForImageClassification, source)
        processor = load_beside(AutoImageProcessor, source, "folder", "its preprocessor_config.json")
        found = cls(model, **{**kept, **options})
        found.model_, found.classes_ = model, classes
        found.mean_, found.deviation_ = np.array(processor.image_mean), np.array(processor.image_std)
        found._channels = model.config.num_channels
        return found

    def _check(self) -> None:
        check_seed("random_state", self.random_state)
        check_whole("batch_size", self.batch_size, 2)
        for name in ("learning_rate", "weight_decay", "clip_norm", "temperature", "epochs"):
            check_number(name, getattr(self, name))
        for name in ("alpha", "warmup", "label_smoothing"):
            check_number(name, getattr(self, name), 0, 1)
        if self.channels not in (None, 1, 3):
            raise InputError("channels", self.channels, "1, 3 or None")

    def _images(self, X: Any) -> ImageDataset:
        if isinstance(X, ImageDataset):
            return X
        return read_images(X, value_range=self.value_range, progress=self.progress)

    def _labelled(self, X: Any, y: Any) -> tuple[ImageDataset, np.ndarray]:
        images = self._images(X)
        if y is None:
            return images, np.array(images.class_names)[images.require_labels()]
        labels = np.asarray(y)
        if labels.shape != (len(images),):
            raise InputError("y", f"shape {labels.shape}", f"[{len(images)}], one label per image")
        return images, labels

    def _codes(self, labels: np.ndarray) -> np.ndarray:
        unknown = np.setdiff1d(labels, self.classes_)
        if len(unknown):
            raise InputError("y", f"class {unknown[0]!r}", f"one of {', '.join(map(str, self.classes_))}")
        return np.searchsorted(self.classes_, labels)

    def _own_channels(self, images: ImageDataset) -> int:
        """What the given network has; of a network by name, what the images have."""
        if isinstance(self.network, SReTConfig):
            return self.network.num_channels
        if isinstance(self.network, SReTForImageClassification):
            return self.network.config.num_channels
        return images.array([0]).shape[1]

    def _make(self, images: ImageDataset) -> SReTForImageClassification:
        classes, network = len(self.classes_), self.network
        names = {number: str(name) for number, name in enumerate(self.classes_)}
        if isinstance(network, SReTForImageClassification):
            model = copy.deepcopy(network)
            if model.config.num_channels != self._channels:
                raise InputError("channels", self._channels, f"{model.config.num_channels}, as the network has")
            if self.image_size is not None:
                sides = image_sides(images, self.image_size)
                model = model if sides == model.config.sides else resize_positions(model, sides)
            if model.config.classes != classes:
                model.classifier = torch.nn.Linear(model.config.widths[-1], classes)
        else:
            model = SReTForImageClassification(self._config(network, images, classes))
        model.config.id2label, model.config.label2id = names, {name: number for number, name in names.items()}
        return model

    def _config(self, network: Any, images: ImageDataset, classes: int) -> SReTConfig:
        if not isinstance(network, SReTConfig):
            seed = {"permutation_seed": self.random_state}
            sides = image_sides(images, self.image_size)
            return network_config(network, sides, self._channels, classes, sliced=self.sliced, **seed)
        if (network.num_channels, network.classes) != (self._channels, classes):
            found = f"{network.num_channels} channels and {network.classes} classes"
            raise InputError("network", found, f"{self._channels} and {classes}, as the images have")
        return network

    def _normalise_like(self, images: ImageDataset) -> None:
        """Mean and deviation of each channel over a sample of the images, as they are resized."""
        chosen = np.random.default_rng(self.random_state).permutation(len(images))[:SAMPLE]
        channels: Any = self._channels
        pixels = images.array(chosen, size=self.model_.config.sides, channels=channels, fit=self.fit_images)
        self.mean_ = pixels.mean((0, 2, 3), dtype=np.float64)
        deviation = pixels.std((0, 2, 3), dtype=np.float64)
        self.deviation_ = np.where(deviation > 1e-6, deviation, 1.0)

    def _examples(self, images: ImageDataset) -> Any:
        mean, deviation = (torch.tensor(v, dtype=torch.float32).view(-1, 1, 1) for v in (self.mean_, self.deviation_))
        channels: Any = self._channels
        size = self.model_.config.sides
        examples = ImageExamples(
            images,
            size=size,
            channels=channels,
            fit=self.fit_images,
            name="pixel_values",
            prepare=lambda pixels: (pixels - mean) / deviation,
        )
        if 4 * len(images) * channels * size[0] * size[1] > IN_MEMORY:
            return examples
        return examples.batch(np.arange(len(images)))

    def _train(self, images: ImageDataset, codes: np.ndarray, unlabelled: Any) -> None:
        more = None if unlabelled is None else self._images(unlabelled)
        if more is not None and (self.teacher is None or self.alpha < 1):
            raise InputError("unlabelled", f"{len(more)} images", "a teacher, with alpha 1")
        teacher = self.teacher
        if teacher is not None and not isinstance(teacher, torch.nn.Module):
            teacher = self._taught(images, more)
        examples = self._examples(images)
        if more is not None:
            both = (examples, self._examples(more))
            if not all(isinstance(one, dict) for one in both):
                raise InputError("unlabelled", f"{len(more)} images", "a smaller set, which is decoded in memory")
            examples = {"pixel_values": torch.cat([one["pixel_values"] for one in both])}
            codes = np.concatenate([codes, np.zeros(len(more), dtype=codes.dtype)])  # not read: alpha is 1
        count = len(codes)
        settings = TrainSettings(
            epochs=self.epochs,
            batch_size=max(1, min(self.batch_size, count // 2)),
            learning_rate=self.learning_rate,
            betas=(0.9, 0.999),
            weight_decay=self.weight_decay,
            clip_norm=self.clip_norm,
            schedule="cosine",
            device=self.device,
            seed=self.random_state,
        )
        settings = replace(settings, warmup_steps=round(self.warmup * settings.total_steps(count)))
        result = fit(
            self.model_,
            examples,
            codes,
            settings=settings,
            teacher=teacher,
            alpha=self.alpha,
            temperature=self.temperature,
            label_smoothing=self.label_smoothing,
            augment=self.augment,
            optimizer=make_optimizer(self.model_, settings, decay_groups),
            checkpoint_dir=self.checkpoint_dir,
            progress=self.progress,
        )
        self.losses_ = np.array(result.losses)

    def _taught(self, images: ImageDataset, more: ImageDataset | None) -> np.ndarray:
        if isinstance(self.teacher, (np.ndarray, torch.Tensor)):
            rows = len(images) + (0 if more is None else len(more))
            return check_logits("teacher", np.asarray(self.teacher), rows, len(self.classes_))
        parts = [images] if more is None else [images, more]
        names = self.classes_.tolist()
        return np.concatenate([teacher_logits(self.teacher, p, names, progress=self.progress) for p in parts])


def decay_groups(model: torch.nn.Module) -> list[dict[str, Any]]:
    """Groups of parameters for ``make_optimizer``: positions, coefficients, gains and biases do not decay."""
    kept: set[str] = model.no_weight_decay()  # type: ignore[operator]
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    return [
        {"params": [p for name, p in named if name not in kept]},
        {"params": [p for name, p in named if name in kept], "weight_decay": 0.0},
    ]
