"""The moments of the trained output in arithmetic of many digits, from the kernel's definition and a dense solution.

Nothing is shared with the closed form of ``theory``: this is what that is checked against.
"""

from __future__ import annotations

import mpmath

from paperworks.errors import InputError
from paperworks.papers.permutations_ntk.theory import Moments, require_bits


def precise_moments(bits: int, ones: int, digits: int = 40) -> tuple[mpmath.mpf, mpmath.mpf | None, mpmath.mpf]:
    """(mu1, mu0, s2) for one input of k bits with n ones, both layers trained to convergence; mu0 is None at n = k.

    Solves the k x k system with the kernel of the unit vectors: O(k^3) operations of ``digits`` digits.
    """
    k = require_bits(bits)
    if not 1 <= ones <= k:
        raise InputError("ones", ones, f"a whole number from 1 to {k}")
    if digits < 15:
        raise InputError("digits", digits, "15 or more")
    with mpmath.workdps(digits):

        def kernel(cosine: mpmath.mpf, factor: int) -> mpmath.mpf:
            """The last-layer kernel (factor 1) or the tangent kernel (factor 2) between unit vectors."""
            angle = mpmath.acos(cosine)
            return (mpmath.sin(angle) + factor * (mpmath.pi - angle) * cosine) / (2 * mpmath.pi * k)

        def between_units(factor: int) -> mpmath.matrix:
            same, other = kernel(mpmath.mpf(1), factor), kernel(mpmath.mpf(0), factor)
            return mpmath.matrix([[same if i == j else other for j in range(k)] for i in range(k)])

        def with_input(factor: int) -> mpmath.matrix:
            inside, outside = kernel(1 / mpmath.sqrt(ones), factor), kernel(mpmath.mpf(0), factor)
            return mpmath.matrix([inside if i < ones else outside for i in range(k)])

        weights = mpmath.lu_solve(between_units(2), with_input(2))
        spread = (weights.T * between_units(1) * weights)[0] - 2 * (weights.T * with_input(1))[0]
        return weights[0], weights[k - 1] if ones < k else None, kernel(mpmath.mpf(1), 1) + spread


def relative_error(moments: Moments, digits: int = 40) -> float:
    """Largest relative error of float64 moments (of the tangent kernel at convergence) beside ``precise_moments``."""
    worst = 0.0
    for i, n in enumerate(moments.ones.ravel()):
        exact = precise_moments(moments.bits, int(n), digits)
        found = (moments.one_mean.ravel()[i], moments.zero_mean.ravel()[i], moments.variance.ravel()[i])
        with mpmath.workdps(digits):
            for value, truth in zip(found, exact, strict=True):
                if truth is not None and abs(truth) > mpmath.mpf(10) ** (8 - digits):
                    worst = max(worst, float(abs(mpmath.mpf(float(value)) / truth - 1)))
    return worst
