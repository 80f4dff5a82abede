"""What one training does to each example: recorded at its mini-batch, before the update, in training mode."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np
import torch

from paperworks.errors import InputError
from paperworks.training import Batch, Loss, TrainingCallback

_FIELDS = ("correct", "margin", "probability_margin", "error", "loss")


class TrainingDynamics(TrainingCallback):
    """Records every presentation of every example of one training: ``fit(..., dynamics=TrainingDynamics(n))``.

    The k-th presentation of a row is its k-th epoch where every row is read once an epoch. Kept are, float32
    ``[presentations, n]`` and NaN where a row was not presented so often: whether the prediction was right, the margin
    ``z_y - max_{c != y} z_c`` of logits and of probabilities, the error norm ``|| p - e_y ||_2``, and the
    cross-entropy. They are in the training's checkpoints. In several processes every process has all of them.

    For a loop of your own, call ``record(index, labels, logits)`` for every batch.

    Parameters
    ----------
    n : number of examples.
    """

    def __init__(self, n: int) -> None:
        if n < 1:
            raise InputError("n", n, "at least one example")
        self.n = n
        self._counts = np.zeros(n, dtype=np.int64)
        self._values = {name: np.empty((0, n), dtype=np.float32) for name in _FIELDS}

    @property
    def presentations(self) -> np.ndarray:
        """How often each row was presented, int64 ``[n]``."""
        return self._counts.copy()

    def values(self, name: Literal["correct", "margin", "probability_margin", "error", "loss"]) -> np.ndarray:
        """One of the recorded values, float32 ``[presentations, n]``."""
        if name not in _FIELDS:
            raise InputError("name", repr(name), f"one of {', '.join(_FIELDS)}")
        return self._values[name][: int(self._counts.max(initial=0))]

    def aum(self, kind: Literal["logits", "probabilities"] = "logits") -> np.ndarray:
        """Area under the margin: its mean over presentations, float64 ``[n]`` (Pleiss et al. 2020). Low is hard."""
        if kind not in ("logits", "probabilities"):
            raise InputError("kind", repr(kind), "'logits' or 'probabilities'")
        return self._mean("margin" if kind == "logits" else "probability_margin")

    def el2n(self, first: int | None = None) -> np.ndarray:
        """Mean of the error norm over the first presentations (None: all), float64 ``[n]``; CCS sums the first ten."""
        return self._mean("error", first)

    def forgetting(self, never_learned: float = np.inf) -> np.ndarray:
        """How often a row went from right to wrong between two presentations, float64 ``[n]`` (Toneva et al. 2019).

        A row that was never right has ``never_learned``.
        """
        correct = self.values("correct")
        events = ((correct[:-1] == 1) & (correct[1:] == 0)).sum(0).astype(np.float64)
        events[(self._counts > 0) & ~(correct == 1).any(0)] = never_learned
        return np.where(self._counts > 0, events, np.nan)

    def correctness(self) -> np.ndarray:
        """Number of presentations at which the prediction was right, float64 ``[n]``."""
        return np.where(self._counts > 0, np.nansum(self.values("correct"), axis=0), np.nan)

    def final_loss(self) -> np.ndarray:
        """Cross-entropy at the last presentation, float64 ``[n]``."""
        last = np.maximum(self._counts - 1, 0)
        values = self.values("loss")
        if not len(values):
            return np.full(self.n, np.nan)
        return np.where(self._counts > 0, values[last, np.arange(self.n)].astype(np.float64), np.nan)

    def recording(self, loss: Loss) -> Loss:
        """A loss with the same values whose batches, with ``index`` and ``labels``, are recorded."""

        def recorded(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
            seen: list[Any] = []
            handle = model.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
            try:
                result = loss(model, batch)
            finally:
                handle.remove()
            output = seen[0]
            logits = output["logits"] if isinstance(output, Mapping) else getattr(output, "logits", output)
            self.record(batch["index"], batch["labels"], logits)
            return result

        return recorded

    def record(self, index: torch.Tensor, labels: torch.Tensor, logits: torch.Tensor) -> None:
        """Note a batch: row numbers ``[b]``, classes ``[b]``, logits ``[b, C]``."""
        rows, classes, z = (_gathered(t.detach()) for t in (index, labels, logits))
        z = z.astype(np.float64)
        p = np.exp(z - z.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        at = np.arange(len(rows))
        others_z, others_p = z.copy(), p.copy()
        others_z[at, classes] = others_p[at, classes] = -np.inf
        error = p.copy()
        error[at, classes] -= 1
        log_sum = z.max(1) + np.log(np.exp(z - z.max(1, keepdims=True)).sum(1))
        found = {
            "correct": (z.argmax(1) == classes).astype(np.float32),
            "margin": z[at, classes] - others_z.max(1),
            "probability_margin": p[at, classes] - others_p.max(1),
            "error": np.linalg.norm(error, axis=1),
            "loss": log_sum - z[at, classes],
        }
        while len(at):  # a row that is in a batch twice (small sets) was presented twice
            _, first = np.unique(rows[at], return_index=True)
            some = at[first]
            self._note(rows[some], {name: value[some] for name, value in found.items()})
            at = np.delete(at, first)

    def check_size(self, n: int) -> None:
        """Raise InputError if a set has another number of examples than this."""
        if n != self.n:
            raise InputError("dynamics", f"for {self.n} examples", f"for {n}, as the data have")

    def state_dict(self) -> Mapping[str, Any]:
        return {name: torch.from_numpy(value) for name, value in self._arrays().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._set({name: value.numpy() for name, value in state.items()}, "state")

    def save(self, file: Path | str) -> None:
        """Write all that was recorded as ``.npz``."""
        with Path(file).open("xb") as out:
            np.savez_compressed(out, allow_pickle=False, **self._arrays())

    @classmethod
    def load(cls, file: Path | str) -> TrainingDynamics:
        """Read back ``save``. Raises InputError for another file."""
        try:
            with np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            found = cls(len(arrays["counts"]))
            found._set(arrays, str(file))
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise InputError("file", f"{file} ({error})", "a file that TrainingDynamics.save wrote") from None
        return found

    def _arrays(self) -> dict[str, np.ndarray]:
        return {"counts": self._counts.copy(), **{name: self.values(name).copy() for name in _FIELDS}}  # type: ignore[arg-type]

    def _set(self, arrays: Mapping[str, np.ndarray], source: str) -> None:
        shape = (int(arrays["counts"].max(initial=0)), self.n)
        if arrays["counts"].shape != (self.n,) or any(arrays[name].shape != shape for name in _FIELDS):
            raise InputError(source, f"dynamics of {len(arrays['counts'])} examples", f"those of {self.n}")
        self._counts = np.array(arrays["counts"])
        self._values = {name: np.array(arrays[name]) for name in _FIELDS}

    def _note(self, rows: np.ndarray, found: Mapping[str, np.ndarray]) -> None:
        turns = self._counts[rows]
        needed = int(turns.max(initial=-1)) + 1
        for name, table in self._values.items():
            if needed > len(table):
                more = np.full((max(needed - len(table), len(table), 4), self.n), np.nan, dtype=np.float32)
                self._values[name] = table = np.concatenate([table, more])
            table[turns, rows] = found[name]
        self._counts[rows] += 1

    def _mean(self, name: Any, first: int | None = None) -> np.ndarray:
        if first is not None and first < 1:
            raise InputError("first", first, "1 or more presentations")
        values = self.values(name)[:first].astype(np.float64)
        counts = np.minimum(self._counts, len(values))
        return np.where(counts > 0, np.nansum(values, axis=0) / np.maximum(counts, 1), np.nan)


class CallAtSteps(TrainingCallback):
    """Call functions when so many steps are done, and keep what they return: scores of an early model, say.

    Parameters
    ----------
    function : called without arguments, between two steps; it must leave the model as it is.
    steps : numbers of steps done, from 1; 0 is before the first.

    Attributes
    ----------
    results : steps -> what the function returned (arrays).
    """

    def __init__(self, function: Callable[[], np.ndarray], steps: Iterable[int]) -> None:
        self.function, self.steps = function, frozenset(steps)
        if not self.steps or min(self.steps) < 0:
            raise InputError("steps", sorted(self.steps), "numbers of 0 or more")
        self.results: dict[int, np.ndarray] = {}

    def before_step(self, step: int) -> None:
        if step == 0 and 0 in self.steps:
            self.results[0] = self.function()

    def after_step(self, step: int, loss: float, learning_rate: float) -> None:
        if step + 1 in self.steps:
            self.results[step + 1] = self.function()

    def state_dict(self) -> Mapping[str, Any]:
        return {str(step): torch.from_numpy(value) for step, value in self.results.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.results = {int(step): value.numpy() for step, value in state.items()}


def _gathered(value: torch.Tensor) -> np.ndarray:
    """A tensor of all processes, in their order."""
    value = value.float() if value.is_floating_point() else value
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        parts = [torch.empty_like(value) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, value.contiguous())
        value = torch.cat(parts)
    return value.cpu().numpy()
