"""Other learners on the same rows, for the studies and the benchmark: fitted, timed and counted in one way.

They are packages of the ``dev`` extra. Encoding is counted in a learner's time where it cannot do without, and given
beside it.
"""

from __future__ import annotations

import copy
import os
import pickle
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from paperworks.errors import InputError
from paperworks.papers.fold_se.classifier import FoldSEClassifier
from paperworks.papers.fold_se.presets import FoldRMClassifier, FoldRPPClassifier
from paperworks.papers.fold_se.tasks import Task


@dataclass(frozen=True)
class Fitted:
    """What a learner did: seconds to fit (encoding included, and how much of it that was), predictions, and size.

    ``rules`` and ``literals`` are None for learners without rules.
    """

    name: str
    seconds: float
    encoding_seconds: float
    predictions: np.ndarray
    train_predictions: np.ndarray
    rules: int | None = None
    literals: int | None = None

    def accuracy(self, task: Task) -> float:
        """Share of the test rows predicted rightly."""
        return float(np.mean(self.predictions == task.test_labels))


def _need(package: str) -> None:
    if find_spec(package) is None:
        raise InputError(package, "no such package", "pip install 'paperworks[dev]'")


def _timed(work: Callable[[], Any], repeats: int = 1) -> tuple[Any, float]:
    """The result and the least processor seconds of ``repeats`` calls, which another process does not lengthen."""
    best, result = float("inf"), None
    for _ in range(repeats):
        started = time.process_time()
        result = work()
        best = min(best, time.process_time() - started)
    return result, best


def fit_ours(task: Task, kind: str = "fold-se", repeats: int = 3, **options: Any) -> Fitted:
    """Our classifier: ``fold-se``, ``fold-rpp`` or ``fold-rm``; reading the columns is part of the time."""
    makers: dict[str, type[FoldSEClassifier]] = {
        "fold-se": FoldSEClassifier,
        "fold-rpp": FoldRPPClassifier,
        "fold-rm": FoldRMClassifier,
    }
    options = {"numeric": list(task.numeric), **options}
    if kind != "fold-rm":
        options.setdefault("positive_label", task.positive or None)
    model = makers[kind](**options)
    _, seconds = _timed(lambda: model.fit(task.train, task.train_labels), repeats)
    return Fitted(
        kind, seconds, 0.0, model.predict(task.test), model.predict(task.train), model.n_rules_, model.n_literals_
    )


XGBOOST_ROUNDS = 25
"""Rounds in which XGBoost is timed, wherever it is."""


@dataclass(frozen=True)
class Timed:
    """A peer timed beside our classifier.

    Attributes
    ----------
    ours, peer : of the first round.
    our_seconds, peer_seconds : medians over the rounds.
    ratios : the peer's processor seconds over ours, of every round.
    """

    ours: Fitted
    peer: Fitted
    our_seconds: float
    peer_seconds: float
    ratios: np.ndarray


def in_turns(task: Task, fit: Callable[[Task], Fitted], rounds: int, kind: str = "fold-se") -> Timed:
    """Time a peer and our classifier in turns, one fit each in every round.

    Both find the processor's caches as the other left them, and whatever else the machine does falls on both. A best of
    several would compare the luckiest fits of two learners whose times do not spread alike.
    """
    pairs = [(fit_ours(task, kind, repeats=1), fit(task)) for _ in range(rounds)]
    seconds = np.array([[one.seconds for one in pair] for pair in pairs])
    ours, theirs = (float(median) for median in np.median(seconds, axis=0))
    return Timed(*pairs[0], ours, theirs, seconds[:, 1] / seconds[:, 0])


def fit_foldrpp(task: Task, repeats: int = 1) -> Fitted:
    """PyPI foldrpp at ratio 0.5. Its rows are made beforehand and not counted, as in its own examples."""
    _need("foldrpp")
    import foldrpp

    negative = next(x for x in np.unique(task.train_labels) if x != task.positive)
    order = [*task.categorical, *task.numeric]

    def rows(frame: pd.DataFrame, labels: np.ndarray) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows.csv"
            frame[order].assign(**{"label of the row": labels}).to_csv(path, index=False)
            return foldrpp.load_data(
                str(path), list(task.categorical), list(task.numeric), "label of the row", task.positive
            )

    train, test = rows(task.train, task.train_labels), rows(task.test, task.test_labels)

    def fit() -> Any:
        model = foldrpp.Foldrpp(list(task.categorical), list(task.numeric), "label of the row", task.positive)
        model.fit(train, ratio=0.5)
        return model

    model, seconds = _timed(fit, repeats)
    guesses = [
        np.where(np.array(model.predict(part), dtype=bool), task.positive, negative).astype(object)
        for part in (test, train)
    ]
    # Writing its program changes its rules: count on a copy.
    text = copy.deepcopy(model).asp()
    rules, literals = count_program(text if isinstance(text, str) else "\n".join(text))
    return Fitted("foldrpp", seconds, 0.0, guesses[0], guesses[1], rules, literals)


def count_program(text: str) -> tuple[int, int]:
    """Rules and body literals of a printed program, without the references to exceptions."""
    rules = [line for line in text.splitlines() if ":-" in line]
    literals = 0
    for rule in rules:
        body = re.sub(r"not ab\d+\(X,'True'\)", "", rule.split(":-", 1)[1])
        literals += len(re.findall(r"\(X,'", body)) + len(re.findall(r"N\d+(?:=<|>)", body))
    return len(rules), literals


def foldrpp_train_predictions(task: Task, hash_seed: int) -> np.ndarray:
    """Predictions of PyPI foldrpp on the training rows in a process of its own.

    It goes through the values of a column in the order of a hash set, which decides between values that tie;
    ``hash_seed`` fixes that order.
    """
    _need("foldrpp")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "task.pickle"
        path.write_bytes(pickle.dumps(task))
        code = (
            "import pickle, sys\n"
            "from paperworks.papers.fold_se import peers\n"
            "task = pickle.loads(open(sys.argv[1], 'rb').read())\n"
            "fitted = peers.fit_foldrpp(task)\n"
            "open(sys.argv[1] + '.out', 'wb').write(pickle.dumps(fitted.train_predictions))\n"
        )
        subprocess.run(
            [sys.executable, "-c", code, str(path)],
            check=True,
            stdout=subprocess.DEVNULL,
            env={
                **os.environ,
                "PYTHONHASHSEED": str(hash_seed),
                "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            },
        )
        return pickle.loads(Path(f"{path}.out").read_bytes())


def fit_ripper(task: Task, repeats: int = 1) -> Fitted:
    """wittgenstein's RIPPER with its defaults, for the rarer class, as is its custom. It bins numbers itself."""
    _need("wittgenstein")
    import wittgenstein

    values, counts = np.unique(task.train_labels, return_counts=True)
    rare, other = values[np.argmin(counts)], values[np.argmax(counts)]

    def fit() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = wittgenstein.RIPPER(random_state=0)
            model.fit(task.train, task.train_labels, pos_class=rare)
            return model

    model, seconds = _timed(fit, repeats)
    guesses = [
        np.where(np.array(model.predict(part), dtype=bool), rare, other).astype(object)
        for part in (task.test, task.train)
    ]
    rules = model.ruleset_.rules
    return Fitted("RIPPER", seconds, 0.0, guesses[0], guesses[1], len(rules), sum(len(rule.conds) for rule in rules))


def _encoded(task: Task, *, scale: bool) -> tuple[Any, Any, float]:
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = make_pipeline(SimpleImputer(), StandardScaler()) if scale else "passthrough"
    encoder = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False, dtype=np.float32), list(task.categorical)),
        (numbers, list(task.numeric)),
    )
    train, seconds = _timed(lambda: encoder.fit_transform(task.train))
    return train, encoder.transform(task.test), seconds


def _on_codes(task: Task, name: str, model: Any, *, scale: bool, repeats: int) -> Fitted:
    train, test, encoding = _encoded(task, scale=scale)
    classes, codes = np.unique(task.train_labels, return_inverse=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, seconds = _timed(lambda: model.fit(train, codes), repeats)
    guesses = [classes[model.predict(part)] for part in (test, train)]
    return Fitted(name, encoding + seconds, encoding, guesses[0], guesses[1])


def fit_xgboost(task: Task, repeats: int = 1, threads: int = 1) -> Fitted:
    """XGBoost with its defaults (100 trees, histograms) on one-hot columns."""
    _need("xgboost")
    import xgboost

    model = xgboost.XGBClassifier(n_jobs=threads, random_state=0)
    return _on_codes(task, "XGBoost", model, scale=False, repeats=repeats)


def fit_mlp(task: Task, repeats: int = 1) -> Fitted:
    """scikit-learn's multilayer perceptron with its defaults (100 hidden units, up to 200 epochs), scaled columns."""
    from sklearn.neural_network import MLPClassifier

    return _on_codes(task, "MLP", MLPClassifier(random_state=0), scale=True, repeats=repeats)
