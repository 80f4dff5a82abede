"""Frame filters: which pictures show the domain. An ensemble accepts what any of its members accepts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from PIL import Image

from paperworks.errors import InputError, nearest
from paperworks.inputs.images import as_batch, decode_image

ACCEPTED = 0.5
"""A picture is accepted from this probability on."""
INPUT_SIDE = 384
FEATURES_SIDE = 64


class FrameFilter(Protocol):
    """Gives each picture its probability of showing the domain. ``identity`` tells filters apart."""

    identity: str

    def __call__(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """Probabilities float ``[n]`` of pictures in RGB."""
        ...


class CallableFilter:
    """A function from a list of pictures to probabilities, as a filter.

    ``identity`` : what its results are kept under. None takes the function's name, code and values that it holds, so
    that another lambda of the same place is another filter.
    """

    def __init__(self, function: Callable[[list[Image.Image]], Any], identity: str | None = None) -> None:
        self.function = function
        self.identity = identity or f"function {_digest_of(function)}"

    def __call__(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        found = np.asarray(self.function(list(pictures)), np.float64)
        if found.shape != (len(pictures),) or not ((found >= 0) & (found <= 1)).all():
            raise InputError("filter", f"{found.dtype} {found.shape}", f"{len(pictures)} probabilities")
        return found


def _digest_of(function: Any) -> str:
    """Name and a digest of a function; an object held in it counts as another one in each process."""
    code = getattr(function, "__code__", None)
    held = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
    held += [getattr(function, "__defaults__", None), getattr(function, "__kwdefaults__", None)]
    values = held if code else [function]
    parts = [getattr(function, "__module__", ""), *_words_of(code)]
    parts += [value.tobytes().hex() if isinstance(value, np.ndarray) else repr(value) for value in values]
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    return f"{getattr(function, '__qualname__', type(function).__name__)} {digest}"


def _words_of(code: Any) -> list[str]:
    """What a code object does, without its place: the repr of one inside another has an address."""
    if code is None:
        return []
    found = [code.co_code.hex(), repr(code.co_names)]
    for value in code.co_consts:
        found += _words_of(value) if hasattr(value, "co_code") else [repr(value)]
    return found


class PlainFilter:
    """Without examples: accepts what is neither blank nor a slide of text.

    Both have one colour almost everywhere. The probability grows with the share of pixels that are not of the most
    frequent colour (in steps of 32), and is 0.5 where that share is ``content``.
    """

    def __init__(self, content: float = 0.3) -> None:
        self.content = content
        self.identity = f"plain {content}"

    def __call__(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        return np.array([min(1.0, self._share(picture) / (2 * self.content)) for picture in pictures])

    @staticmethod
    def _share(picture: Image.Image) -> float:
        pixels = np.asarray(picture.convert("RGB").resize((128, 128), Image.Resampling.BOX), np.int16)
        coarse = (pixels + 16) // 32
        codes = (coarse[..., 0] * 9 + coarse[..., 1]) * 9 + coarse[..., 2]
        mode = int(np.bincount(codes.reshape(-1)).argmax())
        colour = np.array([mode // 81, mode // 9 % 9, mode % 9]) * 32
        return float((np.abs(pixels - colour).max(2) > 32).mean())


class ColorTextureFilter:
    """A logistic regression on colours and gradients, fitted on examples of both kinds.

    Features: histograms of hue (weighted by saturation), saturation and brightness; mean, spread and directions of the
    gradients.
    """

    def __init__(self, C: float = 1.0) -> None:
        self.C = C
        self.identity = "colour and texture, not fitted"

    def fit(self, positive: Sequence[Any], negative: Sequence[Any]) -> ColorTextureFilter:
        """Fit on pictures (PIL, arrays or paths). Raises InputError with fewer than two of a kind."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        for name, pictures in (("positive", positive), ("negative", negative)):
            if len(pictures) < 2:
                raise InputError(name, f"{len(pictures)} pictures", "2 pictures or more")
        rows = np.stack([texture_features(as_picture(p)) for p in [*positive, *negative]])
        labels = np.repeat([1, 0], [len(positive), len(negative)])
        model = make_pipeline(StandardScaler(), LogisticRegression(C=self.C, max_iter=1000, class_weight="balanced"))
        self._model = model.fit(rows, labels)
        digest = hashlib.sha256(np.round(rows, 6).tobytes() + labels.tobytes()).hexdigest()[:16]
        self.identity = f"colour and texture {self.C} {digest}"
        return self

    def __call__(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        if not hasattr(self, "_model"):
            raise InputError("filter", "one that is not fitted", "fit(positive, negative)")
        if not pictures:
            return np.zeros(0)
        return self._model.predict_proba(np.stack([texture_features(p) for p in pictures]))[:, 1]


class ClassifierFilter:
    """An image classifier of transformers: the probability of its classes that show the domain, together.

    Parameters
    ----------
    folder : of the classifier.
    labels : names of the classes that show the domain.
    crop : the released preprocessing: resize to 384 x 384, normalise, centre crop to this side (300 for ConvNeXt, 224
        for ViT), resize back to 384. None takes the folder's own processor.
    """

    def __init__(self, folder: Path, labels: Sequence[str], *, crop: int | None = None, device: str = "auto") -> None:
        from paperworks.classification import load_classifier
        from paperworks.nn import resolve_device

        self._found = load_classifier(folder)
        if self._found.kind != "image":
            raise InputError("filter_models", f"{folder}, a text model", "an image classifier")
        names = self._found.class_names
        unknown = [label for label in labels if label not in names]
        if unknown or not labels:
            found = repr(unknown[0]) if unknown else "none"
            hint = nearest(unknown[0], names) if unknown else ""
            raise InputError("positive_labels", found, f"classes of {folder.name}: {', '.join(names[:10])}{hint}")
        self._places = [names.index(label) for label in labels]
        self._crop, self._device = crop, resolve_device(device)
        self.identity = f"classifier {folder.resolve()} {sorted(labels)} {crop}"

    def __call__(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        import torch

        if not pictures:
            return np.zeros(0)
        batch = [picture.convert("RGB") for picture in pictures]
        if self._crop is None:
            pixels = self._found.processor(images=batch, return_tensors="pt")["pixel_values"]
        else:
            pixels = torch.from_numpy(np.stack([released_preprocessing(p, self._crop) for p in batch]))
        model: Any = self._found.model
        model.to(self._device)
        with torch.inference_mode():
            chances = model(pixel_values=pixels.to(self._device, model.dtype)).logits.float().softmax(1)
        return chances[:, self._places].sum(1).double().cpu().numpy()


class PromptFilter:
    """A model of the CLIP kind: the probability of the prompts that describe the domain against the others."""

    def __init__(self, folder: Path, positive: Sequence[str], negative: Sequence[str], *, device: str = "auto") -> None:
        from transformers import AutoModel, AutoProcessor

        from paperworks.nn import resolve_device
        from paperworks.nn.loading import load_beside, load_strict

        for name, prompts in (("positive_labels", positive), ("negative_labels", negative)):
            if not prompts:
                raise InputError(name, "no prompts", "a prompt or more, such as 'a histopathology slide'")
        self._device = resolve_device(device)
        self._model = load_strict(AutoModel, folder).to(self._device)
        if not hasattr(self._model, "get_image_features"):
            raise InputError("filter_models", f"{folder}, a {type(self._model).__name__}", "a model of the CLIP kind")
        self._processor = load_beside(AutoProcessor, folder, "filter_models", "a folder with a processor")
        self._prompts, self._count = [*positive, *negative], len(positive)
        self.identity = f"prompts {folder.resolve()} {positive} {negative}"

    def __call__(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        import torch

        if not pictures:
            return np.zeros(0)
        from paperworks.papers.quilt1m.encoders import LONGEST_TEXT, tokenized

        batch = [picture.convert("RGB") for picture in pictures]
        inputs = tokenized(self._processor.tokenizer, self._prompts, LONGEST_TEXT, self._model.config)
        inputs |= dict(self._processor.image_processor(images=batch, return_tensors="pt"))
        with torch.inference_mode():
            logits = self._model(**{k: v.to(self._device) for k, v in inputs.items()}).logits_per_image
        return logits.float().softmax(1)[:, : self._count].sum(1).double().cpu().numpy()


class EnsembleFilter:
    """Filters in their order. ``any`` stops at the first that accepts a picture; ``majority`` asks all.

    The probability is that of the filter that accepted it, or the highest (any); the median one (majority).
    """

    def __init__(self, filters: Sequence[FrameFilter], vote: Literal["any", "majority"] = "any") -> None:
        if not filters:
            raise InputError("filters", "none", "one filter or more")
        self.filters, self.vote = list(filters), vote
        self.identity = f"{vote} of " + "; ".join(one.identity for one in filters)

    def __call__(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        if self.vote == "majority":
            votes = np.sort(np.stack([np.asarray(one(pictures)) for one in self.filters]), axis=0)
            # of an even number, more than half must accept
            return votes[(len(votes) - 1) // 2]
        best = np.zeros(len(pictures))
        left = np.arange(len(pictures))
        for one in self.filters:
            if not len(left):
                break
            best[left] = np.maximum(best[left], one([pictures[int(i)] for i in left]))
            left = left[best[left] < ACCEPTED]
        return best


def released_preprocessing(picture: Image.Image, crop: int) -> np.ndarray:
    """Float32 ``[3, 384, 384]``: resized, normalised as for ImageNet, cropped to the centre, resized back."""
    side = INPUT_SIDE
    pixels = np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR), np.float32) / 255
    pixels = (pixels - np.array([0.485, 0.456, 0.406], np.float32)) / np.array([0.229, 0.224, 0.225], np.float32)
    edge = (side - crop) // 2
    middle = pixels[edge : edge + crop, edge : edge + crop]
    channels = [
        np.asarray(Image.fromarray(middle[..., c]).resize((side, side), Image.Resampling.BILINEAR)) for c in range(3)
    ]
    return np.stack(channels)


def texture_features(picture: Image.Image) -> np.ndarray:
    """29 numbers: hue (8), saturation (4), brightness (8), gradients (1 + 1 + 4), colour means (3)."""
    small = picture.convert("RGB").resize((FEATURES_SIDE, FEATURES_SIDE), Image.Resampling.BILINEAR)
    hsv = np.asarray(small.convert("HSV"), np.float64) / 255
    hue = np.histogram(hsv[..., 0], 8, (0, 1), weights=hsv[..., 1])[0]
    saturation = np.histogram(hsv[..., 1], 4, (0, 1))[0]
    value = np.histogram(hsv[..., 2], 8, (0, 1))[0]
    down, right = np.gradient(np.asarray(small.convert("L"), np.float64) / 255)
    strength = np.hypot(down, right)
    directions = np.histogram(np.arctan2(down, right) % np.pi, 4, (0, np.pi), weights=strength)[0]
    count = FEATURES_SIDE**2
    means = np.asarray(small, np.float64).mean((0, 1)) / 255
    gradients = [strength.mean(), strength.std(), *(directions / (strength.sum() + 1e-9))]
    return np.concatenate([hue / count, saturation / count, value / count, gradients, means])


def as_picture(item: Any) -> Image.Image:
    """A picture in RGB from PIL, uint8 ``[h, w, 3]`` or a path: upright, 16 bits as 8, alpha over white.

    Raises InputError for a file that is no image.
    """
    if isinstance(item, (str, Path)):
        try:
            pixels = as_batch([decode_image(Path(item)).pixels], channels=3, dtype="uint8")[0]
        except OSError as error:
            raise InputError(str(item), f"no readable image ({error})", "an image file") from None
        except InputError as error:
            raise InputError(str(item), error.found, "an image with 8 or 16 bits a channel") from None
        return Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    return item.convert("RGB") if isinstance(item, Image.Image) else Image.fromarray(np.asarray(item)).convert("RGB")
