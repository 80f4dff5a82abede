"""Where the batches of a training come from: rows of a set, generators, streams.

A source gives the examples of every step as a function of the seed and of the step's number, so that a training that
was stopped and resumed sees what one that was not stopped sees, without doing the steps before again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from paperworks.errors import InputError
from paperworks.parameters import check_seed
from paperworks.training.losses import Batch
from paperworks.training.samplers import RowOrder, Sampler, Shuffled

Example = Mapping[str, Any]
"""One example: tensors, arrays or numbers by name."""

Collate = Callable[[list[Example]], Batch]
"""Makes a batch of examples: tensors with the examples along their first axis."""


class BatchSource(ABC):
    """The batches of a training.

    ``train`` asks for the examples of a step in parts: one part per process and forward pass. All parts of a step have
    ``per_step`` examples together. Implement ``batch``; and ``steps``, where the data has an end.
    """

    @abstractmethod
    def batch(self, step: int, part: range, *, per_step: int, seed: int) -> Batch:
        """Some of the examples of one step.

        Parameters
        ----------
        step : number of the step, from 0.
        part : which of the step's examples, in ``range(per_step)``.
        per_step : examples of one step, over all processes.
        seed : the training's.

        Returns
        -------
        tensors whose first axis has ``len(part)`` entries; on any device.
        """

    def steps(self, epochs: float, per_step: int) -> int:
        """Steps of ``epochs`` passes over the data. Raises InputError naming ``steps`` where the data has no end."""
        raise InputError("steps", None, "a number of steps: the data has no end that is known")

    def identity(self) -> dict[str, Any]:
        """What a resumed training must share with the one it goes on from: plain values by name."""
        return {}


class Rows(BatchSource):
    """Examples that have numbers: a PyTorch data set, a sequence, a table of tensors.

    Parameters
    ----------
    examples : a set or sequence of dictionaries, one example each (a set may have ``set_epoch``, which is called before
        it is read); or token ids int64 ``[n, T]``; or a dictionary of tensors with one row per example.
    sampler : the order of the rows in each epoch. Epochs follow each other without gaps.
    collate : makes a batch of examples. By default values of the same shape are stacked.

    Raises
    ------
    InputError : naming ``data``, for no examples, for tensors of another form, and for examples of several shapes.
    """

    def __init__(self, examples: Examples, sampler: Sampler | None = None, *, collate: Collate | None = None) -> None:
        if isinstance(examples, torch.Tensor):
            if examples.ndim != 2:
                raise InputError("data", f"a tensor of shape {tuple(examples.shape)}", "token ids [n, T]")
            examples = {"input_ids": examples}
        columns = dict(examples) if isinstance(examples, Mapping) else None
        lengths = {name: len(tensor) for name, tensor in (columns or {}).items()}
        if len(set(lengths.values())) > 1:
            raise InputError("data", f"columns of {lengths} rows", "tensors of equally many rows")
        self.examples: Any = examples
        self.columns = columns
        sized: Any = examples
        self.count = len(sized) if columns is None else next(iter(lengths.values()), 0)
        if self.count == 0:
            raise InputError("data", "no examples", "at least one example")
        self.sampler: Sampler = Shuffled() if sampler is None else sampler
        self.collate = stack if collate is None else collate
        self._order: RowOrder | None = None
        self._epoch = -1

    def __len__(self) -> int:
        return self.count

    def order(self, per_step: int, seed: int) -> RowOrder:
        """Which rows each step reads."""
        if self._order is None or (self._order.per_step, self._order.seed) != (per_step, seed):
            self._order = RowOrder(self.count, per_step, seed, self.sampler)
        return self._order

    def batch(self, step: int, part: range, *, per_step: int, seed: int) -> Batch:
        places = self.order(per_step, seed).rows(step)[part.start : part.stop]
        if self.columns is not None:
            rows = torch.tensor([row for _, row in places], dtype=torch.int64)
            return {name: column[rows.to(column.device)] for name, column in self.columns.items()}
        examples = []
        for epoch, row in places:
            if epoch != self._epoch and hasattr(self.examples, "set_epoch"):
                self.examples.set_epoch(epoch)
            self._epoch = epoch
            examples.append(self.examples[row])
        return self.collate(examples)

    def steps(self, epochs: float, per_step: int) -> int:
        return RowOrder(self.count, per_step, 0, self.sampler).steps(epochs)

    def identity(self) -> dict[str, Any]:
        return {"examples": self.count, "sampler": type(self.sampler).__name__}


class Generated(BatchSource):
    """Examples that a function makes, without end: every step has new ones.

    Every process makes all examples of a step and uses its part.

    Parameters
    ----------
    function : ``function(step, n, rng)`` returns the ``n`` examples of a step: tensors with them along the first axis.
        ``rng`` is a ``numpy.random.Generator`` of the seed and the step, and all randomness must come from it.
    """

    def __init__(self, function: Callable[[int, int, np.random.Generator], Batch]) -> None:
        self.function = function
        self._made: tuple[tuple[int, int, int], Batch] | None = None

    def batch(self, step: int, part: range, *, per_step: int, seed: int) -> Batch:
        key = (step, per_step, seed)
        if self._made is None or self._made[0] != key:
            made = self.function(step, per_step, np.random.default_rng([seed, step]))
            lengths = {name: len(tensor) for name, tensor in made.items()}
            if set(lengths.values()) != {per_step}:
                raise InputError("data", f"a function that made {lengths} examples", f"{per_step} in every column")
            self._made = key, made
        return {name: tensor[part.start : part.stop] for name, tensor in self._made[1].items()}


class Stream(BatchSource):
    """Examples that can only be read one after the other: files that are too large for memory, a network.

    A resumed training reads from the beginning and passes over what it has seen. Every process reads all examples.

    Parameters
    ----------
    read : ``read(epoch)`` returns the examples of an epoch, the same each time that it is called with the epoch's
        number. When they end, the next epoch begins.
    buffer : examples are shuffled in a buffer of so many; 0 keeps their order.
    collate : makes a batch of examples. By default values of the same shape are stacked.
    """

    def __init__(
        self, read: Callable[[int], Iterable[Example]], *, buffer: int = 0, collate: Collate | None = None
    ) -> None:
        if buffer < 0:
            raise InputError("buffer", buffer, "0 or more examples")
        self.read, self.buffer = read, buffer
        self.collate = stack if collate is None else collate
        self._setting = (-1, -1)
        self._step, self._held = -1, list[Example]()
        self._examples: Iterator[Example] = iter(())

    def batch(self, step: int, part: range, *, per_step: int, seed: int) -> Batch:
        if (per_step, seed) != self._setting or step < self._step:
            self._setting, self._step, self._examples = (per_step, seed), -1, self._all(seed)
        if step > self._step:
            passed = (step - self._step - 1) * per_step
            self._held = list(islice(self._examples, passed, passed + per_step))
            self._step = step
        return self.collate(self._held[part.start : part.stop])

    def _all(self, seed: int) -> Iterator[Example]:
        epoch = 0
        while True:
            found = False
            for example in self._shuffled(iter(self.read(epoch)), np.random.default_rng([seed, epoch])):
                found = True
                yield example
            if not found:
                raise InputError("data", f"no examples in epoch {epoch}", "at least one example")
            epoch += 1

    def _shuffled(self, examples: Iterator[Example], rng: np.random.Generator) -> Iterator[Example]:
        if not self.buffer:
            yield from examples
            return
        held = list(islice(examples, self.buffer))
        for example in examples:
            place = int(rng.integers(len(held)))
            yield held[place]
            held[place] = example
        yield from (held[i] for i in rng.permutation(len(held)))

    def identity(self) -> dict[str, Any]:
        return {"buffer": self.buffer}


Examples = Dataset[Any] | Sequence[Example] | torch.Tensor | Mapping[str, torch.Tensor]
"""What ``Rows`` takes."""


def as_source(data: Examples | BatchSource) -> BatchSource:
    """A source of batches: ``data`` itself, or its rows, shuffled anew in every epoch."""
    return data if isinstance(data, BatchSource) else Rows(data)


def stack(examples: list[Example]) -> Batch:
    """Stack the values of each name. Raises InputError naming ``data`` where shapes or names differ."""
    batch = {}
    for name in examples[0]:
        values = [torch.as_tensor(example[name]) for example in examples if name in example]
        shapes = sorted({tuple(value.shape) for value in values})
        if len(shapes) > 1:
            raise InputError(
                "data", f"{name} of shapes {shapes[0]} and {shapes[1]}", "one shape, or a collate function"
            )
        if len(values) < len(examples):
            raise InputError("data", f"an example without {name}", "the same names in all examples")
        batch[name] = torch.stack(values)
    return batch


class RandomWindows(Dataset[dict[str, torch.Tensor]]):
    """Non-overlapping windows of a token stream, whose borders move from epoch to epoch.

    A window that always starts at the same token is seen with the same context in every epoch; shifting all borders by
    a random offset costs nothing and gives each epoch other contexts.

    Parameters
    ----------
    tokens : integers ``[N]`` (any width; a memory-mapped array is fine), N of at least ``2 * length``.
    length : tokens in a window.
    seed : the offsets of the epochs come from this seed and the epoch's number only.
    """

    def __init__(self, tokens: np.ndarray, length: int, seed: int = 0) -> None:
        check_seed("seed", seed)
        if length < 2:
            raise InputError("length", length, "at least 2 tokens")
        if len(tokens) < 2 * length:
            raise InputError("tokens", f"{len(tokens)} tokens", f"at least 2 windows of {length} tokens")
        self.tokens = tokens
        self.length = length
        self.seed = seed
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Choose the borders of the given epoch. The training loop calls this before it draws from the set."""
        self.offset = int(np.random.default_rng([self.seed, epoch]).integers(self.length))

    def __len__(self) -> int:
        # one window fewer than fit, so that the number does not depend on the offset
        return len(self.tokens) // self.length - 1

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        start = self.offset + index * self.length
        window = np.asarray(self.tokens[start : start + self.length], dtype=np.int64)
        return {"input_ids": torch.from_numpy(window)}
