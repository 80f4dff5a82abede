"""A classifier of images of any size on a frozen vision tower, as a scikit-learn estimator."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted
from torch import nn

from paperworks.errors import InputError
from paperworks.inputs.images import ImageDataset, read_images
from paperworks.nn import evaluation_mode, resolve_device
from paperworks.papers.hires_llava.batches import as_tensors, mean_tokens, tokens_of_batch
from paperworks.papers.hires_llava.encoder import HiResVisionEncoder
from paperworks.papers.hires_llava.features import Prepared
from paperworks.papers.hires_llava.pixels import stored_rgb
from paperworks.papers.hires_llava.samplers import SamplerName
from paperworks.parameters import check_number, check_seed, check_whole
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import new_folder
from paperworks.training import Batch, Rows, TrainSettings, cross_entropy_loss, train


class HiResClassifier(ClassifierMixin, BaseEstimator):
    """Tells classes of images of any size apart: slices, adapter, sampler, mean of the tokens, linear head.

    The tower stays frozen; adapter, sampler and head are trained.

    Parameters
    ----------
    vision : folder or module of a vision tower; see ``load_tower``.
    sra_layers, local_kernel, path, sampler, window, max_slices, global_view : see ``HiResVisionEncoder``.
    steps, batch_size, learning_rate, weight_decay : of the training, AdamW with a cosine schedule.
    device : "auto", or a device of PyTorch.
    random_state : seed of the weights and of the order of the images.

    Attributes
    ----------
    classes_ : the labels, sorted.
    encoder_ : the encoder with its adapters.
    head_ : LayerNorm and linear layer.
    losses_ : mean loss of each step.
    notes_ : what was converted when images were read.

    Examples
    --------
    >>> HiResClassifier("clip-folder").fit("scans/")                                 # doctest: +SKIP
    >>> HiResClassifier(tower, steps=300).fit(images, labels).predict(other_images)  # doctest: +SKIP
    """

    def __init__(
        self,
        vision: Any = None,
        *,
        sra_layers: Any = "even",
        local_kernel: int = 3,
        path: Literal["both", "local", "global"] = "both",
        sampler: SamplerName | None = "self-mining",
        window: int = 2,
        max_slices: int = 4,
        global_view: bool = True,
        steps: int = 200,
        batch_size: int = 16,
        learning_rate: float = 3e-3,
        weight_decay: float = 0.01,
        device: str = "cpu",
        random_state: int = 0,
    ) -> None:
        self.vision = vision
        self.sra_layers = sra_layers
        self.local_kernel = local_kernel
        self.path = path
        self.sampler = sampler
        self.window = window
        self.max_slices = max_slices
        self.global_view = global_view
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.device = device
        self.random_state = random_state

    def fit(
        self, X: Any, y: Any = None, *, checkpoint_dir: Path | None = None, progress: Progress = no_progress
    ) -> HiResClassifier:
        """Train.

        Parameters
        ----------
        X : images (PIL, arrays, paths) of any sizes; or a folder with a folder per class, or what else ``read_images``
            takes with labels.
        y : a label of any kind for each image; None where ``X`` has them.

        Raises
        ------
        InputError : no vision tower, images that cannot be read, fewer than two classes, labels of another number.
        """
        seed = check_seed("random_state", self.random_state)
        for name in ("steps", "batch_size"):
            check_whole(name, getattr(self, name), 1)
        for name in ("learning_rate", "weight_decay"):
            check_number(name, getattr(self, name))
        if self.vision is None:
            raise InputError("vision", None, "the folder of a vision tower, or a module")
        images, labels = _images_and_labels(X, y)
        self.classes_, codes = np.unique(np.asarray(labels), return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError("y", f"one class ({self.classes_[0]!r})", "labels of at least two classes")
        self.encoder_ = self._encoder(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            width = self.encoder_.tower.width
            self.head_ = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, len(self.classes_)))
        model = _TokenClassifier(self.encoder_, self.head_)
        prepared = _Prepared(self.encoder_, images)
        self.notes_ = prepared.look(progress)

        def batch(examples: list[Any]) -> Batch:
            rows = [int(example["row"]) for example in examples]
            return {**prepared.tensors(rows), "labels": torch.as_tensor(codes[rows])}

        result = train(
            model,
            Rows([{"row": row} for row in range(len(images))], collate=batch),
            TrainSettings(
                steps=self.steps,
                batch_size=min(self.batch_size, len(images)),
                learning_rate=self.learning_rate,
                weight_decay=self.weight_decay,
                schedule="cosine",
                device=self.device,
                seed=seed,
            ),
            loss=cross_entropy_loss(),
            checkpoint_dir=checkpoint_dir,
            progress=progress,
        )
        self.losses_ = np.array(result.losses)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of ``classes_`` for images, or for a folder of images: float64 ``[n, C]``."""
        check_is_fitted(self)
        images = _images_of(X)
        model, place = _TokenClassifier(self.encoder_, self.head_), resolve_device(self.device)
        model.to(place)
        prepared, found = _Prepared(self.encoder_, images), []
        with torch.no_grad(), evaluation_mode(model):
            for start in range(0, len(images), self.batch_size):
                batch = prepared.tensors(range(start, min(start + self.batch_size, len(images))))
                logits = model(**{name: value.to(place) for name, value in batch.items()})
                found.append(torch.softmax(logits.double(), 1).cpu().numpy())
        return np.concatenate(found)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each image ``[n]``."""
        best = self.predict_proba(X).argmax(1)
        return self.classes_[best]

    def save(self, folder: str | Path) -> Path:
        """Write the classifier to a new folder: encoder, head, classes, options. Labels must be texts or numbers."""
        from safetensors.torch import save_file

        check_is_fitted(self)
        with new_folder(Path(folder)) as out:
            self.encoder_.save_pretrained(out / "encoder")
            save_file(
                {name: value.cpu().contiguous() for name, value in self.head_.state_dict().items()},
                out / "head.safetensors",
            )
            options = {name: value for name, value in self.get_params().items() if name not in ("vision", "sra_layers")}
            content = {"classes": self.classes_.tolist(), "options": options}
            (out / "classifier.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path, vision: Any = None) -> HiResClassifier:
        """Read back what ``save`` wrote. Raises InputError for a folder of something else."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = Path(folder).expanduser()
        try:
            content = json.loads((path / "classifier.json").read_text(encoding="utf-8"))
            state = load_file(path / "head.safetensors")
            classes, options = np.array(content["classes"]), dict(content["options"])
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise InputError("folder", f"{path} ({error})", "what HiResClassifier.save wrote") from None
        found = cls(vision, **options)
        found.encoder_ = HiResVisionEncoder.from_pretrained(path / "encoder", vision)
        found.vision, found.sra_layers = found.encoder_.tower, list(found.encoder_.sra_layers)
        found.classes_ = classes
        width = found.encoder_.tower.width
        found.head_ = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, len(classes)))
        found.head_.load_state_dict(state)
        return found

    def _encoder(self, seed: int) -> HiResVisionEncoder:
        return HiResVisionEncoder(
            self.vision,
            sra_layers=self.sra_layers,
            local_kernel=self.local_kernel,
            path=self.path,
            sampler=self.sampler,
            window=self.window,
            max_slices=self.max_slices,
            global_view=self.global_view,
            seed=seed,
        )


class _TokenClassifier(nn.Module):
    def __init__(self, encoder: HiResVisionEncoder, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, **batch: torch.Tensor) -> torch.Tensor:
        return self.head(mean_tokens(tokens_of_batch(self.encoder, batch)))


class _Prepared:
    """Images that are read and cut when they are asked for."""

    def __init__(self, encoder: HiResVisionEncoder, images: Sequence[Any]) -> None:
        self.encoder, self.images = encoder, images

    def look(self, progress: Progress) -> list[str]:
        """Read every image once, so that a broken one is named before the training; notes on what is converted."""
        counts: dict[str, int] = {}
        for image in progress(self.images, "looking at the images", len(self.images)):
            for note in self.encoder.prepare([image]).notes:
                said = note.partition(" converted ")[2]
                counts[said] = counts.get(said, 0) + 1
        return [f"{count:,} image{'s' * (count != 1)} converted {said}" for said, count in counts.items()]

    def tensors(self, rows: Sequence[int]) -> dict[str, torch.Tensor]:
        part: Prepared = self.encoder.prepare([self.images[row] for row in rows])
        return as_tensors(part)


def _images_of(X: Any) -> Sequence[Any]:
    if isinstance(X, (str, Path)):
        X = read_images(X)
    images = [stored_rgb(X, row) for row in range(len(X))] if isinstance(X, ImageDataset) else list(X)
    if not images:
        raise InputError("X", "no images", "at least one image")
    return images


def _images_and_labels(X: Any, y: Any) -> tuple[Sequence[Any], Any]:
    if isinstance(X, (str, Path)):
        X = read_images(X)
    if isinstance(X, ImageDataset) and y is None:
        names = np.array(X.class_names)
        return _images_of(X), names[X.require_labels()]
    images = _images_of(X)
    if y is None:
        raise InputError("y", "none", "a label for each image, or a folder with a folder per class")
    if len(y) != len(images):
        raise InputError("y", f"{len(y)} labels", f"{len(images)}, one per image")
    return images, y
