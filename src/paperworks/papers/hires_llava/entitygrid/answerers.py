"""Who answers the questions: the record itself, templates, chance, and models behind one signature.

Every answerer is a function ``answer(image, question, choices) -> text`` for ``evaluate``.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from paperworks.errors import InputError
from paperworks.language.generation import GenerationSettings, Generator, image_message
from paperworks.papers.hires_llava.entitygrid.entities import EntitySet
from paperworks.papers.hires_llava.entitygrid.evaluation import AnswerFunction
from paperworks.papers.hires_llava.entitygrid.generation import EntityDataset, prompt_of
from paperworks.papers.hires_llava.entitygrid.positions import NAMES, POSITIONS, center_of
from paperworks.parameters import check_seed

FOUND = 0.98
"""Normalised cross-correlation from which on an object counts as found."""
MOST_WINDOW_VALUES = 5_000_000
"""Windows of an image are laid out in memory up to so many values; beyond, Fourier transforms are used."""


class OracleAnswerer:
    """Answers from the records: it checks the way from record to score, and must be right everywhere."""

    def __init__(self, dataset: EntityDataset) -> None:
        digests = {name: _digest(pixels) for name, pixels in dataset.images.items()}
        self._answers = {(digests[r.image], r.question): r.answer for r in dataset.records}

    def __call__(self, image: Any, question: str, choices: Sequence[str]) -> str:
        return self._answers[_digest(np.asarray(image)), question]


class RandomAnswerer:
    """Takes any choice; right in one of ``len(choices)`` cases. Seed, image and question decide which."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = check_seed("seed", seed)

    def __call__(self, image: Any, question: str, choices: Sequence[str]) -> str:
        key = int(hashlib.sha256(f"{_digest(np.asarray(image))} {question}".encode()).hexdigest()[:12], 16)
        return str(choices[int(np.random.default_rng([self.seed, key]).integers(len(choices)))])


class TemplateAnswerer:
    """Looks for the benchmark's own objects by normalised cross-correlation.

    With ``scope="image"`` it sees the whole canvas. With "slice" it sees one slice at a time, as a sliced encoder does
    without any exchange: it finds what lies whole in a slice, and nothing that a cut runs through.

    Parameters
    ----------
    entities : the objects that may be on the image (``EntityGrid.test``).
    entity_side : pixels of an object's longer side on the canvas.
    scope : "image" or "slice".
    """

    def __init__(
        self, entities: EntitySet, entity_side: int, scope: Literal["image", "slice"] = "image", slices: int = 2
    ) -> None:
        if scope not in ("image", "slice"):
            raise InputError("scope", repr(scope), "image or slice")
        self.entities, self.scope, self.slices = entities, scope, slices
        by_shape: dict[tuple[int, int], tuple[list[np.ndarray], list[int]]] = {}
        for row, label in enumerate(entities.labels.tolist()):
            template = self._flattened(entities.fitted(row, entity_side))
            images, labels = by_shape.setdefault((template.shape[0], template.shape[1]), ([], []))
            images.append(template)
            labels.append(label)
        self._templates = {shape: (np.stack(images), labels) for shape, (images, labels) in by_shape.items()}
        self._seen: tuple[str, list[tuple[float, float, float, int]]] = ("", [])

    def __call__(self, image: Any, question: str, choices: Sequence[str]) -> str:
        pixels = np.asarray(image.convert("RGB")).astype(np.float64)
        if self._seen[0] != (key := _digest(pixels)):
            self._seen = key, self._find(pixels)
        found, names = self._seen[1], self.entities.names
        if set(choices) == set(NAMES):
            wanted = next((c for c, name in enumerate(names) if _asks_for(question, name)), -1)
            matches = [f for f in found if f[3] == wanted]
            return self._place(max(matches), pixels.shape[0]) if matches else "nowhere"
        if all(choice.isdecimal() for choice in choices):
            wanted = next((c for c, name in enumerate(names) if _asks_for(question, name)), -1)
            return str(sum(score >= FOUND and label == wanted for score, _, _, label in found))
        best = [(score, names[label]) for score, _, _, label in found if names[label] in choices and score >= FOUND]
        return max(best)[1] if best else "nothing"

    def _flattened(self, image: np.ndarray) -> np.ndarray:
        if image.shape[2] == 3:
            return image.astype(np.float64)
        alpha = image[:, :, 3:].astype(np.float64) / 255
        return np.rint(image[:, :, :3] * alpha + self.entities.background * (1 - alpha))

    def _find(self, pixels: np.ndarray) -> list[tuple[float, float, float, int]]:
        """Objects found: (score, x and y of the center, category), one for each place."""
        count = 1 if self.scope == "image" else self.slices
        side = pixels.shape[0] // count
        hits = list[tuple[float, float, float, int]]()
        for row in range(count):
            for column in range(count):
                part = pixels[row * side : (row + 1) * side, column * side : (column + 1) * side]
                for (height, width), (templates, labels) in self._templates.items():
                    scores = normalised_correlations(part, templates)
                    for number, y, x in zip(*np.nonzero(scores >= FOUND), strict=True):
                        center = (column * side + x + width / 2, row * side + y + height / 2)
                        hits.append((float(scores[number, y, x]), *center, labels[number]))
        # neighbouring places of one object, and like objects, answer as well: the best of each place stays
        kept = list[tuple[float, float, float, int]]()
        for hit in sorted(hits, reverse=True):
            if all(abs(hit[1] - k[1]) + abs(hit[2] - k[2]) > side / 8 / (3 - count) for k in kept):
                kept.append(hit)
        return kept

    def _place(self, hit: tuple[float, float, float, int], canvas: int) -> str:
        def distance(position: int) -> float:
            x, y = center_of(position, canvas // 2)
            return (x - hit[1]) ** 2 + (y - hit[2]) ** 2

        return NAMES[min(POSITIONS, key=distance) - 1]


def normalised_correlations(image: np.ndarray, templates: np.ndarray) -> np.ndarray:
    """Normalised cross-correlation at every place where a template lies whole in the image, in [-1, 1].

    ``image`` ``[H, W, c]`` and ``templates`` ``[t, h, w, c]`` have the same channels; the mean is taken over all of
    them. Returns ``[t, H - h + 1, W - w + 1]``. Places without contrast get 0.
    """
    from scipy.signal import correlate

    count, h, w, channels = templates.shape
    rows, columns = image.shape[0] - h + 1, image.shape[1] - w + 1
    if rows < 1 or columns < 1:
        return np.zeros((count, 0, 0))
    centred = templates - templates.mean((1, 2, 3), keepdims=True)
    # the image's own mean is taken off first, so that sums of squares stay exact enough
    shifted = image - image.mean()
    if rows * columns * h * w * channels <= MOST_WINDOW_VALUES:
        windows = np.lib.stride_tricks.sliding_window_view(shifted, (h, w), (0, 1))  # [rows, columns, c, h, w]
        flat = windows.transpose(0, 1, 3, 4, 2).reshape(rows * columns, -1)
        cross = (flat @ centred.reshape(count, -1).T).T.reshape(count, rows, columns)
    else:
        cross = np.stack(
            [
                sum(correlate(shifted[:, :, c], one[:, :, c], mode="valid", method="fft") for c in range(channels))
                for one in centred
            ]
        )
    total, squares = _box_sums(shifted.sum(2), h, w), _box_sums((shifted**2).sum(2), h, w)
    variance = np.maximum(squares - total**2 / (h * w * channels), 0)
    norm = np.sqrt(variance[None] * (centred**2).sum((1, 2, 3))[:, None, None])
    return np.where(norm > 1e-6 * max(1.0, float(norm.max(initial=0))), cross / np.where(norm > 0, norm, 1), 0.0)


def pipeline_answerer(pipeline: Any) -> AnswerFunction:
    """A pipeline of transformers, "image-text-to-text" or "visual-question-answering", as an answerer."""

    def answer(image: Any, question: str, choices: Sequence[str]) -> str:
        prompt = prompt_of(question, choices)
        if getattr(pipeline, "task", "") in ("visual-question-answering", "vqa"):
            found = pipeline(image=image, question=prompt)
        else:
            content = [{"type": "image", "image": image}, {"type": "text", "text": prompt}]
            found = pipeline(text=[{"role": "user", "content": content}], return_full_text=False)
        return _text_of(found)

    return answer


def endpoint_answerer(generator: Generator, *, max_new_tokens: int = 32) -> AnswerFunction:
    """A server with OpenAI's API that reads images (``EndpointGenerator``), or any generator, as an answerer."""
    settings = GenerationSettings(max_new_tokens=max_new_tokens)

    def answer(image: Any, question: str, choices: Sequence[str]) -> str:
        out = io.BytesIO()
        image.save(out, format="PNG")
        message = image_message(prompt_of(question, choices), [out.getvalue()])
        return generator.generate([[message]], settings)[0][0]

    return answer


def model_answerer(model: Any) -> AnswerFunction:
    """An object with ``generate(image, prompt) -> text``, such as ``HiResLlava``, as an answerer."""
    generate: Callable[[Any, str], str] = model.generate

    def answer(image: Any, question: str, choices: Sequence[str]) -> str:
        return generate(image, prompt_of(question, choices))

    return answer


def _box_sums(values: np.ndarray, h: int, w: int) -> np.ndarray:
    sums = np.zeros((values.shape[0] + 1, values.shape[1] + 1))
    sums[1:, 1:] = values.cumsum(0).cumsum(1)
    return sums[h:, w:] - sums[:-h, w:] - sums[h:, :-w] + sums[:-h, :-w]


def _asks_for(question: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", question) is not None


def _digest(pixels: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels.astype(np.uint8)).tobytes()).hexdigest()


def _text_of(found: Any) -> str:
    while isinstance(found, (list, tuple)) and found:
        found = found[0]
    if isinstance(found, dict):
        found = next((found[name] for name in ("generated_text", "answer") if name in found), None)
    if isinstance(found, list):  # a chat: the last turn's text
        found = found[-1]["content"] if found else None
    if not isinstance(found, str):
        raise InputError("pipeline", f"an output of type {type(found).__name__}", "generated_text or answer")
    return found
