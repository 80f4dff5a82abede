"""Slice discovery: from features and sentences to named error slices (steps 1 to 5)."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.ladder.aligner import LinearAligner
from paperworks.papers.ladder.backends.offline import OfflineContrastBackend
from paperworks.papers.ladder.checks import checked_names, class_codes, digest, matrix, predicted_codes, require_fit
from paperworks.papers.ladder.corpus import check_sentences
from paperworks.papers.ladder.hypotheses import Backend, Hypothesis
from paperworks.papers.ladder.retrieval import ranked, text_order
from paperworks.papers.ladder.slices import ErrorSlice, accuracy, holm, reaches, two_proportion_p
from paperworks.papers.ladder.texts import SentenceVectors
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress

if TYPE_CHECKING:
    import pandas as pd

FEW_ERRORS = 20
RESAMPLES = 50
STABLE_TOP = 10
EXAMPLES = 10


class SliceDiscovery:
    """Named error slices of a classifier, from its features, sentences about its data, and its mistakes.

    Parameters
    ----------
    aligner : "ridge", "sgd", or a ``LinearAligner``.
    top_k : sentences that a hypothesis is made from; more than there are is cut, with a warning.
    percentile : of the similarities below which an attribute counts as missing.
    percentile_scope : "split" takes the percentile over all rows, as the paper does: the slice is then not that share
        of the class. "class" takes it over the rows of the class.
    margin : a hypothesis is confirmed where the error without the attribute is above the class's by this.
    n_hypotheses : at most, for each class.
    backend : what proposes hypotheses; ``OfflineContrastBackend()`` by default.
    text_encoder : texts to vectors ``[n, q]`` in the space of ``vlr``: a function, an encoder, a folder of CLIP, SigLIP
        or a sentence encoder. By default the bundled sentence encoder, unless ``fit`` gets ``sentence_emb``.
    random_state : seed of the aligner by SGD and of the resamples that tell how stable the ranking is.

    Attributes
    ----------
    aligner_ : the fitted ``LinearAligner``.
    slices_ : list of ``ErrorSlice``, class by class, the largest gap first.
    top_sentences_ : class code -> the top sentences, best first.
    delta_ : class code -> mean of correct rows minus mean of wrong ones ``[q]``.
    stability_ : class code -> mean share of the ten best sentences that stay among the ten in resamples of the rows.
    skipped_ : class code -> why the class was not analysed.
    notes_ : what a reader of the report should know.
    class_names_ : names of the classes.
    predicted_ : predicted codes of the validation rows.
    vectors_ : embedding of each slice's hypothesis, unit rows ``[H, q]``.
    """

    def __init__(
        self,
        aligner: Literal["ridge", "sgd"] | LinearAligner = "ridge",
        *,
        top_k: int = 200,
        percentile: float = 50,
        percentile_scope: Literal["split", "class"] = "split",
        margin: float = 0.1,
        n_hypotheses: int = 8,
        backend: Backend | None = None,
        text_encoder: Any = None,
        random_state: int = 0,
    ) -> None:
        check_seed("random_state", random_state)
        for name, value in (("top_k", top_k), ("n_hypotheses", n_hypotheses)):
            if value < 1:
                raise InputError(name, value, "1 or more")
        if not 0 < percentile < 100:
            raise InputError("percentile", percentile, "more than 0, less than 100")
        if not 0 <= margin <= 1:
            raise InputError("margin", margin, "0 to 1")
        if percentile_scope not in ("split", "class"):
            raise InputError("percentile_scope", repr(percentile_scope), "split or class")
        self.aligner = aligner
        self.top_k, self.percentile, self.percentile_scope = top_k, percentile, percentile_scope
        self.margin, self.n_hypotheses = margin, n_hypotheses
        self.backend: Backend = backend or OfflineContrastBackend()
        self.text_encoder, self.random_state = text_encoder, random_state

    def fit(
        self,
        features_train: Any,
        vlr_train: Any,
        features_val: Any,
        y_val: Any,
        pred_val: Any,
        sentences: Sequence[str] | None = None,
        sentence_emb: Any = None,
        *,
        vlr_val: Any = None,
        class_names: Sequence[str] | None = None,
        items: Sequence[Any] | None = None,
        ids: Sequence[Any] | None = None,
        progress: Progress = no_progress,
    ) -> SliceDiscovery:
        """Fit the aligner on training rows; find slices on validation rows.

        Parameters
        ----------
        features_train, features_val : the classifier's features ``[n, p]``. ``features_train`` and ``vlr_train`` are
            None with an aligner that is fitted already, such as by ``LinearAligner.partial_fit``.
        vlr_train, vlr_val : image (or text) vectors in the space of the text encoder ``[n, q]``; those of the
            validation rows are optional, and only measure the aligner.
        y_val : class codes 0..c-1 ``[n]``.
        pred_val : predicted codes ``[n]``, or probabilities ``[n, c]`` (two classes: ``[n]``, above 0.5 is class 1).
        sentences : about the validation data; doubles are left out. None with a backend that writes its own corpus
            from ``items`` (``CaptionFreeBackend``).
        sentence_emb : vectors of ``sentences`` ``[N, q]``, in place of a text encoder.
        class_names : names of the codes; the codes themselves by default.
        items : the validation samples, for such a backend.
        ids : of the validation rows, for the examples; row numbers by default.

        Raises
        ------
        InputError : arrays that do not fit each other (both are named), values that are not finite, several labels per
            row, logits as probabilities, sentences that are empty or all alike, the rows of training as validation.
        """
        x_val = matrix("features_val", features_val)
        y = class_codes("y_val", y_val, None if class_names is None else len(class_names))
        if len(y) != len(x_val):
            raise InputError("features_val and y_val", f"{len(x_val)} and {len(y)} rows", "one row per sample in both")
        names = checked_names(class_names, int(y.max()) + 1)
        predicted = predicted_codes(pred_val, len(y), len(names))
        if len(np.unique(y)) < 2:
            raise InputError("y_val", "one class only", "two classes or more")
        if features_val is features_train:
            raise InputError(
                "features_val", "the array of features_train", "rows that the classifier was not fitted to"
            )
        self.class_names_ = names
        self.notes_: list[str] = []
        self.skipped_: dict[int, str] = {}
        row_ids = [str(i) for i in (range(len(y)) if ids is None else ids)]
        if len(row_ids) != len(y):
            raise InputError("ids and y_val", f"{len(row_ids)} and {len(y)} rows", "one row per sample in both")
        corpus = self._corpus(sentences, items, y, predicted)
        for _ in progress([None], "aligning the features", 1):
            self.aligner_ = self._aligned(features_train, vlr_train, x_val, vlr_val)
        width = len(self.aligner_.bias_)
        self._texts = SentenceVectors(
            self.text_encoder, corpus if sentences is None else sentences, sentence_emb, width
        )
        for _ in progress([None], f"encoding {len(corpus)} sentences", 1):
            vectors = self._texts(corpus)
        self.validation_digest_, self.predicted_ = digest(x_val), predicted
        projected = self.aligner_.transform(x_val)
        proposals = self._propose(projected, y, predicted, corpus, vectors, progress)
        self._test(projected, y, predicted, proposals, row_ids)
        return self

    def _aligned(self, features: Any, vlr: Any, features_val: Any, vlr_val: Any) -> LinearAligner:
        """A fitted aligner; one that was given stays as it is, so that several discoveries can share it."""
        given = self.aligner
        if isinstance(given, LinearAligner):
            made = copy.deepcopy(given)
        else:
            made = LinearAligner(given, random_state=self.random_state)
        if features is None and vlr is None:
            if not hasattr(made, "weight_"):
                raise InputError("features_train", "none", "the training rows, or an aligner that is fitted already")
            return made
        return made.fit(features, vlr, None if vlr_val is None else features_val, vlr_val)

    def score(self, features: Any) -> np.ndarray:
        """Similarity of rows to every hypothesis ``[n, H]``: ``s_H(x) = <pi(x), T_H>``. Low: it is missing."""
        require_fit(self, "vectors_")
        return self.aligner_.transform(features) @ self.vectors_.T

    def transform(self, features: Any) -> np.ndarray:
        """Whether each row lies below each hypothesis's threshold, bool ``[n, H]``."""
        return self.score(features) < self.thresholds_

    def soft_membership(self, features: Any) -> np.ndarray:
        """Membership in ``(0, 1)`` ``[n, H]``: the logistic function of the distance below the threshold, in standard
        deviations of the validation split. Above 0.5 where ``transform`` is True.
        """
        from scipy.special import expit

        return expit((self.thresholds_ - self.score(features)) / self.deviations_)

    def evaluate(self, features: Any, y: Any, predictions: Any) -> pd.DataFrame:
        """The slices on other rows, with the thresholds of validation. Raises InputError for the validation rows."""
        import pandas as pd

        require_fit(self, "vectors_")
        x = matrix("features_test", features)
        self.require_other_rows(x)
        truth = class_codes("y_test", y, len(self.class_names_))
        predicted = predicted_codes(predictions, len(x), len(self.class_names_))
        below = self.transform(x)
        rows = []
        for number, found in enumerate(self.slices_):
            of_class = truth == found.class_code
            right = predicted == truth
            without, with_it = right[of_class & below[:, number]], right[of_class & ~below[:, number]]
            rows.append(
                {
                    "class": found.class_name,
                    "attribute": found.name,
                    "n_without": len(without),
                    "n_with": len(with_it),
                    "accuracy_without": accuracy(without),
                    "accuracy_with": accuracy(with_it),
                }
            )
        return pd.DataFrame(rows)

    def require_other_rows(self, features: np.ndarray) -> None:
        """Raise InputError if these are the rows of validation: a test on them would measure nothing."""
        if digest(np.asarray(features, np.float64)) == self.validation_digest_:
            raise InputError("features_test", "the rows of validation", "rows that discovery and heads never saw")

    @property
    def thresholds_(self) -> np.ndarray:
        """Threshold of each slice ``[H]``."""
        return np.array([s.threshold for s in self.slices_])

    @property
    def deviations_(self) -> np.ndarray:
        """Standard deviation of each similarity over the validation split ``[H]``; 1 where it is 0."""
        return np.array([s.deviation if s.deviation > 0 else 1.0 for s in self.slices_])

    @property
    def confirmed_(self) -> list[int]:
        """Positions of the confirmed slices."""
        return [i for i, s in enumerate(self.slices_) if s.confirmed]

    def report(self) -> pd.DataFrame:
        """The slices as a table, one row each."""
        from paperworks.papers.ladder.storage import slice_table

        require_fit(self, "slices_")
        return slice_table(self.slices_)

    def to_markdown(self) -> str:
        """The slices as Markdown, with what was skipped and noted."""
        from paperworks.papers.ladder.storage import to_markdown

        return to_markdown(self)

    def save(self, path: str | Path) -> None:
        """Write a folder: ``discovery.safetensors`` and ``discovery.json``. Nothing is overwritten."""
        from paperworks.papers.ladder.storage import save_discovery

        require_fit(self, "vectors_")
        save_discovery(self, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> SliceDiscovery:
        """Read what ``save`` wrote: scores and membership are identical."""
        from paperworks.papers.ladder.storage import load_discovery

        return load_discovery(Path(path))

    def _corpus(
        self, sentences: Sequence[str] | None, items: Sequence[Any] | None, y: np.ndarray, predicted: np.ndarray
    ) -> list[str]:
        writes: Callable[..., list[str]] | None = getattr(self.backend, "corpus", None)
        if sentences is not None:
            return check_sentences(sentences)
        if writes is None:
            raise InputError("sentences", "none", "sentences, or a CaptionFreeBackend with items")
        if items is None:
            raise InputError("items", "none", "the validation samples, for a CaptionFreeBackend")
        return check_sentences(writes(items, y, predicted))

    def _propose(
        self,
        projected: np.ndarray,
        y: np.ndarray,
        predicted: np.ndarray,
        corpus: list[str],
        vectors: np.ndarray,
        progress: Progress,
    ) -> dict[int, list[Hypothesis]]:
        top_k = self.top_k
        if top_k > len(corpus):
            warnings.warn(f"top_k is {top_k}, but there are {len(corpus)} sentences: all are taken.", stacklevel=3)
            top_k = len(corpus)
        bind = getattr(self.backend, "bind", None)
        backend = self.backend if bind is None or not self._texts.can_encode else bind(self._texts)
        check = getattr(backend, "check_classes", None)
        if check is not None:
            check(self.class_names_)
        by_text = text_order(corpus)
        self.top_sentences_: dict[int, list[str]] = {}
        self.delta_: dict[int, np.ndarray] = {}
        self.stability_: dict[int, float] = {}
        proposals: dict[int, list[Hypothesis]] = {}
        for code in progress(range(len(self.class_names_)), "hypotheses, class by class"):
            right = np.flatnonzero((y == code) & (predicted == code))
            wrong = np.flatnonzero((y == code) & (predicted != code))
            name = self.class_names_[code]
            if not len(right) or not len(wrong):
                self.skipped_[code] = (
                    "no error" if len(right) else "no sample that is right" if len(wrong) else "no row"
                )
                self.notes_.append(f"Class {name!r} is left out: {self.skipped_[code]}, so there is no difference.")
                continue
            delta = projected[right].mean(axis=0) - projected[wrong].mean(axis=0)
            self.delta_[code] = delta
            chosen = ranked(vectors @ delta, by_text)[:top_k]
            self.top_sentences_[code] = [corpus[i] for i in chosen]
            self.stability_[code] = self._stability(projected, right, wrong, vectors, chosen[:STABLE_TOP])
            if len(wrong) < FEW_ERRORS:
                self.notes_.append(
                    f"Class {name!r} has {len(wrong)} errors only: of its ten best sentences "
                    f"{self.stability_[code]:.0%} stay in resamples of the rows."
                )
            found = backend.propose(name, self.top_sentences_[code], corpus, self.n_hypotheses)
            proposals[code] = list({h.name: h for h in found}.values())
            if not proposals[code]:
                self.notes_.append(f"No hypothesis was proposed for class {name!r}.")
        return proposals

    def _stability(
        self, projected: np.ndarray, right: np.ndarray, wrong: np.ndarray, vectors: np.ndarray, best: np.ndarray
    ) -> float:
        draw = np.random.default_rng(self.random_state)
        deltas = [
            projected[draw.choice(right, len(right))].mean(axis=0)
            - projected[draw.choice(wrong, len(wrong))].mean(axis=0)
            for _ in range(RESAMPLES)
        ]
        scores = vectors @ np.array(deltas).T
        kept = np.argpartition(-scores, len(best) - 1, axis=0)[: len(best)]
        return float(np.isin(kept, best).mean())

    def _test(
        self,
        projected: np.ndarray,
        y: np.ndarray,
        predicted: np.ndarray,
        proposals: dict[int, list[Hypothesis]],
        ids: list[str],
    ) -> None:
        found: list[tuple[ErrorSlice, np.ndarray]] = []
        for code, hypotheses in proposals.items():
            made = []
            for hypothesis in hypotheses:
                vector = self._texts.mean_direction(hypothesis)
                made.append((self._slice(code, hypothesis, projected @ vector, y, predicted, ids), vector))
            found += sorted(made, key=lambda pair: -np.nan_to_num(pair[0].gap, nan=-1.0))
        adjusted = holm([s.p for s, _ in found])
        self.slices_ = [replace(s, p_holm=float(p)) for (s, _), p in zip(found, adjusted, strict=True)]
        width = projected.shape[1]
        self.vectors_ = np.array([v for _, v in found]) if found else np.zeros((0, width))

    def _slice(
        self, code: int, hypothesis: Hypothesis, s: np.ndarray, y: np.ndarray, predicted: np.ndarray, ids: list[str]
    ) -> ErrorSlice:
        of_class = y == code
        right = predicted == y
        threshold = float(np.percentile(s if self.percentile_scope == "split" else s[of_class], self.percentile))
        without, with_it = right[of_class & (s < threshold)], right[of_class & (s >= threshold)]
        whole = accuracy(right[of_class])
        rows = np.flatnonzero(of_class & (s < threshold))
        shown = rows[np.lexsort((s[rows], right[rows]))][:EXAMPLES]
        return ErrorSlice(
            class_code=code,
            class_name=self.class_names_[code],
            name=hypothesis.name,
            statement=hypothesis.statement,
            test_sentences=hypothesis.test_sentences,
            threshold=threshold,
            n_without=len(without),
            n_with=len(with_it),
            accuracy_without=accuracy(without),
            accuracy_with=accuracy(with_it),
            class_accuracy=whole,
            p=two_proportion_p(int(without.sum()), len(without), int(with_it.sum()), len(with_it)),
            p_holm=1.0,
            clip_score=100 * float(s[of_class & right].mean() - s[of_class & ~right].mean()),
            mean=float(s.mean()),
            deviation=float(s.std()),
            confirmed=reaches(whole - accuracy(without), self.margin),
            examples=tuple(ids[i] for i in shown),
        )
