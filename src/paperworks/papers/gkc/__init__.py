"""Open-vocabulary segmentation that keeps CLIP's knowledge in training only (GKC, arXiv 2303.09181)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.papers.gkc.clip_resnet import CLIPResNetBackbone, CLIPResNetConfig, load_clip_resnet
    from paperworks.papers.gkc.criterion import GKCForTraining, LossWeights
    from paperworks.papers.gkc.distillation import TextGuidedDistillation
    from paperworks.papers.gkc.exporting import export_onnx, save_segmenter
    from paperworks.papers.gkc.fitting import fit_segmenter
    from paperworks.papers.gkc.grounding import GroundingLoss, caption_nouns
    from paperworks.papers.gkc.matching import HungarianMaskMatcher
    from paperworks.papers.gkc.prediction import Accuracy, accuracy_of, harmonic_mean, predict, semantic_maps
    from paperworks.papers.gkc.scene_files import read_captions, read_scenes
    from paperworks.papers.gkc.segmenter import (
        GKCConfig,
        GKCForOpenVocabularySegmentation,
        GKCOutput,
        load_segmenter,
        small_trunk,
    )
    from paperworks.papers.gkc.segments import Scene, Segment
    from paperworks.papers.gkc.shape_world import make_scenes
    from paperworks.papers.gkc.starting import bundled_towers, new_segmenter
    from paperworks.papers.gkc.synonyms import SynonymSampler, SynonymTable, build_synonyms, score_synonyms
    from paperworks.papers.gkc.towers import Towers, load_towers
    from paperworks.papers.gkc.two_stage import Cost, measure_cost
    from paperworks.papers.gkc.vocabulary import Vocabulary, parse_vocabulary
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = [
    "Accuracy",
    "CLIPResNetBackbone",
    "CLIPResNetConfig",
    "Cost",
    "GKCConfig",
    "GKCForOpenVocabularySegmentation",
    "GKCForTraining",
    "GKCOutput",
    "GroundingLoss",
    "HungarianMaskMatcher",
    "LossWeights",
    "Scene",
    "Segment",
    "SynonymSampler",
    "SynonymTable",
    "TextGuidedDistillation",
    "Towers",
    "Vocabulary",
    "accuracy_of",
    "build_synonyms",
    "bundled_towers",
    "caption_nouns",
    "export_onnx",
    "fit_segmenter",
    "harmonic_mean",
    "load_clip_resnet",
    "load_segmenter",
    "load_towers",
    "make_scenes",
    "measure_cost",
    "new_segmenter",
    "parse_vocabulary",
    "predict",
    "read_captions",
    "read_scenes",
    "save_segmenter",
    "score_synonyms",
    "semantic_maps",
    "small_trunk",
]
