"""Hidden Chow-Liu trees as a scikit-learn estimator."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from joblib import effective_n_jobs
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils.validation import check_is_fitted

from paperworks.errors import InputError
from paperworks.papers.pc_compression import em, queries, tree_coder
from paperworks.papers.pc_compression.checks import check_memory, check_options, mask_of, most_frequent, smallest
from paperworks.papers.pc_compression.circuit import Circuit
from paperworks.papers.pc_compression.codes import as_codes
from paperworks.papers.pc_compression.em import OFFICIAL, Parameters, Passes, Phase
from paperworks.papers.pc_compression.structure import Shape, Tree, coarse_tree
from paperworks.papers.pc_compression.unrolled import unrolled
from paperworks.parameters import check_seed
from paperworks.runs.files import new_folder
from paperworks.runs.run import Progress, no_progress

FORMAT = "hidden-chow-liu-tree"
VERSION = 1
QUICK = (Phase(18, 0.2, 0.9), Phase(4, 0.9, 0.95), Phase(1, full=True))
"""A short schedule for a first model: a tenth of the official one."""


class HCLT(DensityMixin, BaseEstimator):
    """A hidden Chow-Liu tree: a latent state per inner node of the Chow-Liu tree, categorical inputs below.

    Parameters
    ----------
    n_latents : states K of each latent variable.
    n_categories : values C of each variable (0..C-1); default one more than the largest value met in ``fit``.
    shape : ``center`` roots the Chow-Liu tree at its centre; ``balanced`` rebuilds it by centroids, so that all prefix
        marginals cost O(log D) passes at most; ``balanced-center`` by centres.
    structure_bits, structure_rows : the tree is learned from the high bits of the first rows.
    pseudocount : alpha of the M-step, spread evenly over the weights that sum to 1; also smooths the joint counts.
    schedule : phases of EM, as ``Phase`` or ``(epochs, inertia at start, inertia at end)``; full-batch phases as
        ``Phase(epochs, full=True)``.
    batch_size : rows of a mini-batch.
    spread : weights start proportional to exp(-spread * u), u uniform.
    validation_fraction : share of the rows of ``fit`` kept for early stopping (0: none; a further argument of ``fit``
        gives them instead). The parameters with the best validation likelihood are kept.
    patience : epochs without an improvement on the validation rows after which training stops.
    n_jobs : threads. The fitted weights depend on it in the last bits; the code of a saved model does not.
    random_state : seed (int) of the initial weights and of the batches.

    Attributes
    ----------
    tree_ : the rooted tree. ``parameters_`` : its weights, float32. ``n_categories_``, ``n_features_in_`` : C and D.
    history_ : bits per dimension of the training rows per epoch, as they were met. ``validation_`` : of the validation
        rows. ``n_iter_`` : epochs.

    Values are integers; a missing one is -1, NaN in a float array, or masked in a masked array. Anything that is not a
    whole number from 0 to C - 1 raises InputError.
    """

    n_features_in_: int
    n_categories_: int
    _walk: tree_coder.Walk | None
    _exact_parameters: Parameters | None
    _passes: Passes

    def __init__(
        self,
        n_latents: int = 16,
        n_categories: int | None = None,
        *,
        shape: Shape = "center",
        structure_bits: int = 4,
        structure_rows: int = 5000,
        pseudocount: float = 0.1,
        schedule: Sequence[Phase | tuple[int, float, float]] = OFFICIAL,
        batch_size: int = 512,
        spread: float = 2.0,
        validation_fraction: float = 0.0,
        patience: int = 10,
        n_jobs: int | None = None,
        random_state: int = 0,
    ) -> None:
        self.n_latents = n_latents
        self.n_categories = n_categories
        self.shape = shape
        self.structure_bits = structure_bits
        self.structure_rows = structure_rows
        self.pseudocount = pseudocount
        self.schedule = schedule
        self.batch_size = batch_size
        self.spread = spread
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(
        self,
        X: Any,
        y: None = None,
        *,
        validation: Any = None,
        tree: Tree | None = None,
        progress: Progress = no_progress,
        checkpoint: Path | None = None,
    ) -> Self:
        """Learn the tree (unless one is given) and the weights from ``X`` [N, D].

        ``checkpoint`` is a file to which the state is written after every epoch, and from which a fit that was cut off
        goes on; it must belong to the same data and options.
        """
        check_seed("random_state", self.random_state)
        check_options(self, self._phases())
        codes, n_categories = as_codes(X, self.n_categories)
        rng = np.random.default_rng(self.random_state)
        held: np.ndarray | None = None
        if validation is not None:
            held = as_codes(validation, n_categories, codes.shape[1])[0]
        elif self.validation_fraction:
            order = rng.permutation(len(codes))
            kept = max(1, round(self.validation_fraction * len(codes)))
            if kept >= len(codes):
                raise InputError("X", f"{len(codes)} rows", "more rows, since some are kept for validation")
            held, codes = codes[np.sort(order[:kept])], codes[np.sort(order[kept:])]
        self.n_features_in_, self.n_categories_ = codes.shape[1], n_categories
        check_memory(self)
        options: dict[str, Any] = {
            "bits": self.structure_bits,
            "rows": self.structure_rows,
            "pseudocount": self.pseudocount or 0.1,
        }
        self.tree_ = coarse_tree(codes, n_categories, shape=self.shape, **options) if tree is None else tree
        if len(self.tree_.parents) != codes.shape[1]:
            raise InputError("tree", f"{len(self.tree_.parents)} variables", f"{codes.shape[1]}, as X has")
        self.background_ = most_frequent(codes, n_categories)
        self._forget()
        self.parameters_ = Parameters.random(
            len(self._passes.layout.inner),
            codes.shape[1],
            n_categories,
            self.n_latents,
            self.spread,
            np.random.default_rng([self.random_state, 1]),
        )
        self._climb(codes, held, progress, checkpoint)
        return self

    def partial_fit(self, X: Any, y: None = None, *, inertia: float = 0.9) -> Self:
        """One mini-batch step of EM with all rows of ``X``; the first call is a ``fit`` of one such step."""
        if not 0 <= inertia < 1:
            raise InputError("inertia", inertia, "at least 0 and less than 1")
        if not hasattr(self, "parameters_"):
            schedule, self.schedule = self.schedule, (Phase(1, full=True),)
            try:
                return self.fit(X)
            finally:
                self.schedule = schedule
        codes = self._codes(X)
        flows, _ = self._passes.expect(self.parameters_, codes)
        em.maximise(self.parameters_, flows, self.pseudocount, inertia)
        self._forget()
        return self

    def score_samples(self, X: Any) -> np.ndarray:
        """log p(x) in nats, float64 [N]; missing values are summed out."""
        codes = self._codes(X)
        return self._passes.log_likelihood(self._exact, codes)

    def score(self, X: Any, y: None = None) -> float:
        """Mean log-likelihood in nats."""
        return float(self.score_samples(X).mean())

    def bpd(self, X: Any) -> float:
        """Bits per dimension: mean of -log2 p(x) / D."""
        nats = -self.score(X)
        return nats / self.n_features_in_ / np.log(2)

    def marginal(self, X: Any, mask: Any) -> np.ndarray:
        """log P of the values of ``X`` [N, D] where ``mask`` ([D] or [N, D], bool) is true, the others summed out."""
        codes = self._masked(X, mask)
        return self._passes.log_likelihood(self._exact, codes)

    def conditional(self, X: Any, mask: Any, variable: int) -> np.ndarray:
        """P(x_variable | values of ``X`` where ``mask`` is true), float64 [N, C]; ``variable`` itself is summed out."""
        codes = self._masked(X, mask)
        if not 0 <= variable < self.n_features_in_:
            raise InputError("variable", variable, f"0 to {self.n_features_in_ - 1}")
        codes[:, variable] = self.n_categories_
        return queries.conditional(self.tree_, self._passes.layout, self._exact, codes, variable)

    def sample(
        self, n: int = 1, random_state: int | np.random.Generator | None = None, *, given: Any = None
    ) -> np.ndarray:
        """Draw ``n`` rows, [n, D]; with ``given`` [D] or [n, D], its missing values are drawn given the others."""
        check_is_fitted(self)
        if n < 1:
            raise InputError("n", n, "1 or more")
        rng = np.random.default_rng(self.random_state if random_state is None else random_state)
        if given is None:
            codes = np.full((n, self.n_features_in_), self.n_categories_, dtype=np.uint16)
        else:
            codes = np.broadcast_to(self._codes(np.atleast_2d(given)), (n, self.n_features_in_)).copy()
        return queries.complete(self._passes.layout, self._exact, codes, rng).astype(smallest(self.n_categories_))

    def impute(self, X: Any, random_state: int | np.random.Generator | None = None) -> np.ndarray:
        """``X`` with every missing value drawn from the model given the values that are there."""
        codes = self._codes(X)
        rng = np.random.default_rng(self.random_state if random_state is None else random_state)
        return queries.complete(self._passes.layout, self._exact, codes, rng).astype(smallest(self.n_categories_))

    def flows(self, X: Any) -> Parameters:
        """Expected counts of every weight over ``X``, float64, in the layout of ``parameters_``."""
        codes, exact = self._codes(X), self._exact
        flows = self._passes.expect(exact, codes)[0].copy()
        flows.transitions *= exact.transitions
        return flows

    def circuit(self) -> Circuit:
        """The same distribution as an explicit circuit of sum, product and input units."""
        check_is_fitted(self)
        return unrolled(self.tree_, self._passes.layout, self.walk)

    @property
    def walk(self) -> tree_coder.Walk:
        """The coder's tables of this model (float64, the same on every machine)."""
        check_is_fitted(self)
        if self._walk is None:
            self._walk = tree_coder.walk_of(self.tree_, self.parameters_)
        return self._walk

    @property
    def sha256(self) -> str:
        """SHA-256 of tree and weights: what a compressed file names its model by."""
        check_is_fitted(self)
        digest = hashlib.sha256(f"{FORMAT} {VERSION} {self.n_latents} {self.n_categories_}".encode())
        digest.update(self.tree_.parents.astype("<i4").tobytes())
        for array in (self.parameters_.prior, self.parameters_.transitions[:-1], self.parameters_.inputs[:, :-1]):
            digest.update(np.ascontiguousarray(array).astype("<f4").tobytes())
        return digest.hexdigest()

    def save(self, folder: str | Path, about: dict[str, Any] | None = None) -> Path:
        """Write ``model.safetensors`` and ``model.json`` into a new folder; ``about`` is kept under that key."""
        from safetensors.numpy import save_file

        check_is_fitted(self)
        options = self.get_params() | {"schedule": [list(p.__dict__.values()) for p in self._phases()]}
        meta = {
            "format": FORMAT,
            "version": VERSION,
            "variables": self.n_features_in_,
            "categories": self.n_categories_,
            "latents": self.n_latents,
            "parents": self.tree_.parents.tolist(),
            "order": self.walk.order.tolist(),
            "sha256": self.sha256,
            "options": options,
            "history": self.history_,
            "validation": self.validation_,
            "about": about or {},
        }
        arrays = {
            "prior": self.parameters_.prior,
            "transitions": self.parameters_.transitions[:-1],
            "inputs": np.ascontiguousarray(self.parameters_.inputs[:, :-1]),
            "background": self.background_.astype(np.int32),
        }
        with new_folder(Path(folder)) as target:
            save_file(arrays, target / "model.safetensors", metadata={"format": FORMAT})
            meta["file_sha256"] = hashlib.sha256((target / "model.safetensors").read_bytes()).hexdigest()
            # options may be numbers of numpy, as those that a search over a grid sets
            text = json.dumps(meta, indent=1, default=lambda value: value.item())
            (target / "model.json").write_text(text + "\n", encoding="utf-8")
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path) -> HCLT:
        """Read a saved model. Raises InputError where a file is missing, damaged or of another kind."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        place = Path(folder)
        try:
            meta = json.loads((place / "model.json").read_text(encoding="utf-8"))
            found = hashlib.sha256((place / "model.safetensors").read_bytes()).hexdigest()
            if meta.get("file_sha256") != found:
                raise ValueError("the weights are not those that model.json names")
            arrays = load_file(place / "model.safetensors")
        except (OSError, ValueError, AttributeError, SafetensorError) as error:
            raise InputError(
                "model", f"{place} ({error})", "a folder with model.json and model.safetensors, as save() writes it"
            ) from None
        if meta.get("format") != FORMAT or meta.get("version") != VERSION:
            raise InputError("model", f"{meta.get('format')} version {meta.get('version')}", f"{FORMAT} {VERSION}")
        options = dict(meta["options"])
        options["schedule"] = tuple(Phase(*p) for p in options["schedule"])
        model = cls(**options)
        model.tree_ = Tree.from_parents(meta["parents"])
        model.n_features_in_, model.n_categories_ = meta["variables"], meta["categories"]
        model.background_ = arrays["background"].astype(np.uint16)
        model.history_, model.validation_, model.about_ = meta["history"], meta["validation"], meta["about"]
        model.n_iter_ = len(model.history_)
        k, d, c = model.n_latents, model.n_features_in_, model.n_categories_
        model._forget()
        inner = len(model._passes.layout.inner)
        shapes = {"prior": (k,), "transitions": (inner - 1, k, k), "inputs": (d, c, k)}
        for name, shape in shapes.items():
            if arrays[name].shape != shape or arrays[name].dtype != np.float32:
                raise InputError("model", f"{name} of shape {arrays[name].shape}", f"float32 of shape {shape}")
        inputs = np.ones((d, c + 1, k), dtype=np.float32)
        inputs[:, :-1] = arrays["inputs"]
        transitions = np.concatenate([arrays["transitions"], np.full((1, k, k), 1 / k, dtype=np.float32)])
        model.parameters_ = Parameters(arrays["prior"], transitions, inputs)
        if model.sha256 != meta["sha256"]:
            raise InputError("model", "weights that are not those of model.json", "an undamaged pair of files")
        return model

    def _codes(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return as_codes(X, self.n_categories_, self.n_features_in_)[0]

    def _masked(self, X: Any, mask: Any) -> np.ndarray:
        codes = self._codes(X).copy()
        codes[~mask_of(mask, codes.shape)] = self.n_categories_
        return codes

    def _forget(self) -> None:
        """Drop what was derived from older parameters."""
        self._walk = None
        self._exact_parameters = None
        self._passes = Passes(self.tree_, self.background_, effective_n_jobs(self.n_jobs))

    @property
    def _exact(self) -> Parameters:
        """The coder's float64 weights, for scoring."""
        if self._exact_parameters is None:
            walk = self.walk
            inputs = np.concatenate([walk.inputs, np.ones_like(walk.inputs[:, :1])], 1)
            self._exact_parameters = Parameters(walk.prior, walk.down, inputs)
        return self._exact_parameters

    def _phases(self) -> list[Phase]:
        return [p if isinstance(p, Phase) else Phase(*p) for p in self.schedule]

    def _climb(self, codes: np.ndarray, held: np.ndarray | None, progress: Progress, checkpoint: Path | None) -> None:
        self.history_: list[float] = []
        self.validation_: list[float] = []
        best: Parameters | None = None
        scale = -1 / self.n_features_in_ / np.log(2)
        plan = list(enumerate(em.epochs_of(self._phases())))
        identity = "" if checkpoint is None else em.identity_of(self, plan, codes, held)
        if checkpoint is not None and checkpoint.exists():
            best = self._resume(checkpoint, identity)
        stale = len(self.validation_) - 1 - int(np.argmin(self.validation_)) if self.validation_ else 0
        for epoch, (full, inertia) in progress(plan[len(self.history_) :], "epochs"):
            if held is not None and stale >= self.patience:
                break
            mean = em.run_epoch(
                self._passes,
                self.parameters_,
                codes,
                full=full,
                inertia=inertia,
                batch_size=self.batch_size,
                pseudocount=self.pseudocount,
                rng=np.random.default_rng([self.random_state, 2, epoch]),
            )
            self.history_.append(mean * scale)
            if held is not None:
                found = float(self._passes.log_likelihood(self.parameters_, held).mean() * scale)
                if not self.validation_ or found < min(self.validation_):
                    best, stale = self.parameters_.copy(), 0
                else:
                    stale += 1
                self.validation_.append(found)
            if checkpoint is not None:
                names = ("best_prior", "best_transitions", "best_inputs")
                more = dict(zip(names, best.arrays(), strict=True)) if best else {}
                self.parameters_.save(
                    checkpoint, identity=identity, history=self.history_, validation=self.validation_, **more
                )
        if best is not None:
            self.parameters_ = best
        self.n_iter_ = len(self.history_)
        self._forget()

    def _resume(self, checkpoint: Path, identity: str) -> Parameters | None:
        with np.load(checkpoint) as kept:
            if "identity" not in kept or str(kept["identity"]) != identity:
                raise InputError("checkpoint", str(checkpoint), "one of the same data and options")
            self.parameters_ = Parameters(kept["prior"], kept["transitions"], kept["inputs"])
            self.history_, self.validation_ = kept["history"].tolist(), kept["validation"].tolist()
            if "best_prior" in kept:
                return Parameters(kept["best_prior"], kept["best_transitions"], kept["best_inputs"])
        return None
