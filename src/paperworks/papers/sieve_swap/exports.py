"""What people take away: chapters as SubRip and WebVTT, JSON, and a how-to sheet in Markdown with thumbnails."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paperworks.errors import InputError
from paperworks.inputs.transcripts import Cue, format_srt, format_webvtt
from paperworks.papers.sieve_swap.steps_dataset import VideoSteps
from paperworks.runs.files import write_text

Step = Mapping[str, Any]
"""``start``, ``end`` (seconds), ``text``; ``score`` where there is one."""
THUMBNAIL_WIDTH = 320


def steps_of(video: VideoSteps) -> list[dict[str, Any]]:
    """The steps of a set in the form of predictions; of alternatives the first."""
    return [
        {"start": start, "end": end, "text": texts[0]}
        for (start, end), texts in zip(video.timestamps, video.sentences, strict=True)
    ]


def chapters(steps: Sequence[Step]) -> list[Cue]:
    """Steps as captions, in order; one that reaches into the next ends there, as players show one chapter at a time."""
    ordered = sorted(steps, key=lambda step: (step["start"], step["end"]))
    out = []
    for number, step in enumerate(ordered):
        end = float(step["end"])
        if number + 1 < len(ordered):
            following = float(ordered[number + 1]["start"])
            end = min(end, following) if following > step["start"] + 0.001 else end
        text = " ".join(str(step["text"]).split()) or f"Step {number + 1}"
        out.append(Cue(float(step["start"]), max(end, float(step["start"]) + 0.001), text))
    return out


def write_exports(
    folder: Path, video: str, steps: Sequence[Step], *, title: str = "", source: Path | None = None
) -> list[str]:
    """Write ``<id>.srt``, ``<id>.vtt``, ``<id>.json`` and ``<id>.md``, with pictures if the video file is given.

    Parameters
    ----------
    title : of the sheet; by default the id.
    source : the video file, for thumbnails from the middle of each step.

    Returns
    -------
    names of the files.
    """
    if not steps:
        raise InputError(f"steps of {video}", "none", "one step or more")
    name = safe_name(video)
    ordered = sorted(steps, key=lambda step: (step["start"], step["end"]))
    pictures = [] if source is None else _thumbnails(folder, name, ordered, source)
    cues = chapters(ordered)
    write_text(folder / f"{name}.srt", format_srt(cues))
    write_text(folder / f"{name}.vtt", format_webvtt(cues))
    write_text(
        folder / f"{name}.json",
        json.dumps({"video": video, "steps": list(map(dict, ordered))}, ensure_ascii=False, indent=1),
    )
    write_text(folder / f"{name}.md", how_to_sheet(title or video, ordered, pictures))
    return [f"{name}.{suffix}" for suffix in ("srt", "vtt", "json", "md")]


def how_to_sheet(title: str, steps: Sequence[Step], pictures: Sequence[str] = ()) -> str:
    """Markdown: a numbered list of steps with their times, and a picture of each where there are some."""
    lines = [f"# {_escaped(title)}", ""]
    for number, step in enumerate(steps, 1):
        lines.append(f"{number}. **{clock(step['start'])}\u2013{clock(step['end'])}** {_escaped(str(step['text']))}")
        if number <= len(pictures):
            lines += ["", f"   ![Step {number}]({pictures[number - 1]})", ""]
    return "\n".join(lines).rstrip() + "\n"


def clock(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    whole = int(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def safe_name(video: str) -> str:
    """An id as the name of a file."""
    return re.sub(r"[^\w.\-]+", "_", video).strip(".") or "video"


def _thumbnails(folder: Path, name: str, steps: Sequence[Step], source: Path) -> list[str]:
    from PIL import Image

    from paperworks.inputs.video import thumbnails

    times = [(float(step["start"]) + float(step["end"])) / 2 for step in steps]
    (folder / "thumbnails").mkdir(parents=True, exist_ok=True)
    names = []
    for number, pixels in enumerate(thumbnails(source, times, width=THUMBNAIL_WIDTH), 1):
        relative = f"thumbnails/{name}-{number:02}.jpg"
        Image.fromarray(pixels).save(folder / relative, quality=85)
        names.append(relative)
    return names


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>#])", r"\\\1", " ".join(text.split()))
