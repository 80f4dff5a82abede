"""Features of videos: one decode pass per file, by the embedded extractor or an image encoder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from paperworks.errors import InputError
from paperworks.inputs.kinds import whole_array
from paperworks.papers.sieve_swap.steps_dataset import StepDataset, read_json
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import new_file, write_text

WIDTH = 256
"""Columns of the embedded features."""
SIDE = 64
"""Side in pixels of the pictures that they are computed from."""
GRID = 8
HUES, SATURATIONS, VALUES = 8, 4, 4
CELLS, DIRECTIONS = 4, 8
PROJECTION_SEED = 20231127
TOLERANCE = 0.05
"""Share by which the duration of features may differ from that of the steps."""
BATCH = 32
Extractor = Callable[[np.ndarray], np.ndarray]
"""``extractor(pictures uint8 [n, h, w, 3]) -> [n, C]``."""


@dataclass(frozen=True)
class VideoFeatures:
    """Features of a video: ``values`` float32 ``[T', C]``, ``duration`` in seconds, ``fps`` rows a second."""

    values: np.ndarray
    duration: float
    fps: float
    extractor: str


class LayoutExtractor:
    """The embedded extractor: deterministic, without weights.

    Of every picture: an 8 x 8 layout of mean colours, a histogram of hue, saturation and value, histograms of gradient
    directions in 4 x 4 cells, and the change of the layout since the picture before. A fixed random projection (its
    seed is stored with the features) makes 256 columns of it.
    """

    name = "layout"

    def __init__(self, width: int = WIDTH, seed: int = PROJECTION_SEED) -> None:
        check_seed("seed", seed)
        size = 2 * GRID * GRID * 3 + HUES * SATURATIONS * VALUES + CELLS * CELLS * DIRECTIONS
        self.seed = seed
        self._projection = np.random.default_rng(seed).normal(size=(size, width)).astype(np.float32) / size**0.5
        self._before: np.ndarray | None = None

    def reset(self) -> None:
        """Forget the picture before: a new video begins."""
        self._before = None

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """uint8 ``[n, h, w, 3]`` to float32 ``[n, 256]``; the pictures follow those of the call before."""
        rows = []
        for picture in pictures:
            small = picture.astype(np.float32) / 255
            layout = _blocks(small, GRID).reshape(-1)
            change = layout - (layout if self._before is None else self._before)
            self._before = layout
            rows.append(np.concatenate([layout - 0.5, change, _colours(small), _gradients(small)]))
        return np.array(rows, np.float32) @ self._projection


def _blocks(picture: np.ndarray, grid: int) -> np.ndarray:
    """Means of a grid of blocks: ``[grid, grid, 3]``."""
    rows = np.linspace(0, picture.shape[0], grid + 1).astype(int)
    columns = np.linspace(0, picture.shape[1], grid + 1).astype(int)
    lines = np.add.reduceat(picture, rows[:-1], 0) / np.diff(rows)[:, None, None]
    return np.add.reduceat(lines, columns[:-1], 1) / np.diff(columns)[None, :, None]


def _colours(picture: np.ndarray) -> np.ndarray:
    """Shares of pixels by hue, saturation and value."""
    high, low = picture.max(2), picture.min(2)
    spread = high - low
    safe = np.where(spread > 0, spread, 1)
    red, green, blue = np.moveaxis(picture, 2, 0)
    hue = np.where(
        high == red,
        (green - blue) / safe % 6,
        np.where(high == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    saturation = np.where(high > 0, spread / np.where(high > 0, high, 1), 0)
    bins = [
        np.minimum((hue / 6 * HUES).astype(int), HUES - 1),
        np.minimum((saturation * SATURATIONS).astype(int), SATURATIONS - 1),
        np.minimum((high * VALUES).astype(int), VALUES - 1),
    ]
    at = (bins[0] * SATURATIONS + bins[1]) * VALUES + bins[2]
    return np.bincount(at.ravel(), minlength=HUES * SATURATIONS * VALUES) / at.size


def _gradients(picture: np.ndarray) -> np.ndarray:
    """Of each cell, the sum of gradients by direction, divided by the norm of all."""
    grey = picture.mean(2)
    down, right = np.gradient(grey)
    size = np.hypot(down, right)
    direction = np.minimum(((np.arctan2(down, right) + np.pi) / (2 * np.pi) * DIRECTIONS).astype(int), DIRECTIONS - 1)
    row = np.minimum(np.arange(grey.shape[0]) * CELLS // grey.shape[0], CELLS - 1)
    column = np.minimum(np.arange(grey.shape[1]) * CELLS // grey.shape[1], CELLS - 1)
    at = (row[:, None] * CELLS + column[None]) * DIRECTIONS + direction
    sums = np.bincount(at.ravel(), size.ravel(), CELLS * CELLS * DIRECTIONS)
    return sums / max(float(np.linalg.norm(sums)), 1e-6)


def make_extractor(source: Any, device: str = "auto") -> tuple[Extractor, str]:
    """An extractor and its name: "layout", the folder of an image encoder (CLIP, SigLIP, ViT, ...), or a function."""
    if source in (None, "layout"):
        found = LayoutExtractor()
        return found, f"{found.name}-{found.seed}"
    if isinstance(source, str | Path):
        from paperworks.embedding import load_image_encoder

        encoder = load_image_encoder(source, device=device)
        return lambda pictures: encoder.encode(list(pictures)), str(Path(source).name)
    if callable(source):
        return source, str(getattr(source, "__name__", type(source).__name__))
    raise InputError("extractor", repr(source), "layout, a folder of an image encoder, or a function")


def extract_video(
    path: str | Path, extractor: Any = "layout", *, fps: float = 1.0, device: str = "auto"
) -> VideoFeatures:
    """Features of a video file in one decode pass; memory holds a few pictures.

    Raises
    ------
    InputError : a file that is no video, or that no frame of can be decoded.
    """
    from paperworks.inputs.video import DecodeTally, frames_at_rate

    function, name = make_extractor(extractor, device)
    if isinstance(function, LayoutExtractor):
        function.reset()
    embedded = isinstance(function, LayoutExtractor)
    width, height = (SIDE, SIDE) if embedded else (224, None)
    tally = DecodeTally()
    frames = iter(frames_at_rate(path, fps, width=width, height=height, tally=tally))
    parts = []
    for pictures in _batches(frames, BATCH):
        found = np.asarray(function(pictures), np.float32)
        if found.ndim != 2 or len(found) != len(pictures) or not np.isfinite(found).all():
            raise InputError("extractor", f"{name}, which gave {found.shape}", f"finite numbers [{len(pictures)}, C]")
        parts.append(found)
    if not parts:
        raise InputError(str(path), "a video of which no frame can be decoded", "a readable video")
    return VideoFeatures(np.concatenate(parts), float(tally.end), fps, name)


def _batches(frames: Iterator[Any], size: int) -> Iterator[np.ndarray]:
    while batch := list(islice(frames, size)):
        yield np.stack([one.pixels for one in batch])


def extract_features(
    videos: str | Path,
    folder: str | Path,
    extractor: Any = "layout",
    *,
    fps: float = 1.0,
    device: str = "auto",
    progress: Progress = no_progress,
) -> list[str]:
    """Features of every video of a folder, as ``<id>.npy`` (float32 ``[T', C]``) and ``<id>.json`` beside it.

    Videos whose features are there already are passed over, so that a run that was stopped goes on.

    Returns
    -------
    the ids, in order.
    """
    from paperworks.inputs.video import find_videos

    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    files = find_videos(videos)
    for path in progress(files, "extracting features", len(files)):
        if (target / f"{path.stem}.json").is_file():
            continue
        found = extract_video(path, extractor, fps=fps, device=device)
        save_features(target, path.stem, found)
    return [path.stem for path in files]


def save_features(folder: Path, video: str, found: VideoFeatures) -> None:
    """Write the two files of a video; the JSON comes last, and says that both are whole."""
    (folder / f"{video}.npy").unlink(missing_ok=True)
    with new_file(folder / f"{video}.npy") as aside, aside.open("wb") as out:
        np.save(out, found.values.astype(np.float32))
    about = {
        "duration": found.duration,
        "fps": found.fps,
        "extractor": found.extractor,
        "shape": list(found.values.shape),
    }
    write_text(folder / f"{video}.json", json.dumps(about))


class FeatureFolder(Mapping[str, np.ndarray]):
    """Features of a folder by video, read when asked for: ``<id>.npy``, and ``<id>.json`` where it is there.

    ``durations`` has the seconds of the videos whose JSON says them.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()
        if not self.folder.is_dir():
            raise InputError("features", f"{self.folder}, which is not there", "a folder with <id>.npy files")
        self._files = {path.stem: path for path in sorted(self.folder.glob("*.npy"))}
        if not self._files:
            raise InputError("features", f"{self.folder}, without a .npy file", "a folder with <id>.npy files")
        self.durations: dict[str, float] = {}
        for video in self._files:
            about = self.folder / f"{video}.json"
            content = read_json(about, "features") if about.is_file() else {}
            if isinstance(content, dict) and isinstance(content.get("duration"), int | float):
                self.durations[video] = float(content["duration"])

    def __getitem__(self, video: str) -> np.ndarray:
        try:
            found = whole_array(self._files[video])
        except (ValueError, OSError, EOFError, BadZipFile) as error:
            raise InputError(self._files[video].name, f"no array ({error})", "a .npy file of floats [T, C]") from None
        return found.astype(np.float32) if found.dtype.kind == "f" else found

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def check(self, dataset: StepDataset) -> None:
        """Raise InputError for a video without features, or whose duration differs by more than 5 %."""
        for video, steps in dataset.items():
            if video not in self._files:
                raise InputError("features", f"none of video {video!r}", f"{video}.npy in {self.folder}")
            seconds = self.durations.get(video)
            if seconds is not None and abs(seconds - steps.duration) > TOLERANCE * steps.duration:
                raise InputError(
                    f"features of {video}",
                    f"a video of {seconds:.1f} s",
                    f"{steps.duration:.1f} s, as the steps say (within 5 %): the features of this video",
                )
