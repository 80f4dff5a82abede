"""Dense captions of any system against references: localisation, captions at thresholds of overlap, SODA."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.errors import InputError, nearest
from paperworks.papers.sieve_swap.captions import NONSENSE, SCORERS, Scorer
from paperworks.papers.sieve_swap.segments import THRESHOLDS, localisation, temporal_iou
from paperworks.papers.sieve_swap.steps_dataset import StepDataset, read_json, segment
from paperworks.papers.sieve_swap.story_scores import soda

SODA_KINDS = ("soda_a", "soda_b", "soda_c", "soda_d")
METRICS = ("f1", *SODA_KINDS, *SCORERS)
DEFAULT_METRICS = ("f1", "soda_c", "soda_d", "cider", "meteor_es")
Predictions = Mapping[str, Sequence[Mapping[str, Any]]]
"""Video -> its predictions, each with ``timestamp`` (start, end in seconds) and ``sentence``."""


def read_predictions(source: Any) -> dict[str, list[dict[str, Any]]]:
    """Predictions in ActivityNet's form: ``{"results": {id: [{"sentence", "timestamp"}, ...]}}``.

    Parameters
    ----------
    source : a path, the content of such a file, what stands under ``results``, a YouCook2-style set (its first
        alternatives count), or predictions of ``ProcX``.

    Raises
    ------
    InputError : naming video and prediction, for a form or a time that cannot be.
    """
    content = read_json(source, "predictions") if isinstance(source, str | Path) else source
    if isinstance(content, StepDataset):
        content = content.to_dict()
    if isinstance(content, Mapping) and isinstance(content.get("results"), Mapping):
        content = content["results"]
    if not isinstance(content, Mapping):
        raise InputError("predictions", type(content).__name__, "a mapping from video id to predictions")
    return {str(video): _of_video(str(video), value) for video, value in content.items()}


def _of_video(video: str, value: Any) -> list[dict[str, Any]]:
    where = f"predictions, video {video}"
    if isinstance(value, Mapping) and {"timestamps", "sentences"} <= set(value):
        texts = [one if isinstance(one, str) else (one[0] if one else "") for one in value["sentences"]]
        if len(texts) != len(value["timestamps"]):
            raise InputError(where, "other numbers of timestamps and sentences", "one sentence for each timestamp")
        value = [{"timestamp": t, "sentence": s} for t, s in zip(value["timestamps"], texts, strict=True)]
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InputError(where, type(value).__name__, "a list of predictions")
    out = []
    for number, one in enumerate(value, 1):
        place = f"{where}, number {number}"
        if not isinstance(one, Mapping):
            raise InputError(place, type(one).__name__, "an object with timestamp and sentence")
        times = one.get("timestamp", [one.get("start"), one.get("end")])
        text = one.get("sentence", one.get("text", ""))
        if not isinstance(text, str):
            raise InputError(place, f"a sentence of type {type(text).__name__}", "a text")
        out.append({"timestamp": segment(place, times), "sentence": text})
    return out


def evaluate(
    predictions: Any,
    references: Any,
    metrics: Sequence[str] = DEFAULT_METRICS,
    *,
    scorer: str | Scorer = "meteor_es",
    thresholds: Sequence[float] = THRESHOLDS,
    compat: bool = False,
) -> dict[str, float]:
    """Score dense captions.

    Parameters
    ----------
    predictions : as in ``read_predictions``. Their order does not count.
    references : a YouCook2- or ActivityNet-style set (path, content or ``StepDataset``), or a list of several
        annotations of the same videos. All alternatives of a step are references of captions.
    metrics : of f1, soda_a to soda_d, cider, meteor_es, meteor, token_f1, bleu4, rouge_l.
    scorer : of SODA's captions: a name, or ``scorer(captions, references of each) -> scores``.
    thresholds : of the overlap.
    compat : leave out videos without a prediction, as the published SODA and VidChapters tools do; otherwise they
        count as 0. Localisation counts them as 0 either way, as PDVC does.

    Returns
    -------
    metric -> value; ``f1`` brings recall and precision, SODA its precision and recall.

    Raises
    ------
    InputError : an unknown metric, no reference, or only predictions of videos that have none. Some of these are left
        out with a warning.
    """
    unknown = [name for name in metrics if name not in METRICS]
    if unknown or not metrics:
        name = unknown[0] if unknown else ""
        raise InputError("metrics", repr(name), f"some of {', '.join(METRICS)}{nearest(name, METRICS)}")
    limits = [float(t) for t in thresholds]
    if not limits or any(not 0 <= t < 1 for t in limits):
        raise InputError("thresholds", str(list(thresholds)), "numbers from 0, below 1")
    found = read_predictions(predictions)
    annotations = _references(references)
    videos = list(dict.fromkeys(video for one in annotations for video in one))
    strange = [video for video in found if video not in videos]
    if strange and len(strange) == len(found):
        raise InputError(
            "predictions", f"video {strange[0]!r}, of which there is no reference", "videos of the references"
        )
    if strange:
        warnings.warn(
            f"{len(strange)} videos have predictions and no reference ({strange[0]!r}); they are left out", stacklevel=2
        )
    cases = [
        _Case(video, found.get(video, []), [one[video] for one in annotations if video in one]) for video in videos
    ]
    out: dict[str, float] = {}
    if "f1" in metrics:
        out |= localisation([c.times for c in cases], [[times for times, _ in c.annotations] for c in cases], limits)
    counted = [case for case in cases if len(case.times)] if compat else cases
    for name in metrics:
        if name in SODA_KINDS:
            out |= _soda(counted, name, SCORERS[scorer] if isinstance(scorer, str) else scorer, limits)
        elif name in SCORERS:
            out[name] = _captions(counted, SCORERS[name], limits)
    return out


def _references(source: Any) -> list[StepDataset]:
    listed = source if isinstance(source, list | tuple) else [source]
    found = []
    for one in listed:
        if isinstance(one, StepDataset):
            found.append(one)
        elif isinstance(one, str | Path):
            found.append(StepDataset.read(one, "references"))
        else:
            found.append(StepDataset.of(one, "references"))
    if not any(len(one) for one in found):
        raise InputError("references", "no video", "one video or more")
    return found


class _Case:
    """One video: predictions and annotations in order of their starts."""

    def __init__(self, video: str, predictions: Sequence[Mapping[str, Any]], annotations: Sequence[Any]) -> None:
        ordered = sorted(predictions, key=lambda p: (p["timestamp"][0], p["timestamp"][1], p["sentence"]))
        self.video = video
        self.times = np.array([p["timestamp"] for p in ordered], float).reshape(-1, 2)
        self.texts = [p["sentence"] for p in ordered]
        self.annotations = []
        for steps in annotations:
            order = sorted(range(len(steps)), key=lambda i: steps.timestamps[i])
            times = np.array([steps.timestamps[i] for i in order], float).reshape(-1, 2)
            self.annotations.append((times, [list(steps.sentences[i]) for i in order]))


def _soda(cases: Sequence[_Case], name: str, scorer: Scorer, limits: Sequence[float]) -> dict[str, float]:
    rows = []
    for case in cases:
        best = {"precision": 0.0, "recall": 0.0, "f1": -math.inf}
        for times, texts in case.annotations:
            iou = temporal_iou(case.times, times)
            scores = np.zeros(iou.shape) if name == "soda_d" else _score_matrix(case.texts, texts, scorer, iou)
            one = soda(iou, scores, name[-1], limits)
            best = max(best, one, key=lambda values: values["f1"])
        rows.append(best)
    means = {key: float(np.mean([row[key] for row in rows])) if rows else 0.0 for key in ("precision", "recall", "f1")}
    return {name: means["f1"], f"{name}_precision": means["precision"], f"{name}_recall": means["recall"]}


def _score_matrix(
    captions: Sequence[str], references: Sequence[list[str]], scorer: Scorer, iou: np.ndarray
) -> np.ndarray:
    """Scores of all pairs ``[n, m]``; pairs that do not overlap count 0 anyway and are not scored by slow scorers."""
    places = np.argwhere(np.ones(iou.shape, bool))
    if not len(places):
        return np.zeros(iou.shape)
    values = scorer([captions[i] for i, _ in places], [references[j] for _, j in places])
    return np.asarray(values, float).reshape(iou.shape)


def _captions(cases: Sequence[_Case], scorer: Scorer, limits: Sequence[float]) -> float:
    """Mean over thresholds of the mean over videos of the score of all pairs that overlap (>= the threshold)."""
    means = []
    for limit in limits:
        values = []
        for case in cases:
            captions: list[str] = []
            references: list[list[str]] = []
            overlaps = [temporal_iou(case.times, times) for times, _ in case.annotations]
            for i, text in enumerate(case.texts):
                near = [
                    texts[j]
                    for iou, (_, texts) in zip(overlaps, case.annotations, strict=True)
                    for j in np.flatnonzero(iou[i] >= limit)
                ]
                captions += [text] * max(1, len(near))
                references += near or [[NONSENSE]]
            values.append(float(np.mean(scorer(captions, references))) if captions else 0.0)
        means.append(float(np.mean(values)) if values else 0.0)
    return float(np.mean(means))
