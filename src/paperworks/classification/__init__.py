"""Classifiers: train one, also from a teacher; predict; read features by layer; note what happens to each example.

data.py         arrays, tensors, image sets and encoded texts as examples
fitting.py      ``fit``
prediction.py   ``predict``, ``predict_proba``, ``predict_logits``, ``features``
dynamics.py     what a training does to each example: forgetting, margins, errors
scores.py       scores of examples from logits: EL2N, margins, entropy, GraNd of the last layer
gradients.py    norms of the gradient of each example (GraNd)
estimator.py    a scikit-learn estimator around any module
pretrained.py   image and text classifiers of transformers from a folder
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.classification.data import ImageExamples, as_examples, take_rows
    from paperworks.classification.dynamics import CallAtSteps, TrainingDynamics
    from paperworks.classification.estimator import TorchClassifier
    from paperworks.classification.fitting import AugmentedRows, fit
    from paperworks.classification.gradients import gradient_norms
    from paperworks.classification.prediction import (
        features,
        last_linear_layer,
        predict,
        predict_logits,
        predict_proba,
    )
    from paperworks.classification.pretrained import PretrainedClassifier, load_classifier
    from paperworks.classification.scores import (
        entropy,
        error_norm,
        largest_probability,
        last_layer_gradient_norms,
        margin_error,
        probability_margin,
        summed_margin_error,
    )
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = [
    "AugmentedRows",
    "CallAtSteps",
    "ImageExamples",
    "PretrainedClassifier",
    "TorchClassifier",
    "TrainingDynamics",
    "as_examples",
    "entropy",
    "error_norm",
    "features",
    "fit",
    "gradient_norms",
    "largest_probability",
    "last_layer_gradient_norms",
    "last_linear_layer",
    "load_classifier",
    "margin_error",
    "predict",
    "predict_logits",
    "predict_proba",
    "probability_margin",
    "summed_margin_error",
    "take_rows",
]
