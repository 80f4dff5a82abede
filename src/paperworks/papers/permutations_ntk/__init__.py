"""Exact learning of permutations of bits by ensembles of two-layer networks, and how large they must be.

import paperworks as pw

pw.permutations_ntk.required_models(8, delta=0.1)                      # networks for all 255 inputs at once
ensemble = pw.permutations_ntk.PermutationEnsemble().fit([2, 0, 1])    # bit 0 goes to 2, 1 to 0, 2 to 1
ensemble.predict([[1, 1, 0]])                                          # -> [[1, 0, 1]]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.papers.permutations_ntk.bits import (
        all_inputs,
        apply_permutation,
        as_bit_rows,
        as_permutation,
        permutation_matrix,
    )
    from paperworks.papers.permutations_ntk.diagnostics import Agreement, compare_with_theory
    from paperworks.papers.permutations_ntk.ensemble import PermutationEnsemble
    from paperworks.papers.permutations_ntk.ensemble_size import (
        failure_bound,
        limit_constant,
        required_models,
        success_probability,
    )
    from paperworks.papers.permutations_ntk.kernels import NTKRegressor, nngp_kernel, ntk_kernel, trained_moments
    from paperworks.papers.permutations_ntk.limit import LimitEnsemble, output_covariance, output_moments, round_outputs
    from paperworks.papers.permutations_ntk.networks import NTKMLP
    from paperworks.papers.permutations_ntk.precise import precise_moments
    from paperworks.papers.permutations_ntk.theory import (
        GradientDescent,
        GradientFlow,
        Moments,
        permutation_moments,
        training_spectrum,
    )
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = [
    "NTKMLP",
    "Agreement",
    "GradientDescent",
    "GradientFlow",
    "LimitEnsemble",
    "Moments",
    "NTKRegressor",
    "PermutationEnsemble",
    "all_inputs",
    "apply_permutation",
    "as_bit_rows",
    "as_permutation",
    "compare_with_theory",
    "failure_bound",
    "limit_constant",
    "nngp_kernel",
    "ntk_kernel",
    "output_covariance",
    "output_moments",
    "permutation_matrix",
    "permutation_moments",
    "precise_moments",
    "required_models",
    "round_outputs",
    "success_probability",
    "trained_moments",
    "training_spectrum",
]
