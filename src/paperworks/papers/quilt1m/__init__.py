"""Quilt-1M: pairs of pictures and text out of narrated videos, and encoders trained on them (arXiv 2306.11207)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.papers.quilt1m.assembly import DataSet, write_dataset
    from paperworks.papers.quilt1m.chunks import Chunk, chunk_length, fixed_windows, text_window, time_chunks
    from paperworks.papers.quilt1m.correction import Correction, VocabularyCorrector, suspicious_phrases
    from paperworks.papers.quilt1m.curator import CuratedVideo, CurationSettings, VideoTextCurator
    from paperworks.papers.quilt1m.filters import (
        ClassifierFilter,
        ColorTextureFilter,
        EnsembleFilter,
        FrameFilter,
        PlainFilter,
        PromptFilter,
    )
    from paperworks.papers.quilt1m.language import ModelCorrector, ModelSplit, WhisperRecogniser
    from paperworks.papers.quilt1m.lectures import Lecture, Scene, write_lecture
    from paperworks.papers.quilt1m.narrative import Narrative, narrative_test
    from paperworks.papers.quilt1m.outputs import read_pairs
    from paperworks.papers.quilt1m.pairing import PairSettings
    from paperworks.papers.quilt1m.scenes import SceneScorer
    from paperworks.papers.quilt1m.stable import StableSettings, StableTracker, median_picture
    from paperworks.papers.quilt1m.vocabulary import Concept, Entity, Vocabulary
    from paperworks.papers.quilt1m.watching import Watched, WatchSettings, watch_video
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = [
    "Chunk",
    "ClassifierFilter",
    "ColorTextureFilter",
    "Concept",
    "Correction",
    "CuratedVideo",
    "CurationSettings",
    "DataSet",
    "EnsembleFilter",
    "Entity",
    "FrameFilter",
    "Lecture",
    "ModelCorrector",
    "ModelSplit",
    "Narrative",
    "PairSettings",
    "PlainFilter",
    "PromptFilter",
    "Scene",
    "SceneScorer",
    "StableSettings",
    "StableTracker",
    "VideoTextCurator",
    "Vocabulary",
    "VocabularyCorrector",
    "WatchSettings",
    "Watched",
    "WhisperRecogniser",
    "chunk_length",
    "fixed_windows",
    "median_picture",
    "narrative_test",
    "read_pairs",
    "suspicious_phrases",
    "text_window",
    "time_chunks",
    "watch_video",
    "write_dataset",
    "write_lecture",
]
