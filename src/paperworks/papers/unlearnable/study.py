"""The claims, measured again on handwritten digits (8 x 8), and the exact parts on laws over finite sets.

CIFAR-10 and ResNet-18 need days here. In their place: digits, a perceptron with hidden layers of 128 and 64, a budget
of 0.3, five seeds. All comparisons are paired: the same split, weights and draws for every training set of a seed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pandas as pd

from paperworks import runs
from paperworks.metrics import mean_interval
from paperworks.papers.unlearnable.baselines import error_minimizing_noise, random_noise
from paperworks.papers.unlearnable.defences import defences
from paperworks.papers.unlearnable.discrete import bayes_error, classifier_error, mixture, pushed
from paperworks.papers.unlearnable.estimator import BayesErrorEstimator
from paperworks.papers.unlearnable.evaluation import CLEAN_PART, evaluate_protection, transfer
from paperworks.papers.unlearnable.protector import BEOProtector
from paperworks.papers.unlearnable.surrogates import SurrogateTraining, default_surrogate
from paperworks.runs import Finding, Run, smallest
from paperworks.runs.files import write_text

__all__ = ["bounds", "defences", "digits", "limits"]

EPS, SEEDS, STEPS, EPOCHS, TEST_EPOCHS = 0.3, 5, 60, 15, 30
RATIOS = (0.5, 0.8, 0.9, 1.0)
OURS, SHORTCUT, NOISE = "ours", "error-minimising", "random noise"


@runs.study(
    claims=["mixture-bound", "error-floor", "data-processing"],
    title="Bounds on laws over finite sets, by enumeration",
    minutes=0.1,
)
def bounds(run: Run, fast: bool) -> Iterator[Finding]:
    """Random laws on 6 points and 3 classes; every classifier and every map to 3 codes is tried."""
    rng = run.rng("laws")
    laws = [rng.dirichlet(np.full(18, 0.3)).reshape(6, 3) for _ in range(20 if fast else 200)]
    worst, tight = np.inf, np.inf
    for protected, clean in itertools.pairwise(laws):
        for share in (0.1, 0.5, 0.9):
            mixed = bayes_error(mixture(share, protected, clean))
            worst = smallest((worst, mixed - share * bayes_error(protected) - (1 - share) * bayes_error(clean)))
    yield Finding(
        "mixture-bound",
        "the least gap between the Bayes error of a mixture and the weighted mean of its parts' is not negative",
        "exact",
        worst,
        ">=",
        -1e-12,
        detail=f"{len(laws) - 1} pairs of laws, three shares",
    )
    decisions = [np.array(d) for d in itertools.product(range(3), repeat=6)]
    for law in laws[:20]:
        tight = smallest((tight, min(classifier_error(law, d) for d in decisions) - bayes_error(law)))
    yield Finding(
        "error-floor",
        "the best of all 729 classifiers errs exactly as often as the Bayes error says",
        "exact",
        abs(tight),
        "<=",
        1e-12,
        detail="20 laws; the least error over the classifiers, less the Bayes error",
    )
    maps = [np.array(d) for d in itertools.product(range(3), repeat=6) if len(set(d)) == max(d) + 1]
    fall = min(bayes_error(pushed(law, codes)) - bayes_error(law) for law in laws[:20] for codes in maps)
    turned = max(abs(bayes_error(pushed(law, rng.permutation(6))) - bayes_error(law)) for law in laws)
    yield Finding(
        "data-processing",
        "no map of the input lowers the Bayes error",
        "exact",
        fall,
        ">=",
        -1e-12,
        detail=f"20 laws, {len(maps)} maps to at most three codes: the least rise",
    )
    yield Finding(
        "data-processing", "permuting the points does not change the Bayes error", "exact", turned, "<=", 1e-12
    )


@runs.study(claims=["estimator-limits"], title="Limits of the estimator", minutes=0.1)
def limits(run: Run, fast: bool) -> Iterator[Finding]:
    """Classes far apart, and features that say nothing."""
    rng = run.rng("limits")
    labels = np.arange(200) % 10
    apart = labels[:, None] * 10.0 + rng.normal(0, 0.1, (200, 3))
    estimator = BayesErrorEstimator(normalise="none")
    yield Finding(
        "estimator-limits", "classes far apart: the estimate", "exact", estimator.score(apart, labels), "<=", 1e-6
    )
    counts = np.bincount(labels)
    without = counts[None, :] - np.eye(10)[labels]
    expected = float((1 - without.max(1) / (len(labels) - 1)).mean())
    same = estimator.score(np.ones((200, 3)), labels)
    yield Finding(
        "estimator-limits",
        "all features equal: the estimate is one less the largest class frequency among the others",
        "exact",
        abs(same - expected),
        "<=",
        1e-9,
        detail=f"estimate {same:.6f}; 10 balanced classes of 20",
    )


@runs.study(
    claims=[
        "bayes-error-rises",
        "fully-protected-data",
        "not-a-shortcut",
        "effect-survives-mixing",
        "shortcuts-fail-in-mixtures",
        "transfers-across-models",
    ],
    title="Digits protected with a budget of 0.3, alone and in mixtures",
    minutes=12,
)
def digits(run: Run, fast: bool) -> Iterator[Finding]:
    """Protected digits, error-minimising and random noise of the same size; five seeds."""
    seeds = 2 if fast else SEEDS
    tables, others = [], []
    for seed in run.progress(range(seeds), "protecting digits, one seed after the other"):
        table, learners = _seed(run, seed, fast)
        tables.append(table.assign(seed=seed))
        others.append(learners)
    table = pd.concat(tables)
    yield from _rises(table)
    yield from _alone(table)
    yield from _mixtures(table)
    yield from _transfers(others)


def _seed(run: Run, seed: int, fast: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    kept = run.state / f"seed-{seed}.json"
    learners = run.state / f"learners-{seed}.json"
    if kept.is_file() and learners.is_file():
        return pd.read_json(kept, orient="split"), pd.read_json(learners, orient="split")
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    images = (bunch.images / 16).astype(np.float32)[:, None]
    train, held, y, held_y = train_test_split(
        images, bunch.target, test_size=360, stratify=bunch.target, random_state=seed
    )
    if fast:
        train, y = train[:300], y[:300]
    steps, epochs, test_epochs = (6, 3, 5) if fast else (STEPS, EPOCHS, TEST_EPOCHS)
    training = SurrogateTraining(epochs=epochs)
    make = default_surrogate(train.shape[1:], 10)
    protector = BEOProtector(make, eps=EPS, lr=EPS / min(15, steps), steps=steps, training=training, random_state=seed)
    ours = protector.fit_transform(train, y, checkpoint=run.state / f"ascent-{seed}.pt")
    sets = {
        OURS: ours,
        SHORTCUT: error_minimizing_noise(train, y, make, eps=EPS, training=training, random_state=seed),
        NOISE: random_noise(train, EPS, seed),
    }
    table = evaluate_protection(
        make,
        train,
        sets,
        y,
        (held, held_y),
        ratios=(0.5, 1.0) if fast else RATIOS,
        training=SurrogateTraining(epochs=test_epochs),
        random_state=seed,
    )
    found = transfer({"clean": train, OURS: ours, SHORTCUT: sets[SHORTCUT]}, y, (held, held_y), random_state=seed)
    write_text(kept, table.to_json(orient="split", double_precision=15))
    write_text(learners, found.to_json(orient="split", double_precision=15))
    return table, found


def _pick(table: pd.DataFrame, method: str, ratio: float, column: str) -> np.ndarray:
    """A figure of every seed, in the order of the seeds."""
    rows = table[(table["method"] == method) & (table["ratio"] == ratio)]
    return rows.sort_values("seed")[column].to_numpy()


def _rises(table: pd.DataFrame) -> Iterator[Finding]:
    ours = _pick(table, OURS, 1.0, "bayes_error")
    for name, ratio, share in (("clean", 0.0, 3), (NOISE, 1.0, 2)):
        other = _pick(table, name, ratio, "bayes_error")
        words = "the clean images'" if name == "clean" else "that of random noise of the same size"
        yield Finding(
            "bayes-error-rises",
            f"the estimate in the features of a network trained afresh is at least {share} times {words}",
            "empirical",
            mean_interval(ours / other),
            ">=",
            share,
            unit="times",
            baseline=float(other.mean()),
            baseline_name="estimate of the other",
            detail=f"estimate {ours.mean():.3f}",
        )


def _alone(table: pd.DataFrame) -> Iterator[Finding]:
    clean = _pick(table, "clean", 0.0, "test_accuracy")
    ours = _pick(table, OURS, 1.0, "test_accuracy")
    short = _pick(table, SHORTCUT, 1.0, "test_accuracy")
    yield Finding(
        "fully-protected-data",
        "all training images are protected: accuracy on clean images",
        "empirical",
        mean_interval(ours),
        "<=",
        0.85,
        baseline=float(clean.mean()),
        baseline_name="trained on clean images",
        detail=f"accuracy {ours.mean():.3f}; error-minimising noise {short.mean():.3f}",
    )
    own, shortcut = (_pick(table, name, 1.0, "training_accuracy") for name in (OURS, SHORTCUT))
    yield Finding(
        "not-a-shortcut",
        "the accuracy of the network on the protected images that it is trained on",
        "empirical",
        mean_interval(own),
        "<",
        0.8,
        baseline=float(shortcut.mean()),
        baseline_name="with error-minimising noise",
    )
    yield Finding(
        "not-a-shortcut",
        "the accuracy of the network on images with error-minimising noise that it is trained on",
        "empirical",
        mean_interval(shortcut),
        ">",
        0.99,
    )
    lower = _pick(table, "clean", 0.0, "bayes_error") - _pick(table, SHORTCUT, 1.0, "bayes_error")
    yield Finding(
        "not-a-shortcut",
        "error-minimising noise lowers the estimate below that of clean images",
        "empirical",
        mean_interval(lower),
        ">",
        0,
        detail="estimate of clean images, less that with error-minimising noise",
    )


def _mixtures(table: pd.DataFrame) -> Iterator[Finding]:
    for ratio in sorted(r for r in set(table["ratio"]) if 0 < r < 1):
        ours, short = (_pick(table, name, ratio, "bayes_error") for name in (OURS, SHORTCUT))
        yield Finding(
            "effect-survives-mixing",
            f"{ratio:.0%} protected: the estimate is at least 3 times that with error-minimising noise",
            "empirical",
            mean_interval(ours / short),
            ">=",
            3,
            unit="times",
            baseline=float(short.mean()),
            baseline_name="estimate with error-minimising noise",
            detail=f"estimate {ours.mean():.3f}",
        )
        own, shortcut = (_pick(table, name, ratio, "training_accuracy") for name in (OURS, SHORTCUT))
        yield Finding(
            "effect-survives-mixing",
            f"{ratio:.0%} protected: the training accuracy is at least 0.1 lower than with error-minimising noise",
            "empirical",
            mean_interval(shortcut - own),
            ">=",
            0.1,
            baseline=float(shortcut.mean()),
            baseline_name="training accuracy with error-minimising noise",
            detail=f"training accuracy {own.mean():.3f}",
        )
    clean = _pick(table, "clean", 0.0, "test_accuracy")
    short = _pick(table, SHORTCUT, 0.5, "test_accuracy")
    ours = _pick(table, OURS, 0.5, "test_accuracy")
    part = _pick(table, CLEAN_PART, 0.5, "test_accuracy")
    yield Finding(
        "shortcuts-fail-in-mixtures",
        "half of the images with error-minimising noise: accuracy on clean images is within 0.03 of clean training",
        "empirical",
        mean_interval(clean - short),
        "<",
        0.03,
        baseline=float(clean.mean()),
        baseline_name="trained on clean images",
        detail=f"accuracy {short.mean():.3f}; with ours {ours.mean():.3f}; the clean half alone {part.mean():.3f}",
    )


def _transfers(others: list[pd.DataFrame]) -> Iterator[Finding]:
    for learner in others[0].index:
        clean = np.array([one.loc[learner, "clean"] for one in others])
        ours = np.array([one.loc[learner, OURS] for one in others])
        short = np.array([one.loc[learner, SHORTCUT] for one in others])
        yield Finding(
            "transfers-across-models",
            f"{learner}: accuracy on clean images falls by more than 0.1",
            "empirical",
            mean_interval(clean - ours),
            ">",
            0.1,
            baseline=float(clean.mean()),
            baseline_name="trained on clean images",
            detail=f"accuracy {ours.mean():.3f}; with error-minimising noise {short.mean():.3f}",
        )
