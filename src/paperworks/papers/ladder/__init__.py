"""LADDER: name in words the groups on which a classifier fails, and retrain its last layer on them
(arXiv 2408.07832)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.papers.ladder.aligner import LinearAligner
    from paperworks.papers.ladder.backends.described import CaptionFreeBackend, ImageDescriber
    from paperworks.papers.ladder.backends.generated import (
        GeneratedBackend,
        OpenAICompatibleBackend,
        TransformersBackend,
        hypothesis_prompt,
        parse_hypotheses,
    )
    from paperworks.papers.ladder.backends.offline import OfflineContrastBackend
    from paperworks.papers.ladder.backends.predicates import MetadataBackend, PredicateSlice
    from paperworks.papers.ladder.backends.written import StaticBackend
    from paperworks.papers.ladder.baselines import (
        deep_feature_reweighting,
        group_dro,
        just_train_twice,
        random_subset_head,
    )
    from paperworks.papers.ladder.corpus import split_captions, split_reports
    from paperworks.papers.ladder.discovery import SliceDiscovery
    from paperworks.papers.ladder.hard_examples import cvar_dro, learning_from_failure
    from paperworks.papers.ladder.harvest import Harvest, harvest_features
    from paperworks.papers.ladder.headers import read_dicom_headers
    from paperworks.papers.ladder.hypotheses import Backend, CachedBackend, Hypothesis
    from paperworks.papers.ladder.mixture import ErrorAwareMixture
    from paperworks.papers.ladder.modules import RectifiedHead
    from paperworks.papers.ladder.precision import SliceMatch, match_slices
    from paperworks.papers.ladder.presets import PAPER_SETTINGS, paper_settings
    from paperworks.papers.ladder.rectifier import SliceRectifier
    from paperworks.papers.ladder.slices import ErrorSlice
    from paperworks.papers.ladder.vlm import TwoTower, boosted_class_vectors, load_two_tower
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = [
    "PAPER_SETTINGS",
    "Backend",
    "CachedBackend",
    "CaptionFreeBackend",
    "ErrorAwareMixture",
    "ErrorSlice",
    "GeneratedBackend",
    "Harvest",
    "Hypothesis",
    "ImageDescriber",
    "LinearAligner",
    "MetadataBackend",
    "OfflineContrastBackend",
    "OpenAICompatibleBackend",
    "PredicateSlice",
    "RectifiedHead",
    "SliceDiscovery",
    "SliceMatch",
    "SliceRectifier",
    "StaticBackend",
    "TransformersBackend",
    "TwoTower",
    "boosted_class_vectors",
    "cvar_dro",
    "deep_feature_reweighting",
    "group_dro",
    "harvest_features",
    "hypothesis_prompt",
    "just_train_twice",
    "learning_from_failure",
    "load_two_tower",
    "match_slices",
    "paper_settings",
    "parse_hypotheses",
    "random_subset_head",
    "read_dicom_headers",
    "split_captions",
    "split_reports",
]
