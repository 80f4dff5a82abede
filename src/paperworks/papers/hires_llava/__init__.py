"""High-resolution vision-language input: slices joined inside the encoder, fewer tokens, and a benchmark of the cuts.

Huang et al. 2024, arXiv 2407.08706.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.papers.hires_llava.adapter import (
        SliceRestoreAdapter,
        adapter_macs,
        merge_slices,
        split_slices,
    )
    from paperworks.papers.hires_llava.baselines import overlapping_windows
    from paperworks.papers.hires_llava.characters import character_model
    from paperworks.papers.hires_llava.classifier import HiResClassifier
    from paperworks.papers.hires_llava.encoder import HiResVisionEncoder
    from paperworks.papers.hires_llava.entitygrid.answerers import (
        OracleAnswerer,
        RandomAnswerer,
        TemplateAnswerer,
        endpoint_answerer,
        model_answerer,
        pipeline_answerer,
    )
    from paperworks.papers.hires_llava.entitygrid.evaluation import EntityGridResult, evaluate
    from paperworks.papers.hires_llava.entitygrid.generation import EntityGrid, read_dataset
    from paperworks.papers.hires_llava.entitygrid.parsing import parse_answer
    from paperworks.papers.hires_llava.features import HiResFeatures
    from paperworks.papers.hires_llava.fragmentation import FragmentationReport, fragmentation_report
    from paperworks.papers.hires_llava.grid import choose_grid, cut_image, place_image
    from paperworks.papers.hires_llava.llava import HiResLlava
    from paperworks.papers.hires_llava.restoration import ReadingSettings, reading_accuracy, stand_in_tower
    from paperworks.papers.hires_llava.samplers import (
        AveragePoolSampler,
        ConcatSampler,
        QFormerSampler,
        ResamplerSampler,
        SelfMiningSampler,
        make_sampler,
        token_count,
    )
    from paperworks.papers.hires_llava.towers import VisionTower, load_tower
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = [
    "AveragePoolSampler",
    "ConcatSampler",
    "EntityGrid",
    "EntityGridResult",
    "FragmentationReport",
    "HiResClassifier",
    "HiResFeatures",
    "HiResLlava",
    "HiResVisionEncoder",
    "OracleAnswerer",
    "QFormerSampler",
    "RandomAnswerer",
    "ReadingSettings",
    "ResamplerSampler",
    "SelfMiningSampler",
    "SliceRestoreAdapter",
    "TemplateAnswerer",
    "VisionTower",
    "adapter_macs",
    "character_model",
    "choose_grid",
    "cut_image",
    "endpoint_answerer",
    "evaluate",
    "fragmentation_report",
    "load_tower",
    "make_sampler",
    "merge_slices",
    "model_answerer",
    "overlapping_windows",
    "parse_answer",
    "pipeline_answerer",
    "place_image",
    "read_dataset",
    "reading_accuracy",
    "split_slices",
    "stand_in_tower",
    "token_count",
]
