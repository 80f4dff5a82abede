"""Options of a second, for the tests that walk the catalogue."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any


def options(folder: Path) -> list[dict[str, Any]]:
    """A lecture of sixteen seconds; and two small encoders on twelve pictures."""
    spec = importlib.util.spec_from_file_location("quilt_small", Path(__file__).with_name("small.py"))
    assert spec is not None
    assert spec.loader is not None
    small = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(small)
    (folder / "videos").mkdir()
    small.write_talk(folder / "videos")
    (folder / "pictures").mkdir()
    captions = small.write_captions(folder / "pictures")
    text = small.write_text_encoder(folder / "text")
    return [
        {"videos": str(folder / "videos"), "vocabulary": str(small.write_terms(folder)), "min_duration": 5},
        {
            "action": "train",
            "pairs": str(captions),
            "text_encoder": str(text),
            "epochs": 1,
            "batch_size": 4,
            "dimensions": 8,
            "recall_at": (1,),
        },
    ]


def beside(folder: Path) -> dict[str, dict[str, Any]]:
    """Options beside which one that no set has is read."""
    pictures, captions = str(folder / "pictures"), str(next((folder / "pictures").glob("*.csv")))
    train = {"action": "train", "pairs": captions, "text_encoder": str(folder / "text"), "epochs": 1, "batch_size": 4}
    talk = {"videos": str(folder / "videos"), "min_duration": 5}
    return {
        **{name: {"images": pictures, "captions": captions} for name in ("cache", "topics", "llm")},
        **dict.fromkeys(("transcripts", "asr"), talk),
        "images": {"captions": captions},
        "captions": {"images": pictures},
        "positive": {"negative": pictures},
        "negative": {"positive": pictures},
        "image_encoder": train,
        "labelled": train,
        "model": {"action": "evaluate", "pairs": captions},
    }
