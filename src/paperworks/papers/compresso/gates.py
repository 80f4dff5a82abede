"""The masks of a model: hard-concrete gates for every unit, gates for whole layers, and what they settle to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.papers.compresso.size import HIDDEN, Size
from paperworks.structure import HardConcrete, Units
from paperworks.structure.gates import SHARPNESS, TEMPERATURE
from paperworks.structure.plan import name_of
from paperworks.structure.uniform import round_widths
from paperworks.structure.units import Key

LayerGates = Literal["none", "layer", "blocks"]
KIND_OF = {"heads": "kv_group", "ffn": "ffn", "hidden": "hidden"}
"""The paper's words for units, and the kinds of ``paperworks.structure`` (heads go by key-value group)."""
Masks = dict[Key, torch.Tensor]
Order = list[tuple[tuple[Any, ...], Key, int]]
"""Units from the first to drop to the last: what they are sorted by, their set, and their number in it."""


class Gates(nn.Module):
    """Gates for the unit sets of a model.

    Parameters
    ----------
    units : the sets to gate, of kinds ``kv_group``, ``ffn`` and ``hidden``.
    drop_rate : share q of channels that is closed at first: log_alpha of ``ffn`` starts at log((1 - q) / q). Heads and
        hidden dimensions start at 10.
    layer_gates : ``layer``: one gate for each layer, over its heads and channels; ``blocks``: one for its heads and one
        for its channels. A gate of 1 applies the masks of the units, 0 leaves the layer dense.
    layer_start : log_alpha of the layer gates at first: 10 (all layers are pruned) or -10 (none).
    heads_elsewhere : whether layers without gates have heads; otherwise the last head of the model stays open.
    generator : draws the starting values.
    """

    def __init__(
        self,
        units: Units,
        *,
        drop_rate: float = 0.01,
        layer_gates: LayerGates = "none",
        layer_start: float = 10.0,
        heads_elsewhere: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.heads_elsewhere = heads_elsewhere
        self.keys: list[Key] = [key for key in units if units[key].n_units]
        start = HardConcrete.mean_for(drop_rate)
        self.of = nn.ModuleDict(
            {
                name_of(key): HardConcrete(
                    units[key].n_units, mean=start if key[1] == "ffn" else 10.0, generator=generator
                )
                for key in self.keys
            }
        )
        self.layers: list[int] = sorted({key[0] for key in self.keys if key[0] is not None})
        rows = {"none": (), "layer": ("all",), "blocks": ("kv_group", "ffn")}
        if layer_gates not in rows:
            raise InputError("layer_gates", layer_gates, "none, layer or blocks")
        self.of_layers = nn.ModuleDict(
            {name: HardConcrete(len(self.layers), mean=layer_start, generator=generator) for name in rows[layer_gates]}
        )

    def sample(self, generator: torch.Generator | None = None) -> Masks:
        """Masks [n_units] for one training step, with gradients: z, or 1 - (1 - z) ste(z_layer)."""
        units = {key: self._gate(key).sample(generator) for key in self.keys}
        layers = {name: _straight_through(gate.sample(generator)) for name, gate in self._layer_gates().items()}
        return {key: self._joined(key, z, layers) for key, z in units.items()}

    def p_nonzero(self) -> Masks:
        """P(z > 0) of every unit, float64, with gradients; with layer gates, 1 - ste(P_layer)(1 - P_unit)."""
        layers = {name: _straight_through(gate.p_nonzero().double()) for name, gate in self._layer_gates().items()}
        return {key: self._joined(key, self._gate(key).p_nonzero().double(), layers) for key in self.keys}

    def expected(self) -> dict[Key, torch.Tensor]:
        """Expected number of open units of every set: what ``Size`` takes."""
        return {key: chances.sum() for key, chances in self.p_nonzero().items()}

    @torch.no_grad()
    def deterministic(self) -> Masks:
        """Masks for evaluation: in each set, round(n - sum P) units of the least log_alpha are 0.

        The others keep their soft value. A layer gate is 1 where its P is a half or more, as in the expected size.
        At least one hidden dimension, and one head in the model, stay.
        """
        layers = self._applied()
        masks = {key: self._joined(key, self._gate(key).deterministic(), layers) for key in self.keys}
        heads = [key for key in self.keys if key[1] == "kv_group"]
        if heads and not self.heads_elsewhere and not any(bool(masks[key].any()) for key in heads):
            best = max(heads, key=lambda key: float(self.log_alpha(key).max()))
            self._open_best(masks, best)
        if HIDDEN in masks and not bool(masks[HIDDEN].any()):
            self._open_best(masks, HIDDEN)
        return masks

    @torch.no_grad()
    def fill(self, masks: Masks, size: Size, target: int) -> Masks:
        """Masks that meet a size: drop kept units nearest to the threshold until ``size`` is at most ``target``, then
        restore dropped ones, nearest first, that still fit.

        Nearest: least log_alpha among the kept, largest among the dropped; among equals, the cheaper goes first. What
        is restored comes back with its soft value. Layers whose gate leaves them dense are touched last. Where no
        channel is dropped and only coarser units are, one of them is restored in exchange for channels.

        Raises InputError, with the least that can be reached, where ``target`` cannot be.
        """
        masks = {key: mask.clone() for key, mask in masks.items()}
        kept = {key: int((mask != 0).sum()) for key, mask in masks.items()}
        applied = self._applied()
        order: Order = []
        for key in self.keys:
            dense = bool(applied) and key != HIDDEN and float(self._layer_share(key, applied)) == 0
            cost = size.cost(key, {})
            for unit, alpha in enumerate(self.log_alpha(key).tolist()):
                order.append(((dense, alpha, cost, unit, name_of(key)), key, unit))
        order.sort(key=lambda entry: entry[0])
        soft = {key: self._joined(key, self._soft(key), applied) for key in self.keys}
        heads_left = sum(n for key, n in kept.items() if key[1] == "kv_group")
        now = size(kept)
        for _, key, unit in order:
            if now <= target:
                break
            last_head = key[1] == "kv_group" and heads_left == 1 and not self.heads_elsewhere
            if masks[key][unit] == 0 or last_head or (key == HIDDEN and kept[key] == 1):
                continue
            masks[key][unit] = 0
            kept[key] -= 1
            heads_left -= key[1] == "kv_group"
            now = size(kept)
        if now > target:
            raise InputError("target", f"{target:,} parameters", f"at least {now:,}, the least these units can reach")
        self._restore(masks, kept, order, soft, size, target)
        return self._even_out(masks, kept, order, soft, size, target)

    def _restore(self, masks: Masks, kept: dict[Key, int], order: Order, soft: Masks, size: Size, target: int) -> None:
        """Open the dropped units that fit, nearest to the threshold first."""
        now = size(kept)
        for _, key, unit in reversed(order):
            if masks[key][unit] == 0 and now + size.cost(key, kept) <= target:
                masks[key][unit] = soft[key][unit]
                kept[key] += 1
                now = size(kept)

    def _even_out(
        self, masks: Masks, kept: dict[Key, int], order: Order, soft: Masks, size: Size, target: int
    ) -> Masks:
        """Where a coarse unit is all that is left to restore: restore it, and drop channels in exchange."""
        fine = [key for key in self.keys if key[1] == "ffn" and kept[key]]
        coarse = [(key, unit) for _, key, unit in reversed(order) if key[1] != "ffn" and masks[key][unit] == 0]
        if not fine or not coarse or target - size(kept) < min(size.cost(key, kept) for key in fine):
            return masks
        tried, numbers = {key: mask.clone() for key, mask in masks.items()}, dict(kept)
        key, unit = coarse[0]
        tried[key][unit] = soft[key][unit]
        numbers[key] += 1
        for _, key, unit in order:
            if size(numbers) <= target:
                break
            if key[1] == "ffn" and tried[key][unit] != 0:
                tried[key][unit] = 0
                numbers[key] -= 1
        if size(numbers) > target:
            return masks
        self._restore(tried, numbers, order, soft, size, target)
        return tried

    @torch.no_grad()
    def rounded(self, masks: Masks, size: Size, target: int, round_to: int) -> Masks:
        """Masks whose channels and dimensions are multiples of ``round_to`` in number (see ``round_widths``).

        The units nearest to the threshold go, or come back with their soft value.
        """
        kept = {key: int((mask != 0).sum()) for key, mask in masks.items()}
        numbers = round_widths(kept, {key: len(mask) for key, mask in masks.items()}, size, target, round_to)
        found, applied = {}, self._applied()
        for key, mask in masks.items():
            soft = torch.where(mask != 0, mask, self._joined(key, self._soft(key), applied))
            # what is kept so far comes first: layers whose gate leaves them dense have low log_alphas
            order = (self.log_alpha(key).double() + 1e6 * (mask != 0)).argsort(descending=True, stable=True)
            found[key] = torch.zeros_like(mask)
            found[key][order[: numbers[key]]] = soft[order[: numbers[key]]].to(mask)
        return found

    @torch.no_grad()
    def clamp_(self) -> None:
        """log_alpha of every gate into [log 0.01, log 100]: after every optimiser step."""
        for gate in (*self.of.values(), *self.of_layers.values()):
            gate.clamp_()  # type: ignore[operator]

    def log_alpha(self, key: Key) -> torch.Tensor:
        """log_alpha [n_units] of a set, detached."""
        return self._gate(key).log_alpha.detach()

    def _gate(self, key: Key) -> HardConcrete:
        gate = self.of[name_of(key)]
        assert isinstance(gate, HardConcrete)
        return gate

    def _layer_gates(self) -> dict[str, HardConcrete]:
        return {name: gate for name, gate in self.of_layers.items() if isinstance(gate, HardConcrete)}

    def _applied(self) -> dict[str, torch.Tensor]:
        return {name: (gate.p_nonzero() >= 0.5).double() for name, gate in self._layer_gates().items()}

    def _soft(self, key: Key) -> torch.Tensor:
        return torch.sigmoid(SHARPNESS * self.log_alpha(key) / TEMPERATURE)

    def _layer_share(self, key: Key, layers: Mapping[str, torch.Tensor]) -> torch.Tensor:
        row = layers["all"] if "all" in layers else layers[key[1]]
        return row[self.layers.index(key[0])] if key[0] is not None else row.new_ones(())

    def _joined(self, key: Key, z: torch.Tensor, layers: Mapping[str, torch.Tensor]) -> torch.Tensor:
        if not layers or key[0] is None:
            return z
        return (1 - (1 - z) * self._layer_share(key, layers)).to(z.dtype)

    def _open_best(self, masks: Masks, key: Key) -> None:
        best = int(self.log_alpha(key).argmax())
        masks[key][best] = self._soft(key)[best]


def _straight_through(z: torch.Tensor) -> torch.Tensor:
    """0 below a half, 1 from there on; the gradient passes."""
    return (z >= 0.5).to(z.dtype) + (z - z.detach())


def kinds_for(units: Sequence[str]) -> list[str]:
    """The kinds of ``paperworks.structure`` for heads, ffn and hidden. Raises InputError for other words, or none."""
    odd = [name for name in units if name not in KIND_OF]
    if odd or not units or len(set(units)) < len(units):
        raise InputError("units", odd[0] if odd else list(units), "some of heads, ffn and hidden, each once")
    return [KIND_OF[name] for name in units]
