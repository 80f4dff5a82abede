"""An ensemble of trained networks that permutes bits exactly, as a scikit-learn estimator.

    fit (k unit vectors) ──> N networks, each from (seed, index) ──> average of outputs ──> rounded bits

Networks are trained in small stacks and streamed: only their weights are kept, or only the running sums of their
outputs on a fixed set of probe rows. Ensembles of other indices can be added later, or merged from other machines.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from paperworks.errors import InputError
from paperworks.nn import resolve_device
from paperworks.papers.permutations_ntk.bits import (
    Bits,
    apply_permutation,
    as_bit_rows,
    as_permutation,
    permutation_of_examples,
    places_of,
)
from paperworks.papers.permutations_ntk.ensemble_size import Threshold, required_models
from paperworks.papers.permutations_ntk.kernels import trained_moments, unit_rows
from paperworks.papers.permutations_ntk.limit import output_moments, round_outputs
from paperworks.papers.permutations_ntk.networks import (
    TOLERANCE,
    Descent,
    Members,
    NetworkSpec,
    Parametrization,
    TrainedLayers,
    draw_members,
)
from paperworks.papers.permutations_ntk.theory import GradientDescent, require_whole
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress

STACK_FLOATS = 2**19
"""Weights of one stack of members: small enough for the processor's cache."""

_SETTINGS = ("width", "parametrization", "bias", "sigma_w", "trained_layers", "learning_rate", "steps", "tolerance")


class PermutationEnsemble(BaseEstimator):
    """N independently trained two-layer networks, averaged and rounded.

    Parameters
    ----------
    n_estimators : number of networks, or ``"auto"``: as many as make all 2^k - 1 inputs right with probability
        1 - delta in the limit of infinite width (by exact tails).
    delta : probability of failure for ``"auto"``.
    width : hidden units m per network.
    parametrization : ``ntk`` (the paper's theory) or ``standard`` (the official code).
    trained_layers : ``all`` or ``last``.
    bias, sigma_w : see ``NetworkSpec``.
    learning_rate : of full-batch gradient descent on half the sum of squares; None is 1 / (the kernel's largest
        eigenvalue), which is k / (1 + (k - 1) / (2 pi)) for the ntk parametrisation.
    steps : a fixed number of steps; None trains until the root mean square residual is below ``tolerance``.
    threshold : ``zero`` (the paper's rounding; rows with a single one, which are training rows, are cut at 1/2),
        ``midpoint``, or a number.
    keep : ``weights`` keeps every network (any input can be asked later); ``probe`` keeps only the sums of outputs on
        the ``probe`` rows given to ``fit``.
    general : train on any rows of bits instead of the k unit vectors. Training rows are then cut at 1/2.
    first_member : index of the first network. Machines with the same ``random_state`` and disjoint indices train
        parts of one ensemble, to be ``merge``d.
    random_state : seed, a whole number. Network i depends on (random_state, i) only.
    device : a torch device, or ``auto``.

    Attributes after ``fit``
    ----------
    permutation_ : positions (k,), or None with ``general``.
    n_members_ : networks so far. members_ : their index ranges [start, stop).
    probe_, probe_mean_, probe_variance_ : probe rows (num, k), and mean and variance over networks (num, k), float64.
    """

    def __init__(
        self,
        n_estimators: int | Literal["auto"] = "auto",
        *,
        delta: float = 0.1,
        width: int = 4096,
        parametrization: Parametrization = "ntk",
        trained_layers: TrainedLayers = "all",
        bias: bool = False,
        sigma_w: float = 1.0,
        learning_rate: float | None = None,
        steps: int | None = None,
        tolerance: float = TOLERANCE,
        threshold: Threshold | float = "zero",
        keep: Literal["weights", "probe"] = "weights",
        general: bool = False,
        first_member: int = 0,
        random_state: int = 0,
        device: str = "cpu",
    ) -> None:
        self.n_estimators = n_estimators
        self.delta = delta
        self.width = width
        self.parametrization = parametrization
        self.trained_layers = trained_layers
        self.bias = bias
        self.sigma_w = sigma_w
        self.learning_rate = learning_rate
        self.steps = steps
        self.tolerance = tolerance
        self.threshold = threshold
        self.keep = keep
        self.general = general
        self.first_member = first_member
        self.random_state = random_state
        self.device = device

    def fit(
        self,
        X: ArrayLike,
        Y: ArrayLike | None = None,
        *,
        probe: ArrayLike | None = None,
        progress: Progress = no_progress,
    ) -> PermutationEnsemble:
        """Train the networks.

        Parameters
        ----------
        X : a permutation (positions (k,) or a matrix (k, k)) when Y is None; else the training inputs (rows, k) of
            0 and 1: the k unit vectors in any order, or any nonzero rows with ``general``.
        Y : their outputs (rows, k) of 0 and 1.
        probe : rows (num, k) on which sums of outputs are kept while the networks are trained.

        Raises InputError naming what is wrong with a row, a permutation or an option, and when the weights to keep
        would not fit into memory.
        """
        self._prepare(X, Y, probe)
        if self.n_estimators == "auto":
            count = required_models(
                self.spec_.inputs,
                self.delta,
                method="tails",
                threshold="midpoint" if self.threshold == "midpoint" else "zero",
                kernel=self.spec_.kernel,
                sigma_w=self.sigma_w,
                training=self._limit_training(),
            )
        else:
            count = self.n_estimators
        return self.extend(count, progress=progress)

    def _prepare(self, X: ArrayLike, Y: ArrayLike | None, probe: ArrayLike | None) -> None:
        """Everything of ``fit`` but the training itself."""
        self._check_options()
        self._set_training_rows(X, Y)
        k, outputs = self.X_fit_.shape[1], self.Y_fit_.shape[1]
        self.spec_ = NetworkSpec(
            k, outputs, self.width, self.parametrization, self.bias, self.sigma_w, self.trained_layers
        )
        inputs = unit_rows(self.X_fit_)
        self.descent_ = Descent.plan(
            self.spec_, inputs, learning_rate=self.learning_rate, steps=self.steps, tolerance=self.tolerance
        )
        self._rows = torch.tensor(inputs, dtype=torch.float32, device=self._place)
        self._targets = torch.tensor(self.Y_fit_, dtype=torch.float32, device=self._place)
        self.probe_ = np.zeros((0, k), dtype=np.uint8) if probe is None else as_bit_rows(probe, k, field="probe")
        self._sum = np.zeros((len(self.probe_), outputs))
        self._squares = np.zeros((len(self.probe_), outputs))
        self._stacks: list[Members] = []
        self.members_: list[tuple[int, int]] = []
        self.n_members_ = 0

    def _set_training_rows(self, X: ArrayLike, Y: ArrayLike | None) -> None:
        self.permutation_: NDArray[np.int64] | None
        if Y is None:
            if self.general:
                raise InputError("Y", "nothing", "outputs (rows, k) with general=True")
            self.permutation_ = as_permutation(X, "X")
            k = len(self.permutation_)
            self.X_fit_: Bits = np.eye(k, dtype=np.uint8)
            self.Y_fit_: Bits = apply_permutation(self.permutation_, self.X_fit_)
            return
        inputs = as_bit_rows(X)
        if self.general:
            self.permutation_ = None
            self.X_fit_, self.Y_fit_ = inputs, as_bit_rows(Y, zeros=True, field="Y")
            if len(self.X_fit_) != len(self.Y_fit_):
                raise InputError("Y", f"{len(self.Y_fit_)} rows", f"{len(self.X_fit_)} rows, one per row of X")
            return
        self.permutation_, unit = permutation_of_examples(inputs, Y)
        if not unit.all() or len(unit) != inputs.shape[1]:
            found = f"{len(unit)} rows, of which {int(unit.sum())} have a single 1"
            raise InputError("X", found, "the k unit vectors, once each, or general=True")
        self.X_fit_, self.Y_fit_ = inputs, np.asarray(Y).astype(np.uint8)

    def _check_options(self) -> None:
        if self.n_estimators == "auto":
            if self.general:
                raise InputError("n_estimators", "'auto' with general=True", "a whole number of 1 or more")
        elif isinstance(self.n_estimators, str):
            raise InputError("n_estimators", repr(self.n_estimators), "'auto' or a whole number of 1 or more")
        else:
            require_whole("n_estimators", self.n_estimators)
        if self.keep not in ("weights", "probe"):
            raise InputError("keep", repr(self.keep), "'weights' or 'probe'")
        number = isinstance(self.threshold, (int, float, np.number)) and np.isfinite(self.threshold)
        if not number and self.threshold not in ("zero", "midpoint"):
            raise InputError("threshold", repr(self.threshold), "'zero', 'midpoint' or a number")
        theory = self.parametrization == "ntk" and self.trained_layers == "all" and self.steps is None
        if self.threshold == "midpoint" and (self.general or not theory):
            raise InputError(
                "threshold", "'midpoint'", "'zero' or a number: the midpoint is that of the ntk at convergence"
            )
        require_whole("first_member", self.first_member, 0)
        check_seed("random_state", self.random_state)
        resolve_device(self.device)

    @property
    def _place(self) -> str:
        return str(resolve_device(self.device))

    def extend(self, count: int, *, progress: Progress = no_progress) -> PermutationEnsemble:
        """Train ``count`` more networks and add them."""
        check_is_fitted(self, "spec_")
        require_whole("count", count)
        _require_memory(self.spec_, count if self.keep == "weights" else 1)
        start = max([self.first_member, *(stop for _, stop in self.members_)])
        floats = self.spec_.member_bytes // 4
        size = max(1, min(count, STACK_FLOATS // floats))
        stacks = [range(i, min(i + size, start + count)) for i in range(start, start + count, size)]
        probe = torch.tensor(_unit_or_empty(self.probe_), dtype=torch.float32, device=self._place)
        for indices in progress(stacks, f"training networks of width {self.width}"):
            members = draw_members(self.spec_, self.random_state, indices, device=self._place)
            self.descent_.run(members, self._rows, self._targets)
            if len(self.probe_):
                outputs = members.outputs(probe).double()
                self._sum += outputs.sum(0).cpu().numpy()
                self._squares += outputs.square().sum(0).cpu().numpy()
            if self.keep == "weights":
                self._stacks.append(members)
            self.members_ = _joined([*self.members_, (indices.start, indices.stop)])
            self.n_members_ += len(indices)
        return self

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Outputs averaged over the networks, (num, k), at the normalised rows of X.

        Raises InputError for a row that is not among the probe rows when only their sums were kept.
        """
        check_is_fitted(self, "spec_")
        table = as_bit_rows(X, self.spec_.inputs)
        if self.keep == "probe":
            places = places_of(table, self.probe_)
            if (places < 0).any():
                where = int((places < 0).argmax())
                raise InputError(f"X, row {where}", "a row that was not probed", "a probe row, or keep='weights'")
            return self.probe_mean_[places]
        rows = torch.tensor(_unit_or_empty(table), dtype=torch.float32, device=self._place)
        total = np.zeros((len(table), self.spec_.outputs))
        for members in self._stacks:
            total += members.outputs(rows).double().sum(0).cpu().numpy()
        return total / self.n_members_

    def predict(self, X: ArrayLike) -> Bits:
        """Bits (num, k), uint8: the rounded ``decision_function``."""
        return self.round(self.decision_function(X), X)

    def score(self, X: ArrayLike, Y: ArrayLike) -> float:
        """Share of rows whose bits are all right."""
        return float((self.predict(X) == np.asarray(Y)).all(axis=1).mean())

    def round(self, outputs: ArrayLike, X: ArrayLike) -> Bits:
        """Averaged outputs (num, k) at rows X as bits, by the ensemble's threshold."""
        check_is_fitted(self, "spec_")
        if not self.general and self.threshold in ("zero", "midpoint"):
            return round_outputs(outputs, X, self.threshold)  # type: ignore[arg-type]
        table = as_bit_rows(X, self.spec_.inputs)
        cut = np.zeros(len(table)) if isinstance(self.threshold, str) else np.full(len(table), float(self.threshold))
        trained = {row.tobytes() for row in self.X_fit_}
        cut[[row.tobytes() in trained for row in table]] = 0.5
        return (np.asarray(outputs) > cut[:, None]).astype(np.uint8)

    def predict_moments(self, X: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What theory says of a single network's outputs at infinite width: mean and standard deviation, (num, k)."""
        check_is_fitted(self, "spec_")
        table = as_bit_rows(X, self.spec_.inputs)
        training = self._limit_training()
        if self.general:
            mean, covariance = trained_moments(
                unit_rows(self.X_fit_),
                self.Y_fit_,
                unit_rows(table),
                kernel=self.spec_.kernel,
                sigma_w=self.sigma_w,
                training=training,
            )
            std = np.sqrt(np.maximum(np.diag(covariance), 0.0))
            return mean, np.repeat(std[:, None], mean.shape[1], axis=1)
        assert self.permutation_ is not None
        return output_moments(
            self.permutation_, table, kernel=self.spec_.kernel, sigma_w=self.sigma_w, training=training
        )

    def _limit_training(self) -> GradientDescent | None:
        """The limit's counterpart of a fixed number of steps."""
        if self.steps is None:
            return None
        # In the standard parametrisation the kernel is about m / sigma_w^2 times the limit's: so is the effective rate.
        factor = self.width / self.sigma_w**2 if self.parametrization == "standard" else 1.0
        return GradientDescent(self.descent_.learning_rate * factor, self.steps)

    @property
    def probe_mean_(self) -> NDArray[np.float64]:
        """Mean output over networks on the probe rows, (num, k)."""
        check_is_fitted(self, "spec_")
        return self._sum / self.n_members_

    @property
    def probe_variance_(self) -> NDArray[np.float64]:
        """Unbiased variance over networks on the probe rows, (num, k); needs two networks."""
        check_is_fitted(self, "spec_")
        if self.n_members_ < 2:
            raise InputError("n_estimators", self.n_members_, "2 or more for a variance")
        return np.maximum(self._squares - self._sum**2 / self.n_members_, 0.0) / (self.n_members_ - 1)

    def merge(self, other: PermutationEnsemble) -> PermutationEnsemble:
        """Add the networks of another ensemble of the same kind, in place.

        Raises InputError where the two were trained differently, on other rows, or share networks.
        """
        check_is_fitted(self, "spec_")
        check_is_fitted(other, "spec_")
        for name in (*_SETTINGS, "keep", "general"):
            if getattr(self, name) != getattr(other, name):
                raise InputError(name, f"{getattr(other, name)!r} in the other ensemble", repr(getattr(self, name)))
        for name in ("X_fit_", "Y_fit_", "probe_"):
            if not np.array_equal(getattr(self, name), getattr(other, name)):
                raise InputError(name, "other rows in the other ensemble", "the same rows in the same order")
        if self.random_state != other.random_state:
            raise InputError("random_state", other.random_state, f"{self.random_state}, with other indices")
        for start, stop in other.members_:
            if any(start < b and a < stop for a, b in self.members_):
                raise InputError("members", f"networks {start} to {stop - 1} in both", "networks of other indices")
        self._sum += other._sum
        self._squares += other._squares
        self._stacks += other._stacks
        self.members_ = _joined([*self.members_, *other.members_])
        self.n_members_ += other.n_members_
        return self

    def save(self, path: Path | str) -> Path:
        """Write everything into one .safetensors file, which must not exist yet."""
        from paperworks.papers.permutations_ntk.storage import save_ensemble

        return save_ensemble(self, Path(path))

    @classmethod
    def load(cls, path: Path | str, device: str = "cpu") -> PermutationEnsemble:
        """Read what ``save`` wrote; it can be extended and merged like the original."""
        from paperworks.papers.permutations_ntk.storage import load_ensemble

        return load_ensemble(Path(path), device)


def _unit_or_empty(rows: Bits) -> NDArray[np.float64]:
    return unit_rows(rows) if len(rows) else rows.astype(np.float64)


def _joined(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Index ranges in order, neighbours made one."""
    out: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if out and out[-1][1] == start:
            out[-1] = (out[-1][0], stop)
        else:
            out.append((start, stop))
    return out


def _require_memory(spec: NetworkSpec, count: int) -> None:
    import psutil

    # While it is trained, a network needs its weights about three times: drawn, in use, and activations with gradients.
    needed, free = spec.member_bytes * (count + 2), psutil.virtual_memory().available
    if needed > 0.8 * free:
        raise InputError(
            "n_estimators" if count > 1 else "width",
            f"{count} networks of {spec.member_bytes / 2**20:.1f} MiB, {needed / 2**30:.1f} GiB in training",
            f"at most {0.8 * free / 2**30:.1f} GiB: fewer or narrower networks, or keep='probe'",
        )
