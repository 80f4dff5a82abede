"""Evaluation metrics that scikit-learn does not have. What it has (accuracy, F1, AUC, ...) is taken from there.

Every interval is an ``Interval``, which says its level, its method and how many independent values it rests on.
"""

from paperworks.metrics.auc import DeLongTest, auc_interval, delong_covariance, delong_test
from paperworks.metrics.auc_comparison import AucComparison, compare_auc, roc_auc
from paperworks.metrics.groups import GroupAccuracy, group_accuracy, worst_group_accuracy
from paperworks.metrics.intervals import Interval, bootstrap_interval, mean_interval, ratio_interval, wilson_interval
from paperworks.metrics.panoptic import PanopticQuality, boundary_iou, panoptic_quality
from paperworks.metrics.probe import LinearProbe, linear_probe
from paperworks.metrics.ranking import hits_at_k, precision_at_k, recall_at_k
from paperworks.metrics.segmentation import MeanIoU, mean_iou

__all__ = [
    "AucComparison",
    "DeLongTest",
    "GroupAccuracy",
    "Interval",
    "LinearProbe",
    "MeanIoU",
    "PanopticQuality",
    "auc_interval",
    "bootstrap_interval",
    "boundary_iou",
    "compare_auc",
    "delong_covariance",
    "delong_test",
    "group_accuracy",
    "hits_at_k",
    "linear_probe",
    "mean_interval",
    "mean_iou",
    "panoptic_quality",
    "precision_at_k",
    "ratio_interval",
    "recall_at_k",
    "roc_auc",
    "wilson_interval",
    "worst_group_accuracy",
]
