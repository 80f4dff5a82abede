"""Videos as rows of a training: features at T places, segments in [0, 1], and one of the alternatives of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from paperworks.errors import InputError
from paperworks.papers.sieve_swap.attention import resample
from paperworks.papers.sieve_swap.captioner import encode_texts
from paperworks.papers.sieve_swap.settings import ProcXConfig
from paperworks.papers.sieve_swap.steps_dataset import StepDataset


def check_features(sets: Sequence[tuple[StepDataset, Mapping[str, np.ndarray]]]) -> int:
    """The number of columns of all features.

    Raises
    ------
    InputError : a video without features, without a row of them, of another width, or with values that are not finite.
    """
    width: int | None = None
    for dataset, features in sets:
        for video in dataset:
            if video not in features:
                raise InputError(f"features of {video}", "none", "an array [T, C] for every video of the set")
            found = np.asarray(features[video])
            right = found.ndim == 2 and found.shape[0] >= 1 and found.dtype.kind == "f"
            if not right or (width is not None and found.shape[1] != width):
                raise InputError(
                    f"features of {video}",
                    f"{found.dtype} {found.shape}",
                    f"floats [T, {'C' if width is None else width}]",
                )
            if not np.isfinite(found).all():
                raise InputError(f"features of {video}", "values that are not finite", "finite numbers")
            width = found.shape[1]
    if width is None:
        raise InputError("features", "none", "an array [T, C] for every video")
    return width


class VideoRows(Dataset[dict[str, Any]]):
    """The videos of a set that have steps; segments beyond the number of queries are left out, the shortest first.

    Which of a step's alternatives an epoch shows is drawn from the seed, the epoch and the video.
    """

    def __init__(
        self,
        dataset: StepDataset,
        features: Mapping[str, np.ndarray],
        tokenizer: Any,
        config: ProcXConfig,
        vectors: Mapping[str, np.ndarray] | None,
        *,
        text: Mapping[str, np.ndarray] | None = None,
        seed: int = 0,
    ) -> None:
        self.videos = [video for video in dataset if len(dataset[video])]
        self.seed, self.epoch, self.pad = seed, 0, int(tokenizer.pad_token_id)
        self.rows: list[dict[str, Any]] = []
        for video in self.videos:
            steps = dataset[video]
            times = np.array(steps.timestamps) / steps.duration
            chosen = sorted(np.argsort(times[:, 0] - times[:, 1], kind="stable")[: config.queries])
            row: dict[str, Any] = {
                "features": resample(
                    torch.from_numpy(np.asarray(features[video], np.float32)), config.positions, config.resampling
                ),
                "duration": torch.tensor(steps.duration, dtype=torch.float32),
                "segments": torch.from_numpy(
                    np.stack([times[chosen].mean(1), times[chosen, 1] - times[chosen, 0]], 1).astype(np.float32)
                ),
                "tokens": [encode_texts(tokenizer, steps.sentences[i], config.most_tokens) for i in chosen],
            }
            if vectors is not None:
                row["vectors"] = torch.from_numpy(vectors[video][chosen])
            if config.text_width:
                row["text"] = self._text(video, text, config)
            self.rows.append(row)

    @staticmethod
    def _text(video: str, text: Mapping[str, np.ndarray] | None, config: ProcXConfig) -> torch.Tensor:
        if text is None or video not in text:
            raise InputError(f"text of {video}", "none", f"what is said, [T, {config.text_width}]")
        found = np.asarray(text[video], np.float32)
        if found.ndim != 2 or found.shape[1] != config.text_width:
            raise InputError(f"text of {video}", f"shape {found.shape}", f"[T, {config.text_width}]")
        return resample(torch.from_numpy(found), config.positions)

    def set_epoch(self, epoch: int) -> None:
        """Choose the alternatives of an epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = dict(self.rows[index])
        rng = np.random.default_rng([self.seed, self.epoch, index])
        row["tokens"] = [options[int(rng.integers(len(options)))] for options in row["tokens"]]
        row["pad"] = self.pad
        return row


def collate(rows: list[Any]) -> dict[str, torch.Tensor]:
    """A batch: segments, tokens and vectors padded to the most of its videos; ``counts`` says how many are real."""
    counts = [len(row["segments"]) for row in rows]
    most = max(counts)
    longest = max(len(ids) for row in rows for ids in row["tokens"])
    tokens = torch.full((len(rows), most, longest), rows[0]["pad"], dtype=torch.int64)
    segments = torch.zeros(len(rows), most, 2)
    for number, row in enumerate(rows):
        segments[number, : counts[number]] = row["segments"]
        for place, ids in enumerate(row["tokens"]):
            tokens[number, place, : len(ids)] = torch.tensor(ids)
    batch = {
        "features": torch.stack([row["features"] for row in rows]),
        "duration": torch.stack([row["duration"] for row in rows]),
        "segments": segments,
        "counts": torch.tensor(counts),
        "tokens": tokens,
    }
    if "vectors" in rows[0]:
        vectors = torch.zeros(len(rows), most, rows[0]["vectors"].shape[1])
        for number, row in enumerate(rows):
            vectors[number, : counts[number]] = row["vectors"]
        batch["vectors"] = vectors
    if "text" in rows[0]:
        batch["text"] = torch.stack([row["text"] for row in rows])
    return batch
