"""Self-distillation in ridge regression: closed forms that the experiments can be held against.

Model: ``y = X theta + noise`` of variance s2. The teacher is fitted to rows t, the student to rows f that are among
them, ``theta_s = (G_f + lam I)^-1 X_f' [(1 - a) y_f + a X_f theta_t]``, ``theta_t = (G_t + lam I)^-1 X_t' y_t``,
``G = X' X``. The forms are derived here; the paper's theorem was not readable.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from paperworks.errors import InputError


def ridge_student(
    x: ArrayLike, y: ArrayLike, student: int, teacher: int, *, alpha: float, ridge: float = 0.0
) -> np.ndarray:
    """The student's coefficients, float64 ``[d]``: fitted to the first ``student`` rows, its teacher to ``teacher``."""
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    own, of_teacher = _solvers(x, student, teacher, alpha, ridge)
    taught = x[:teacher].T @ y[:teacher]
    return own @ ((1 - alpha) * x[:student].T @ y[:student] + alpha * x[:student].T @ x[:student] @ of_teacher @ taught)


def expected_ridge_error(
    x: ArrayLike, theta: ArrayLike, student: int, teacher: int, *, alpha: float, ridge: float = 0.0, noise: float = 1.0
) -> float:
    """``E || theta_s - theta ||^2`` over the noise (variance ``noise``) for given inputs: squared bias and variance."""
    x, theta = np.asarray(x, dtype=np.float64), np.asarray(theta, dtype=np.float64)
    own, of_teacher = _solvers(x, student, teacher, alpha, ridge)
    gram = x[:student].T @ x[:student]
    # theta_s is linear in y: theta_s = W y over the teacher's rows, of which the student's come first
    weights = own @ (alpha * gram @ of_teacher @ x[:teacher].T)
    weights[:, :student] += (1 - alpha) * own @ x[:student].T
    bias = weights @ (x[:teacher] @ theta) - theta
    return float(bias @ bias + noise * (weights**2).sum())


def isotropic_error(student: int, teacher: int, alpha: float, noise: float = 1.0) -> float:
    """Error per coordinate without ridge where ``G_f = n_f I`` and ``G_t = n_t I``, rho = n_f / n_t:
    ``(noise / n_f) [(1 - a)^2 + 2 a (1 - a) rho + a^2 rho]``.
    """
    rho = student / teacher
    return noise / student * ((1 - alpha) ** 2 + 2 * alpha * (1 - alpha) * rho + alpha**2 * rho)


def isotropic_inputs(n: int, d: int) -> np.ndarray:
    """Rows ``[n, d]`` of which every first ``k d`` have ``X' X = k d I``: scaled unit vectors, again and again."""
    if n % d:
        raise InputError("n", n, f"a multiple of {d}")
    return np.tile(np.sqrt(d) * np.eye(d), (n // d, 1))


def _solvers(x: np.ndarray, student: int, teacher: int, alpha: float, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    if not 1 <= student <= teacher <= len(x):
        raise InputError("student", f"{student} rows of a teacher's {teacher}", f"1 <= student <= teacher <= {len(x)}")
    if not 0 <= alpha <= 1:
        raise InputError("alpha", alpha, "a share from 0 to 1")
    if ridge < 0:
        raise InputError("ridge", ridge, "0 or more")
    eye = ridge * np.eye(x.shape[1])
    try:
        return tuple(np.linalg.inv(x[:n].T @ x[:n] + eye) for n in (student, teacher))  # type: ignore[return-value]
    except np.linalg.LinAlgError:
        raise InputError("ridge", ridge, "above 0, or more rows than columns") from None
