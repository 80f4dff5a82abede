"""Distillation on fixed vectors: digits for regions, number words for texts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from paperworks.metrics import ratio_interval
from paperworks.papers.gkc.distillation import Form, TextGuidedDistillation, distances
from paperworks.papers.gkc.towers import load_towers
from paperworks.papers.gkc.vocabulary import encode_names
from paperworks.runs import Finding, Run, study

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
WIDTH, REGIONS, STEPS, SEEDS = 64, 32, 250, 3
NOISE = 0.3


@study(claims=["distillation-forms"], title="Distillation on digits, with number words for texts", minutes=0.5)
def digits(run: Run, fast: bool) -> Iterator[Finding]:
    """A linear student of scikit-learn's digits; the teacher is the class mean and noise, projected to 64 columns."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    texts = torch.from_numpy(encode_names(WORDS, load_towers().encode_text))
    gaps: dict[str, list[float]] = {}
    points: dict[str, list[float]] = {}
    for seed in run.progress(range(2 if fast else SEEDS), "distilling digits"):
        for form in ("distance", "point", "vision"):
            gap, point = _distilled(images, labels, texts, form, seed, 30 if fast else STEPS)
            gaps.setdefault(form, []).append(gap)
            points.setdefault(form, []).append(point)
    own, others = np.array(gaps["distance"]), {form: np.array(gaps[form]) for form in ("point", "vision")}
    statement = "digits that training did not see: mean | |V_i - R_j| - |T_i - T_j| | as a share of that with"
    for form, title in (("point", "point-to-point distillation"), ("vision", "vision-guided distillation")):
        yield Finding(
            "distillation-forms",
            f"{statement} {title}",
            "empirical",
            ratio_interval(own / others[form], unit="seeds"),
            "<=",
            0.7,
            baseline=float(others[form].mean()),
            baseline_name=f"mean gap with {title}",
            detail=f"text-guided {own.mean():.4f}; to their own teacher vector its students have a distance of "
            f"{np.mean(points['distance']):.2f}, those of this form {np.mean(points[form]):.2f}",
        )


def _distilled(
    images: np.ndarray, labels: np.ndarray, texts: torch.Tensor, form: Form, seed: int, steps: int
) -> tuple[float, float]:
    """The gap of the geometry, and the mean distance to the teacher, on held-out digits."""
    rng = np.random.default_rng(seed)
    pixels = images / 16
    means = np.stack([pixels[labels == c].mean(0) for c in range(10)])
    project = rng.normal(size=(pixels.shape[1], WIDTH)) / np.sqrt(WIDTH)
    noisy = means[labels] + NOISE * rng.normal(size=pixels.shape) * means.std()
    teacher = functional.normalize(torch.from_numpy(noisy @ project).float(), dim=1)
    order = rng.permutation(len(pixels))
    held, used = order[:300], order[300:]
    x = torch.from_numpy(pixels).float()
    torch.manual_seed(seed)
    student, loss = nn.Linear(x.shape[1], WIDTH), TextGuidedDistillation(form, "mean")
    optimizer = torch.optim.Adam(student.parameters(), lr=5e-3)
    for _ in range(steps):
        rows = rng.choice(used, REGIONS, replace=False)
        value = loss(student(x[rows]), teacher[rows], texts[labels[rows]])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    with torch.no_grad():
        v = functional.normalize(student(x[held]), dim=1)
        t = texts[labels[held]]
        gap = (distances(v, teacher[held]) - distances(t, t)).abs().mean()
        return float(gap), float((v - teacher[held]).norm(dim=1).mean())
