"""Axial PET/CT slices that cut a lesion: a residual network, split and judged by patient (arXiv 2403.07105).

Research software, not a medical device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.inputs.scans import dicom_to_suv, read_case
    from paperworks.metrics import compare_auc
    from paperworks.papers.petct_slices.baselines import baseline_scores
    from paperworks.papers.petct_slices.evaluation import Evaluation, evaluate, slice_metrics
    from paperworks.papers.petct_slices.explanation import (
        class_activation_maps,
        correctly_localised,
        lroc_curve,
    )
    from paperworks.papers.petct_slices.losses import slice_loss
    from paperworks.papers.petct_slices.network import SliceNetwork, make_network
    from paperworks.papers.petct_slices.onnx_file import export_onnx
    from paperworks.papers.petct_slices.slice_classifier import SliceClassifier
    from paperworks.papers.petct_slices.slice_table import SliceTable
    from paperworks.papers.petct_slices.splits import (
        Leak,
        leave_center_out,
        measured_leak,
        patient_folds,
        patient_split,
        slice_split,
    )
    from paperworks.papers.petct_slices.thresholds import case_scores, choose_threshold, median_of_three, z_ranges
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = [
    "Evaluation",
    "Leak",
    "SliceClassifier",
    "SliceNetwork",
    "SliceTable",
    "baseline_scores",
    "case_scores",
    "choose_threshold",
    "class_activation_maps",
    "compare_auc",
    "correctly_localised",
    "dicom_to_suv",
    "evaluate",
    "export_onnx",
    "leave_center_out",
    "lroc_curve",
    "make_network",
    "measured_leak",
    "median_of_three",
    "patient_folds",
    "patient_split",
    "read_case",
    "slice_loss",
    "slice_metrics",
    "slice_split",
    "z_ranges",
]
