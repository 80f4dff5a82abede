"""What holds for any similarities: gradients, entropy, limits, uniformity of known laws, NT-Xent beside a peer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from paperworks import runs
from paperworks.errors import InputError
from paperworks.runs import Finding, largest

if TYPE_CHECKING:
    pass


def _similarities(run: runs.Run, anchors: int = 40, negatives: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Positive [n] and negative [n, m] similarities of random unit vectors of 16 dimensions."""
    rng = run.rng("similarities")
    a, p, n = (rng.standard_normal((size, 16)) for size in (anchors, anchors, negatives))
    a, p, n = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, p, n))
    return (a * p).sum(axis=1), a @ n.T


@runs.study(
    claims=["gradient-balance", "hardness-aware"], title="gradients against automatic differentiation", minutes=0.1
)
def gradients(run: runs.Run, fast: bool) -> Iterator[Finding]:
    import torch

    from paperworks.papers.contrastive_loss.gradients import penalty_distribution

    positive, negative = _similarities(run)
    balance, shares, moved = 0.0, 0.0, 0.0
    for tau in (0.07, 0.3, 1.0):
        pos, neg = (torch.tensor(x, requires_grad=True) for x in (positive, negative))
        terms = torch.cat([pos[:, None], neg], dim=1) / tau
        loss = (terms.logsumexp(1) - terms[:, 0]).sum()
        to_positive, to_negative = torch.autograd.grad(loss, (pos, neg))
        balance = largest((balance, float((to_positive + to_negative.sum(1)).abs().max()) * tau))
        r = (to_negative / -to_positive[:, None]).numpy()
        shares = largest((shares, float(np.abs(r - penalty_distribution(negative, tau)).max())))
        other = torch.tensor(positive - 0.5, requires_grad=True)
        terms = torch.cat([other[:, None], neg], dim=1) / tau
        a, b = torch.autograd.grad((terms.logsumexp(1) - terms[:, 0]).sum(), (other, neg))
        moved = largest((moved, float(np.abs((b / -a[:, None]).numpy() - r).max())))
    for claim, statement, value in (
        (
            "gradient-balance",
            "Largest difference of a positive's gradient to the sum of its negatives', times tau.",
            balance,
        ),
        (
            "hardness-aware",
            "Largest difference of a negative's share in the gradient to the softmax without the positive.",
            shares,
        ),
        ("hardness-aware", "Largest change of a share when the positive's similarity falls by 0.5.", moved),
    ):
        yield Finding(claim, statement, "exact", value, "<=", 1e-12, detail="tau 0.07, 0.3 and 1")


@runs.study(claims=["entropy-grows-with-temperature"], title="the entropy of penalties", minutes=0.1)
def entropy(run: runs.Run, fast: bool) -> Iterator[Finding]:
    from paperworks.papers.contrastive_loss.gradients import penalty_distribution, penalty_entropy

    _, negative = _similarities(run)
    taus = np.geomspace(0.02, 5, 60)
    by_tau = np.array([penalty_entropy(penalty_distribution(negative, t)) for t in taus])
    yield Finding(
        "entropy-grows-with-temperature",
        "Least rise of a penalty's entropy from one temperature to the next larger.",
        "exact",
        float(np.diff(by_tau, axis=0).min()),
        ">",
        0.0,
        detail="60 temperatures from 0.02 to 5, 40 anchors",
    )
    worst, step = 0.0, 1e-5
    for tau in (0.1, 0.3, 1.0):
        r = penalty_distribution(negative, tau)
        variance = (r * negative**2).sum(axis=1) - (r * negative).sum(axis=1) ** 2
        up, down = (penalty_entropy(penalty_distribution(negative, tau + d)) for d in (step, -step))
        worst = largest((worst, float(np.abs((up - down) / (2 * step) - variance / tau**3).max())))
    yield Finding(
        "entropy-grows-with-temperature",
        "Largest difference of the numeric derivative of the entropy to Var_r(s) / tau^3.",
        "exact",
        worst,
        "<=",
        1e-6,
    )


@runs.study(
    claims=["small-temperature-limit", "large-temperature-limit", "hard-truncation"],
    title="limits and truncation",
    minutes=0.1,
)
def limits(run: runs.Run, fast: bool) -> Iterator[Finding]:
    import torch

    from paperworks.papers.contrastive_loss.losses import ContrastiveLoss

    a, p, n = (
        torch.tensor(run.rng(name).standard_normal((size, 16)))
        for name, size in (("anchors", 20), ("positives", 20), ("negatives", 50))
    )
    a, p, n = (torch.nn.functional.normalize(x, dim=1) for x in (a, p, n))
    positive, s = (a * p).sum(1), a @ n.T
    terms = 51

    def each(loss: ContrastiveLoss) -> torch.Tensor:
        return torch.stack([loss(a[i : i + 1], p[i : i + 1], n) for i in range(len(a))])

    cold = 1e-4 * each(ContrastiveLoss(1e-4))
    hinge = (s.amax(1) - positive).clamp(min=0)
    yield Finding(
        "small-temperature-limit",
        "Largest difference of tau L to max(s_max - s_ii, 0) at tau = 1e-4.",
        "exact",
        float((cold - hinge).abs().max()),
        "<=",
        1e-3,
    )
    hot = terms * 1e4 * (each(ContrastiveLoss(1e4)) - math.log(terms)) / (terms - 1)
    yield Finding(
        "large-temperature-limit",
        "Largest difference of N tau (L - log N) / (N - 1) to the simple loss at tau = 1e4.",
        "exact",
        float((hot - each(ContrastiveLoss(1.0, form="simple"))).abs().max()),
        "<=",
        1e-3,
    )
    whole, one = 0.0, 0.0
    for tau in (0.07, 0.3, 1.0):
        ordinary = each(ContrastiveLoss(tau))
        whole = largest((whole, float((each(ContrastiveLoss(tau, hard_k=50)) - ordinary).abs().max())))
        hardest = torch.nn.functional.softplus((s.amax(1) - positive) / tau)
        one = largest((one, float((each(ContrastiveLoss(tau, hard_k=1)) - hardest).abs().max())))
    yield Finding(
        "hard-truncation",
        "Largest difference of the hard loss over all negatives to the ordinary one.",
        "exact",
        whole,
        "<=",
        1e-12,
    )
    yield Finding(
        "hard-truncation",
        "Largest difference of the hard loss over one negative to softplus((s_max - s_ii) / tau).",
        "exact",
        one,
        "<=",
        1e-12,
    )


@runs.study(claims=["uniform-law"], title="uniformity of known laws", minutes=0.2)
def uniform_law_study(run: runs.Run, fast: bool) -> Iterator[Finding]:
    from paperworks.papers.contrastive_loss.metrics import uniform_law, uniformity

    for d, printed in ((64, 3.8752), (128, 3.9375), (256, 3.9688)):
        yield Finding(
            "uniform-law",
            f"Uniformity of the uniform law in {d} dimensions.",
            "exact",
            uniform_law(d),
            "==",
            printed,
            tolerance=5e-5,
        )
    x = run.rng("sphere").standard_normal((4000 if fast else 20_000, 128)).astype(np.float32)
    yield Finding(
        "uniform-law",
        f"Uniformity of {len(x):,} normalised Gaussian points of 128 dimensions.",
        "exact",
        uniformity(x, normalize=True).value,
        "==",
        3.9375,
        tolerance=0.005,
    )
    point = np.zeros((4000, 128), np.float32)
    point[:, 0] = 1
    yield Finding(
        "uniform-law", "Uniformity of one repeated point.", "exact", uniformity(point).value, "==", 0, tolerance=1e-9
    )
    point[::2] *= -1
    yield Finding(
        "uniform-law",
        "Uniformity of two antipodal points, 2,000 times each.",
        "exact",
        uniformity(point).value,
        "==",
        -math.log((1 + math.exp(-8)) / 2),
        tolerance=1e-3,
    )


@runs.study(claims=["nt-xent"], title="NT-Xent beside pytorch-metric-learning", minutes=0.1)
def nt_xent_study(run: runs.Run, fast: bool) -> Iterator[Finding]:
    import torch

    from paperworks.embedding import nt_xent

    try:
        from pytorch_metric_learning.losses import NTXentLoss
    except ImportError:
        raise InputError(
            "pytorch-metric-learning", "not installed", "pip install pytorch-metric-learning (it is in the extra dev)"
        ) from None
    value, gradient = 0.0, 0.0
    for batch in range(5):
        for tau in (0.05, 0.2, 1.0):
            views = [
                torch.tensor(run.rng(f"view {batch} {i}").standard_normal((32, 16)), requires_grad=True) for i in (0, 1)
            ]
            theirs = NTXentLoss(tau)(torch.cat(views), torch.arange(32).repeat(2))
            wanted = torch.autograd.grad(theirs, views)
            for chunk in (None, 10):
                ours = nt_xent(views[0], views[1], temperature=tau, chunk=chunk)
                value = largest((value, abs(float(ours.detach()) - float(theirs.detach()))))
                found = torch.autograd.grad(ours, views)
                gradient = largest(
                    (gradient, *(float((x - y).abs().max()) for x, y in zip(found, wanted, strict=True)))
                )
    for what, worst in (("value", value), ("gradient", gradient)):
        yield Finding(
            "nt-xent",
            f"Largest difference in {what}, five batches of 32 pairs, whole and in chunks of 10.",
            "exact",
            worst,
            "<=",
            1e-6,
            baseline_name="pytorch-metric-learning",
            baseline=0.0,
        )
