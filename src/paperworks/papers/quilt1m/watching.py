"""One pass over a video: key frames with their probabilities and vectors, still segments with their medians.

Everything is decided while the video is decoded, so that memory does not depend on its length: held are one batch of
small key frames, the pictures of the still segment that is open, and numbers for each key frame.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from paperworks.errors import InputError
from paperworks.inputs.video import DecodeTally, TimedFrame, decode_frames
from paperworks.papers.quilt1m.filters import ACCEPTED, INPUT_SIDE, FrameFilter
from paperworks.papers.quilt1m.likeness import embed, perceptual_hash
from paperworks.papers.quilt1m.scenes import SCENE_THRESHOLD, SceneScorer
from paperworks.papers.quilt1m.stable import DETECT_WIDTH, Segment, StableSettings, StableTracker
from paperworks.runs.files import new_folder, remove

BATCH = 16
TABLE, RECORD = "keyframes.npz", "watched.json"
Embed = Callable[[Sequence[np.ndarray]], np.ndarray]


@dataclass(frozen=True)
class WatchSettings:
    """Options of ``watch_video``.

    Attributes
    ----------
    threshold : a frame whose scene score is above it is a key frame; the first frame is one, too.
    stable : of the still segments.
    threads : of the decoder; 0 leaves it to ffmpeg.
    """

    threshold: float = SCENE_THRESHOLD
    stable: StableSettings = field(default_factory=StableSettings)
    threads: int = 0


@dataclass(frozen=True)
class Still:
    """A still segment: seconds, its probability of showing the domain, frames behind the median, and its picture."""

    start: float
    end: float
    probability: float
    frames: int
    file: str
    hash: str


@dataclass(frozen=True)
class Watched:
    """What one pass over a video found.

    Attributes
    ----------
    folder : with the pictures of the stills that show the domain.
    times, scores, probabilities : float ``[k]``: seconds, scene score and filter of each key frame.
    embeddings : float32 ``[k, d]``, unit rows.
    stills : in order; ``file`` is empty for those that do not show the domain.
    duration, width, height : of the video, seconds and pixels.
    tally : what happened while decoding (see ``DecodeTally``).
    """

    folder: Path
    times: np.ndarray
    scores: np.ndarray
    probabilities: np.ndarray
    embeddings: np.ndarray
    stills: tuple[Still, ...]
    duration: float
    width: int
    height: int
    tally: dict[str, Any]

    @property
    def positive(self) -> np.ndarray:
        """Which key frames show the domain, bool ``[k]``."""
        return self.probabilities >= ACCEPTED


def default_embed(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Colour layout and low frequencies of each picture: unit rows ``[n, 64]``."""
    return np.stack([embed(picture) for picture in pictures]).astype(np.float32)


def watch_video(
    path: Path,
    folder: Path,
    accepts: FrameFilter,
    settings: WatchSettings | None = None,
    *,
    embedder: Embed = default_embed,
    on_second: Callable[[float], None] | None = None,
) -> Watched:
    """Decode a video once and write what is found into a new ``folder``.

    Parameters
    ----------
    accepts : the frame filter.
    embedder : from pictures uint8 ``[h, w, 3]`` to unit rows, for the narrative test.
    on_second : called with the time about once for every ten seconds of the video; what it raises stops the pass, and
        nothing is left.

    Raises
    ------
    InputError : no frame of the video can be decoded.
    """
    settings = settings or WatchSettings()
    remove(folder)
    with new_folder(folder) as aside:
        _Watcher(path, aside, accepts, settings, embedder).watch(on_second)
    return read_watched(folder)


def read_watched(folder: Path) -> Watched:
    """Read back what ``watch_video`` wrote."""
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    with np.load(folder / TABLE) as table:
        arrays = {name: table[name] for name in ("times", "scores", "probabilities", "embeddings")}
    stills = tuple(Still(**still) for still in record.pop("stills"))
    return Watched(folder=folder, stills=stills, **arrays, **record)


class _Watcher:
    def __init__(
        self, path: Path, folder: Path, accepts: FrameFilter, settings: WatchSettings, embedder: Embed
    ) -> None:
        self.path, self.folder, self.accepts, self.settings, self.embedder = path, folder, accepts, settings, embedder
        self.times: list[float] = []
        self.scores: list[float] = []
        self.probabilities: list[np.ndarray] = []
        self.embeddings: list[np.ndarray] = []
        self.waiting: list[np.ndarray] = []
        self.stills: list[Still] = []

    def watch(self, on_second: Callable[[float], None] | None) -> None:
        tally = DecodeTally()
        scorer, tracker = SceneScorer(), StableTracker(self.settings.stable)
        size, said = (0, 0), 0.0
        for frame in decode_frames(self.path, tally=tally, threads=self.settings.threads):
            score = scorer(frame.luma())
            if not self.times or score > self.settings.threshold:
                self._key_frame(frame, score)
            if tracker.wants(frame.time):
                self._still(tracker.add(frame.time, frame.gray(DETECT_WIDTH), frame.rgb()))
            size = frame.size
            if on_second is not None and frame.time - said >= 10:
                said = frame.time
                on_second(frame.time)
        if not self.times:
            raise InputError(str(self.path), "a video of which no frame can be decoded", "a readable video")
        self._still(tracker.finish(tally.end))
        self._classify()
        self._write(tally, size)

    def _key_frame(self, frame: TimedFrame, score: float) -> None:
        height, width = frame.size
        scale = min(1.0, INPUT_SIDE / min(height, width))
        self.times.append(frame.time)
        self.scores.append(score)
        self.waiting.append(frame.rgb(max(1, round(width * scale)), max(1, round(height * scale))))
        if len(self.waiting) >= BATCH:
            self._classify()

    def _classify(self) -> None:
        if self.waiting:
            self.probabilities.append(np.asarray(self.accepts([Image.fromarray(p) for p in self.waiting])))
            self.embeddings.append(np.asarray(self.embedder(self.waiting), np.float32))
            self.waiting = []

    def _still(self, segment: Segment | None) -> None:
        if segment is None:
            return
        picture = Image.fromarray(segment.picture)
        probability = float(self.accepts([picture])[0])
        name = ""
        if probability >= ACCEPTED:
            name = f"still{len(self.stills):04d}.png"
            picture.save(self.folder / name, compress_level=1)
        digest = f"{perceptual_hash(segment.picture):016x}"
        self.stills.append(Still(segment.start, segment.end, probability, segment.frames, name, digest))

    def _write(self, tally: DecodeTally, size: tuple[int, int]) -> None:
        np.savez(
            self.folder / TABLE,
            times=np.array(self.times),
            scores=np.array(self.scores),
            probabilities=np.concatenate(self.probabilities),
            embeddings=np.concatenate(self.embeddings),
        )
        counted = asdict(tally) | {"variable_rate": tally.variable_rate}
        counted["shortest_step"] = min(counted["shortest_step"], 1e9)
        record = {
            "duration": tally.end,
            "width": size[1],
            "height": size[0],
            "tally": counted,
            "stills": [asdict(still) for still in self.stills],
        }
        (self.folder / RECORD).write_text(json.dumps(record), encoding="utf-8")


def copy_still(watched: Watched, still: Still, target: Path, side: int | None) -> tuple[int, int]:
    """Copy a still's picture, resized to ``side`` x ``side`` if given; returns height and width."""
    source = watched.folder / still.file
    if side is None:
        shutil.copyfile(source, target)
        with Image.open(source) as opened:
            return opened.height, opened.width
    with Image.open(source) as opened:
        opened.resize((side, side), Image.Resampling.LANCZOS).save(target)
    return side, side
