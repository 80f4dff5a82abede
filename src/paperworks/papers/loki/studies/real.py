"""Gains on small real tasks: ordered classes, digits, and WordNet with a sentence encoder."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from paperworks import runs
from paperworks.metrics import Interval, bootstrap_interval, mean_interval
from paperworks.papers.loki.classifier import LokiClassifier, calibrate, sharpen
from paperworks.papers.loki.evaluation import best_constant, restricted
from paperworks.papers.loki.frechet import FrechetMean
from paperworks.papers.loki.graphs import ordinal
from paperworks.papers.loki.spaces import EmbeddingSpace, LabelSpace


def cost(space: LabelSpace, truth: np.ndarray, predicted: np.ndarray) -> float:
    """Mean squared distance."""
    return float((space.paired(predicted, truth) ** 2).mean())


@runs.study(claims=["imagenet-improvement"], title="Ordered classes of diabetes progression", minutes=0.3)
def diabetes(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """20 quantiles of disease progression; the classifier sees rows of 4 of them, or of 2. Five folds, five times."""
    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import KFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, progression = load_diabetes(return_X_y=True)
    truth = np.searchsorted(np.quantile(progression, np.linspace(0, 1, 21)[1:-1]), progression, side="right")
    space = ordinal(20)
    repeats = 1 if fast else 5
    found = []
    for observed, bound in (([0, 6, 13, 19], 0.75), ([0, 19], 0.65)):
        costs = np.zeros((3, len(x)))  # of Loki, argmax and the best constant, for each patient
        for repeat in run.progress(range(repeats), f"{len(observed)} observed classes"):
            for train, test in KFold(5, shuffle=True, random_state=run.seed + repeat).split(x):
                model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
                loki = LokiClassifier(model, space, observed).fit(x[train], truth[train])
                argmax = loki.frechet_mean_.observed[loki.weights(x[test]).argmax(axis=1)]
                constant = np.full(len(test), best_constant(space, truth[train]))
                for rule, guess in enumerate((loki.predict(x[test]), argmax, constant)):
                    costs[rule, test] += space.paired(guess, truth[test]) ** 2 / repeats
        shown = "Loki {:.1f}, argmax {:.1f}, best constant {:.1f}".format(*costs.mean(axis=1))
        name = f"{len(observed)} of 20 classes observed"
        found.append(
            runs.Finding(
                "imagenet-improvement",
                f"Mean squared distance of Loki over that of argmax, {name}",
                "empirical",
                _ratio(costs[0], costs[1], "patients"),
                "<=",
                bound,
                baseline=float(costs[1].mean()),
                baseline_name="argmax",
                detail=shown,
            )
        )
        if len(observed) == 4:
            found.append(
                runs.Finding(
                    "imagenet-improvement",
                    f"The same over that of the best constant class, {name}",
                    "empirical",
                    _ratio(costs[0], costs[2], "patients"),
                    "<=",
                    0.8,
                    baseline=float(costs[2].mean()),
                    baseline_name="best constant class",
                    detail=shown,
                )
            )
    return found


def _ratio(ours: np.ndarray, theirs: np.ndarray, unit: str) -> Interval:
    """The ratio of two mean costs over the same rows, with a bootstrap interval over the rows."""
    found = bootstrap_interval(lambda a, b: float(a.mean() / b.mean()), ours, theirs, n_resamples=2000)
    return replace(found, unit=unit)


@runs.study(claims=["imagenet-improvement"], title="Digits with unseen classes", minutes=0.5)
def digits(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """6 of 10 digits observed, distances between class means of the pixels; half of the rows are held out."""
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    x, y = load_digits(return_X_y=True)
    x = x / 16
    differences, costs = [], []
    for draw in run.progress(range(6 if fast else 30), "draws"):
        rng = run.rng(f"digits {draw}")
        order = rng.permutation(len(y))
        train, test = order[: len(y) // 2], order[len(y) // 2 :]
        # the distance between classes is given side information: it comes from the training rows only
        space = EmbeddingSpace(np.stack([x[train][y[train] == c].mean(axis=0) for c in range(10)]), list(range(10)))
        observed = np.sort(rng.choice(10, 6, replace=False)).tolist()
        loki = LokiClassifier(LogisticRegression(max_iter=1000), space, observed).fit(x[train], y[train])
        p = loki.weights(x[test])
        ours = cost(space, y[test], loki.predict(x[test]))
        theirs = cost(space, y[test], loki.frechet_mean_.observed[p.argmax(axis=1)])
        costs.append([ours, theirs])
        differences.append(ours / theirs)
    return [
        runs.Finding(
            "imagenet-improvement",
            "Mean squared distance of Loki over that of argmax, 6 of 10 digits observed",
            "empirical",
            mean_interval(differences, unit="draws"),
            "<=",
            0.96,
            baseline_name="argmax",
            detail="Loki {:.3f}, argmax {:.3f}".format(*np.mean(costs, axis=0)),
        )
    ]


@runs.study(claims=["zero-shot-improvement"], title="Zero-shot furniture of WordNet", minutes=0.5)
def furniture(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """Glosses of furniture, without their words, classified among the words by a sentence encoder (all-MiniLM-L6-v2).

    Half of the glosses choose the temperature, the other half is evaluated, and the other way round. Twenty splits.
    """
    from paperworks import inputs
    from paperworks.embedding import sentence_encoder
    from paperworks.inputs.wordnet import WordNet
    from paperworks.papers.loki.hierarchies import from_text_encoder, from_wordnet

    wordnet = WordNet(inputs.get("wordnet"))
    top = next(s for s in wordnet.synsets("furniture", "n") if wordnet.hyponyms(s))
    leaves = [s for s in map(wordnet.__getitem__, wordnet.descendants(top)) if not wordnet.hyponyms(s)]
    leaves = list({s.lemmas[0]: s for s in leaves}.values())
    names = [s.lemmas[0] for s in leaves]
    glosses = []
    for synset in leaves:
        own = {part.lower() for word in synset.lemmas for part in word.replace("-", " ").split()}
        glosses.append(" ".join(w for w in synset.definition.split() if w.strip("();,.").lower() not in own))
    encode = sentence_encoder(required=True)
    assert encode is not None
    words, texts = (np.asarray(encode(x), dtype=np.float64) for x in (names, glosses))
    words, texts = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (words, texts))
    similarity = texts @ words.T
    tree = from_wordnet(wordnet, {s.lemmas[0]: s.id for s in leaves})
    own_metric = from_text_encoder(names, lambda _: words)
    everything = np.arange(len(names))
    repeats = 2 if fast else 20
    costs = {"tree": np.zeros((3, len(names))), "own": np.zeros((3, len(names)))}
    for repeat in run.progress(range(repeats), "halves"):
        halves = np.array_split(run.rng(f"halves {repeat}").permutation(len(names)), 2)
        for chosen, held in (halves, halves[::-1]):
            for key, space in (("tree", tree), ("own", own_metric)):
                mean = FrechetMean(space, everything)
                base = _softmax(similarity * 20)
                temperature = calibrate(base[chosen], chosen, mean, by="cost")
                p = sharpen(base[held], temperature)
                constant = np.full(len(held), best_constant(space, chosen, among=everything))
                for rule, guess in enumerate((restricted(mean, p, everything), p.argmax(axis=1), constant)):
                    costs[key][rule, held] += space.paired(guess, held) ** 2 / repeats
    tree_costs, own_costs = costs["tree"], costs["own"]
    shown = "Loki {:.2f}, argmax {:.2f}, best constant leaf {:.2f}".format(*tree_costs.mean(axis=1))
    return [
        runs.Finding(
            "zero-shot-improvement",
            f"Squared distance of Loki over that of argmax, distances between the model's {len(names)} word embeddings",
            "empirical",
            _ratio(own_costs[0], own_costs[1], "glosses"),
            "<=",
            0.95,
            baseline_name="argmax",
            detail="The claim itself, with a sentence encoder in place of CLIP. "
            + "Loki {:.3f}, argmax {:.3f}".format(*own_costs.mean(axis=1)),
        ),
        runs.Finding(
            "zero-shot-improvement",
            f"The same with distances of WordNet's tree between {len(names)} leaves",
            "empirical",
            _ratio(tree_costs[0], tree_costs[1], "glosses"),
            "<=",
            0.92,
            baseline_name="argmax",
            detail=shown,
        ),
        runs.Finding(
            "zero-shot-improvement",
            "The same over that of the best constant leaf",
            "empirical",
            _ratio(tree_costs[0], tree_costs[2], "glosses"),
            "<",
            1.0,
            baseline_name="best constant leaf",
            detail=shown,
        ),
    ]


def _softmax(logits: np.ndarray) -> np.ndarray:
    powered = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powered / powered.sum(axis=1, keepdims=True)
