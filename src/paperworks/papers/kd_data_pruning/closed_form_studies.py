"""The claims about linear models, measured in closed form."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from paperworks import runs
from paperworks.metrics import mean_interval
from paperworks.papers.kd_data_pruning.theory import (
    expected_ridge_error,
    isotropic_error,
    isotropic_inputs,
    ridge_student,
)
from paperworks.runs import Finding


@runs.study(claims=["error-falls-with-weight"], title="linear regression with isotropic inputs", minutes=0.1)
def isotropic(run: runs.Run, fast: bool) -> Iterator[Finding]:
    d, student, teacher = 4, 8, 40
    x, rng = isotropic_inputs(teacher, d), run.rng("noise")
    theta = rng.normal(size=d)
    alphas = np.linspace(0, 1, 11)
    worst = max(
        abs(expected_ridge_error(x, theta, student, teacher, alpha=a) / d - isotropic_error(student, teacher, a))
        for a in alphas
    )
    yield Finding(
        "error-falls-with-weight",
        "Largest difference between the form and the error from the covariance of the coefficients, 11 weights.",
        "exact",
        worst,
        "<=",
        1e-12,
    )
    errors = [isotropic_error(student, teacher, a) for a in alphas]
    yield Finding(
        "error-falls-with-weight",
        "Largest rise of the error from one weight of the teacher to the next of 11, from 0 to 1.",
        "exact",
        float(np.diff(errors).max()),
        "<",
        0.0,
    )
    draws = 200 if fast else 2000
    for alpha in (0.0, 0.5, 1.0):
        values = []
        for _ in run.progress(range(draws), f"noise, weight {alpha:g}"):
            y = x @ theta + rng.normal(size=teacher)
            found = ridge_student(x, y, student, teacher, alpha=alpha)
            values.append(float(((found - theta) ** 2).sum()) / d)
        expected = isotropic_error(student, teacher, alpha)
        yield Finding(
            "error-falls-with-weight",
            f"Weight {alpha:g}: distance of the mean error of {draws} simulated data sets from the form, in standard "
            "errors.",
            "exact",
            abs(np.mean(values) - expected) / (np.std(values, ddof=1) / np.sqrt(draws)),
            "<=",
            4.0,
            detail=f"simulated {np.mean(values):.5f}, form {expected:.5f}; chance passes 4 once in 16,000",
        )


@runs.study(claims=["teacher-data-theorem"], title="ridge regression, teachers on more and more rows", minutes=0.1)
def teachers_data(run: runs.Run, fast: bool) -> Iterator[Finding]:
    rng, d, student = run.rng("inputs"), 10, 15
    teachers = (15, 20, 30, 60, 120, 240)
    for alpha in (0.5, 1.0):
        steps: list[list[float]] = [[] for _ in teachers[1:]]
        for _ in run.progress(range(10 if fast else 50), f"random inputs, weight {alpha:g}"):
            x = rng.normal(size=(teachers[-1], d))
            theta = rng.normal(size=d) / np.sqrt(d)
            errors = [expected_ridge_error(x, theta, student, t, alpha=alpha, ridge=1.0) for t in teachers]
            for step, change in zip(steps, np.diff(errors), strict=True):
                step.append(float(change))
        intervals = [mean_interval(step, unit="random inputs") for step in steps]
        worst = max(intervals, key=lambda interval: interval.high)
        yield Finding(
            "teacher-data-theorem",
            f"Ridge regression, 15 rows of 10 numbers for the student, weight {alpha:g}: change of its expected error "
            f"from one number of the teacher's rows to the next ({', '.join(map(str, teachers))}), the worst step.",
            "empirical",
            worst,
            "<=",
            0.0,
            baseline=0.0,
            baseline_name="no change",
            detail="mean changes " + ", ".join(f"{i.estimate:.4f}" for i in intervals) + "; noise variance 1, ridge 1; "
            "errors are exact expectations over the noise",
        )
