"""What passes the units: mean squares, means and fluctuations of their activations, and scores made of them.

Forward passes only. The same watchers serve a model in memory and one whose layers come and go (``layerwise.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from paperworks.errors import InputError
from paperworks.nn import check_ids, evaluation_mode, model_inputs, unpadded
from paperworks.structure.calibration import ChannelMoments
from paperworks.structure.expert_gates import channels_read, chosen_weights
from paperworks.structure.layers_pruned import linear_at
from paperworks.structure.scores import Scores, combine
from paperworks.structure.units import IndexMap, Key, Units, base_of

Batches = Iterable[Mapping[str, torch.Tensor]]
Note = Callable[[Key, int, torch.Tensor], None]


class GateWatch:
    """Calls ``note(key, number, rows)`` with what passes gate ``number`` of a unit set, [tokens, C], in the context.

    Tokens that ``set_mask`` calls padding are left out.
    """

    def __init__(self, model: Any, units: Units, note: Note) -> None:
        self._base, self._units, self._note = base_of(model), units, note
        self._mask: torch.Tensor | None = None
        self._handles: list[Any] = []

    def set_mask(self, mask: torch.Tensor | None) -> None:
        """The attention mask [b, T] of the batches that follow (0: padding)."""
        self._mask = None if mask is None or unpadded(mask) else mask

    def __enter__(self) -> GateWatch:
        for key, unit_set in self._units.items():
            for number, gate in enumerate(unit_set.gates):
                module, hook = self._base.get_submodule(gate.module), self._hook(key, number)
                if key[1] == "expert":
                    n = unit_set.n_units
                    self._handles.append(
                        module.register_forward_hook(lambda m, args, out, h=hook, n=n: h(chosen_weights(out, n)))
                    )
                elif key[1] == "expert_channel":
                    self._handles.append(
                        module.register_forward_pre_hook(lambda m, args, h=hook: h(channels_read(m, args)))
                    )
                elif gate.side == "in":
                    self._handles.append(module.register_forward_pre_hook(lambda m, args, h=hook: h(args[0])))
                else:
                    self._handles.append(module.register_forward_hook(lambda m, args, out, h=hook: h(out)))
        return self

    def __exit__(self, *_: object) -> None:
        while self._handles:
            self._handles.pop().remove()

    def _hook(self, key: Key, number: int) -> Callable[[torch.Tensor], None]:
        @torch.no_grad()
        def note(x: torch.Tensor) -> None:
            rows = x.detach().flatten(0, -2)  # OPT's feed-forward works on [b T, C] as it is
            self._note(key, number, rows if self._mask is None else rows[self._mask.to(x.device).bool().flatten()])

        return note


def _run(model: Any, watch: GateWatch, batches: Batches) -> int:
    """Run the batches through the whole model, in evaluation mode. Returns the number of their tokens."""
    tokens = 0
    with evaluation_mode(model), watch, torch.no_grad():
        for batch in batches:
            mask = batch.get("attention_mask")
            check_ids(model, batch["input_ids"], "calibration")
            watch.set_mask(mask)
            model(**model_inputs(model, batch["input_ids"], mask))
            tokens += int(batch["input_ids"].numel() if mask is None else mask.sum())
    if tokens == 0:
        raise InputError("calibration", "no tokens", "at least one batch")
    return tokens


def activation_scores(model: Any, units: Units, batches: Batches, power: Literal[1, 2] = 2) -> Scores:
    """Mean of |a|^power over tokens, summed over a unit's positions at its gates (what down or o reads, ...).

    Padding (attention mask 0) is left out. Forward passes only. Of an ``expert``, the router's weight for it; of an
    ``expert_channel``, its activation times that weight; both are 0 for tokens that go to others.
    """
    sums: dict[tuple[Key, int], torch.Tensor] = {}

    def note(key: Key, number: int, rows: torch.Tensor) -> None:
        value = rows.float().abs().pow(power).sum(0, dtype=torch.float64)
        sums[key, number] = sums.get((key, number), 0) + value

    tokens = _run(model, GateWatch(model, units, note), batches)
    return _unit_scores(units, {place: value / tokens for place, value in sums.items()})


def _unit_scores(units: Units, channels: Mapping[tuple[Key, int], torch.Tensor]) -> Scores:
    found = {}
    for key, unit_set in units.items():
        parts = [gate.index.reduce(channels[key, i].cpu()) for i, gate in enumerate(unit_set.gates)]
        found[key] = _finite(combine(parts), key)
    return found


def _finite(values: torch.Tensor, key: Key) -> torch.Tensor:
    if not bool(torch.isfinite(values).all()):
        raise InputError(f"activations of {key}", "NaN or infinite values", "finite activations: a wider dtype?")
    return values


@dataclass(frozen=True)
class ReadChannels:
    """The channels that a matrix (down, o) reads, and how the units of one set lie among them.

    Attributes
    ----------
    mean, variance : of each channel over the tokens, float64 [C]. The variance divides by the number of tokens.
    columns : squared norm of the weights that read each channel, float64 [C].
    index : the channels of every unit.
    """

    mean: torch.Tensor
    variance: torch.Tensor
    columns: torch.Tensor
    index: IndexMap

    @property
    def wanda(self) -> torch.Tensor:
        """Mean square times squared norm, summed over a unit's channels, float64 [n_units] (Wanda, by unit)."""
        return self.index.reduce((self.mean.square() + self.variance) * self.columns)

    @property
    def fluctuation(self) -> torch.Tensor:
        """Variance times squared norm of every channel, float64 [C] (FLAP's weighted input feature variance)."""
        return self.variance * self.columns

    @property
    def standardised(self) -> torch.Tensor:
        """``fluctuation`` less its mean over the channels, by their deviation; a unit has the mean of its channels.

        float64 [n_units]; all 0 where all channels fluctuate alike.
        """
        away = self.fluctuation - self.fluctuation.mean()
        spread = away.square().mean().sqrt()
        sizes = (self.index.table >= 0).sum(1)
        return self.index.reduce(away / spread if float(spread) > 0 else torch.zeros_like(away)) / sizes


class ActivationMoments:
    """Moments of what the units' readers take in, while the context lasts: those of kinds whose gates are inputs.

    ``with ActivationMoments(model, units) as moments: model(...); channels = moments.channels()``
    """

    def __init__(self, model: Any, units: Units) -> None:
        for key, unit_set in units.items():
            if [gate.side for gate in unit_set.gates] != ["in"]:
                raise InputError("kinds", key[1], "ffn, kv_group or q_head, whose activations one matrix reads")
        self.model, self.units = model, units
        self.moments = {key: ChannelMoments() for key in units}
        self.watch = GateWatch(model, units, lambda key, _, rows: self.moments[key].update(rows))

    def set_mask(self, mask: torch.Tensor | None) -> None:
        """The attention mask [b, T] of the batches that follow (0: padding)."""
        self.watch.set_mask(mask)

    def __enter__(self) -> ActivationMoments:
        self.watch.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.watch.__exit__(*error)

    def channels(self, layer: int | None = None) -> dict[Key, ReadChannels]:
        """What was gathered for a layer (None: for all), with the norms of the weights as they are now.

        Raises InputError without tokens, or where activations or weights were not finite.
        """
        found = {}
        for key, unit_set in self.units.items():
            if layer is not None and key[0] != layer:
                continue
            moments, gate = self.moments[key], unit_set.gates[0]
            if not moments.count:
                raise InputError("calibration", "no tokens", "at least one forward pass inside the context")
            columns = _column_norms(linear_at(base_of(self.model), gate.module))
            mean, variance = _finite(moments.mean, key), _finite(moments.variance, key)
            found[key] = ReadChannels(mean.cpu(), variance.cpu(), _finite(columns, key).cpu(), gate.index)
        return found


@torch.no_grad()
def _column_norms(module: Any) -> torch.Tensor:
    """Squared norm of the weights that read each input, float64 [C]; a few rows at a time."""
    weight, axis = module.weight.detach(), 1 if hasattr(module, "nf") else 0  # Conv1D stores [in, out]
    step = max(1, 2**21 // weight.shape[1 - axis])
    pieces = weight.split(step, axis)
    return torch.stack([piece.float().square().sum(axis, dtype=torch.float64) for piece in pieces]).sum(0)


def read_channels(model: Any, units: Units, batches: Batches) -> dict[Key, ReadChannels]:
    """Statistics of what the units' readers take in, from a model in memory. Padding is left out.

    ``units``: of the kinds ``ffn``, ``kv_group`` or ``q_head``.
    """
    moments = ActivationMoments(model, units)
    _run(model, moments.watch, batches)
    return moments.channels()
