"""Videos with timed steps, in the JSON of YouCook2 and ActivityNet Captions."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.inputs.kinds import require_text
from paperworks.runs.files import write_text


@dataclass(frozen=True)
class VideoSteps:
    """The steps of one video.

    Attributes
    ----------
    duration : seconds.
    timestamps : (start, end) of each step in seconds.
    sentences : for each step, one or more instructions that say the same.
    """

    duration: float
    timestamps: tuple[tuple[float, float], ...]
    sentences: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.timestamps)


class StepDataset(Mapping[str, VideoSteps]):
    """Video id -> its steps.

    ``read`` takes YouCook2-style JSON ``{id: {"duration", "timestamps", "sentences"}}``, with a text or a list of
    alternatives for each step, and YouCook2's own annotation file ``{"database": {id: {"duration", "annotations"}}}``.
    """

    def __init__(self, videos: Mapping[str, VideoSteps]) -> None:
        self._videos = dict(videos)

    def __getitem__(self, video: str) -> VideoSteps:
        return self._videos[video]

    def __iter__(self) -> Iterator[str]:
        return iter(self._videos)

    def __len__(self) -> int:
        return len(self._videos)

    def subset(self, ids: Sequence[str]) -> StepDataset:
        """Some of the videos."""
        return StepDataset({video: self._videos[video] for video in ids})

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready content; alternatives are lists."""
        return {
            video: {
                "duration": steps.duration,
                "timestamps": [list(times) for times in steps.timestamps],
                "sentences": [list(texts) for texts in steps.sentences],
            }
            for video, steps in self._videos.items()
        }

    def write(self, path: Path) -> None:
        """Write YouCook2-style JSON. A step's sentences are a list, as in the published data."""
        write_text(path, json.dumps(self.to_dict(), ensure_ascii=False, indent=1))

    def statistics(self) -> dict[str, float]:
        """Counts and means: videos, segments, segments per video, seconds and words of a segment, share of the time."""
        lengths = [end - start for steps in self._videos.values() for start, end in steps.timestamps]
        words = [len(texts[0].split()) for steps in self._videos.values() for texts in steps.sentences]
        total = sum(steps.duration for steps in self._videos.values())
        covered = sum(covered_seconds(steps.timestamps) for steps in self._videos.values())
        videos = max(1, len(self._videos))
        return {
            "videos": float(len(self._videos)),
            "segments": float(len(lengths)),
            "segments per video": len(lengths) / videos,
            "seconds of a segment": float(np.mean(lengths)) if lengths else 0.0,
            "words of a segment": float(np.mean(words)) if words else 0.0,
            "share of the time": covered / total if total else 0.0,
            "seconds of a video": total / videos,
        }

    @classmethod
    def read(cls, path: str | Path, field: str = "dataset") -> StepDataset:
        """Read a file.

        Raises
        ------
        InputError : naming the video and the step, for what is not of this form: no duration, a segment that does not
            end after its start, one that begins after the video's end, other numbers of times and texts.
        """
        return cls.of(read_json(path, field), field)

    @classmethod
    def of(cls, content: Any, field: str = "dataset") -> StepDataset:
        """From the content of such a file."""
        if not isinstance(content, Mapping) or not content:
            raise InputError(
                field, type(content).__name__ if content else "nothing", "a mapping from video id to steps"
            )
        if isinstance(content.get("database"), Mapping):
            content = {video: _from_database(value) for video, value in content["database"].items()}
        return cls({str(video): _video(field, str(video), value) for video, value in content.items()})


def read_json(path: str | Path, field: str) -> Any:
    """The content of a JSON file. Raises InputError for a file that is missing or no JSON."""
    path = Path(path).expanduser()
    if not path.is_file():
        raise InputError(field, f"{path}, {'a folder' if path.exists() else 'which is not there'}", "a JSON file")
    data = path.read_bytes()
    require_text(path, data[:4096], "a JSON file")
    try:
        return json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(field, f"{path.name}, no JSON ({error})", "a JSON file") from None


def _from_database(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    steps = value.get("annotations", [])
    return {
        "duration": value.get("duration"),
        "timestamps": [step.get("segment") for step in steps],
        "sentences": [step.get("sentence", "") for step in steps],
    }


def _video(field: str, video: str, value: Any) -> VideoSteps:
    where = f"{field}, video {video}"
    if not isinstance(value, Mapping) or not {"timestamps", "sentences"} <= set(value):
        raise InputError(where, _keys(value), "duration, timestamps and sentences")
    times, texts = value["timestamps"], value["sentences"]
    if not isinstance(times, list) or not isinstance(texts, list) or len(times) != len(texts):
        raise InputError(where, "other numbers of timestamps and sentences", "one sentence for each timestamp")
    segments = tuple(segment(f"{where}, step {number}", pair) for number, pair in enumerate(times, 1))
    duration = value.get("duration")
    if duration is None:
        duration = max((end for _, end in segments), default=0.0)
    if not isinstance(duration, int | float) or isinstance(duration, bool) or not 0 < duration < math.inf:
        raise InputError(where, f"duration {duration!r}", "a number of seconds above 0")
    clipped = []
    for number, (start, end) in enumerate(segments, 1):
        if start >= duration:
            raise InputError(
                f"{where}, step {number}", f"a start at {start:g} s", f"one before the end, {duration:g} s"
            )
        clipped.append((start, min(end, float(duration))))
    return VideoSteps(float(duration), tuple(clipped), tuple(_alternatives(where, text) for text in texts))


def segment(where: str, pair: Any) -> tuple[float, float]:
    """A checked pair of seconds. Raises InputError for anything else."""
    numbers = isinstance(pair, Sequence) and not isinstance(pair, str) and len(pair) == 2
    if not numbers or any(isinstance(t, bool) or not isinstance(t, int | float) for t in pair):
        raise InputError(where, repr(pair)[:60], "[start, end] in seconds")
    start, end = float(pair[0]), float(pair[1])
    if not (0 <= start < end < math.inf):
        raise InputError(where, f"from {start:g} to {end:g} s", "an end after its start, both finite and not negative")
    return start, end


def _alternatives(where: str, text: Any) -> tuple[str, ...]:
    found = [text] if isinstance(text, str) else text
    if not isinstance(found, list) or not found or any(not isinstance(one, str) for one in found):
        raise InputError(where, f"a sentence {str(text)[:40]!r}", "a text, or a list of texts")
    return tuple(one.strip() for one in found)


def _keys(value: Any) -> str:
    return f"keys {', '.join(map(str, list(value)[:5]))}" if isinstance(value, Mapping) else type(value).__name__


def covered_seconds(timestamps: Sequence[tuple[float, float]]) -> float:
    """Seconds that at least one segment covers."""
    total, until = 0.0, -math.inf
    for start, end in sorted(timestamps):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total
