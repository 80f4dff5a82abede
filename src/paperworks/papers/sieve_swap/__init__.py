"""Sieve and Swap, and ProcX: timed written steps from narrated how-to videos (arXiv 2311.15964)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.papers.sieve_swap.alignment import AlignedStep, align, align_matrix
    from paperworks.papers.sieve_swap.attention import DeformableAttention, sample_linear
    from paperworks.papers.sieve_swap.captions import bleu4, cider_d, meteor, meteor_es, rouge_l, token_f1
    from paperworks.papers.sieve_swap.evaluation import evaluate, read_predictions
    from paperworks.papers.sieve_swap.exports import chapters, how_to_sheet, write_exports
    from paperworks.papers.sieve_swap.features import (
        FeatureFolder,
        LayoutExtractor,
        VideoFeatures,
        extract_features,
        extract_video,
    )
    from paperworks.papers.sieve_swap.losses import varifocal
    from paperworks.papers.sieve_swap.procedures import (
        KnowledgeBase,
        Procedure,
        read_procedures,
        wikibooks_recipes,
    )
    from paperworks.papers.sieve_swap.procx import ProcX
    from paperworks.papers.sieve_swap.results import AuditRow, SieveResult
    from paperworks.papers.sieve_swap.segments import localisation, temporal_iou
    from paperworks.papers.sieve_swap.sentences import VideoTranscript, read_transcripts, speech_stream
    from paperworks.papers.sieve_swap.settings import ProcXConfig
    from paperworks.papers.sieve_swap.sieve import SieveSwap
    from paperworks.papers.sieve_swap.similarity import top_steps
    from paperworks.papers.sieve_swap.steps_dataset import StepDataset, VideoSteps
    from paperworks.papers.sieve_swap.story_scores import ordered_matching, soda
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = [
    "AlignedStep",
    "AuditRow",
    "DeformableAttention",
    "FeatureFolder",
    "KnowledgeBase",
    "LayoutExtractor",
    "ProcX",
    "ProcXConfig",
    "Procedure",
    "SieveResult",
    "SieveSwap",
    "StepDataset",
    "VideoFeatures",
    "VideoSteps",
    "VideoTranscript",
    "align",
    "align_matrix",
    "bleu4",
    "chapters",
    "cider_d",
    "evaluate",
    "extract_features",
    "extract_video",
    "how_to_sheet",
    "localisation",
    "meteor",
    "meteor_es",
    "ordered_matching",
    "read_predictions",
    "read_procedures",
    "read_transcripts",
    "rouge_l",
    "sample_linear",
    "soda",
    "speech_stream",
    "temporal_iou",
    "token_f1",
    "top_steps",
    "varifocal",
    "wikibooks_recipes",
    "write_exports",
]
