"""Sequential rotate-and-slice (the paper's section 3.3, in the order of the official code).

Every basis is found on the output of the part of the network that is sliced already, so that the statistics of a cut
include the errors of the cuts before it. The stream of the calibration set is kept whole, in the coordinates of the
dense model; a block sees x Q, and its residual matrix leads back to all D dimensions until its own output is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from paperworks.papers.slicegpt.basis import BasisKind, haar, stream_basis
from paperworks.papers.slicegpt.report import Cut
from paperworks.papers.slicegpt.state import FitState
from paperworks.structure.calibration import ActivationStore, LayerContexts, SecondMoment, TokenBatches
from paperworks.structure.checkpoints import FolderWeights, LiveWeights
from paperworks.structure.families import Family
from paperworks.structure.layers_sliced import (
    StreamNorm,
    convert_layer,
    convert_shell,
    norm_eps,
    part,
    resize_embeddings,
    resize_layer,
    sums_bias_of,
)
from paperworks.structure.residual_stream import (
    NormWeights,
    fold_embedding,
    fold_head,
    fold_layer,
    norm_weights,
    turn_input,
    turn_output,
)


@dataclass(frozen=True)
class Rules:
    """How a basis and a width are chosen. ``width_of``: from the number of the cut and its spectrum to a width."""

    basis: BasisKind
    orientation: str
    seed: int
    slice_head: bool
    width_of: Callable[[int, torch.Tensor], int]
    pca_dtype: torch.dtype = torch.float64


class SequentialSlicer:
    """One pass through a model, layer by layer: ``slice`` edits it, ``measure`` only looks."""

    def __init__(
        self,
        weights: LiveWeights | FolderWeights,
        family: Family,
        tokens: TokenBatches,
        store: ActivationStore,
        rules: Rules,
        device: torch.device,
        dtype: torch.dtype,
        progress: Iterator[Any],
        state: FitState | None = None,
    ) -> None:
        self.weights = weights
        self.model = weights.model
        self.family = family
        self.tokens = tokens
        self.store = store
        self.rules = rules
        self.device = device
        self.dtype = dtype
        self.compute = torch.promote_types(dtype, torch.float32)
        self.width: int = self.model.config.hidden_size
        self.contexts = LayerContexts(self.model, family, tokens)
        self.cuts: list[Cut] = []
        self._progress = progress
        self._state = state
        self._layers = part(self.model, family.layers)
        self._biases = sums_bias_of(self.model, family)
        self._last_cut = len(family.blocks) * len(self._layers)

    def slice(self) -> list[str]:
        """Fold, rotate and cut the whole model. Returns the paths of the finished modules, in order."""
        family, model = self.family, self.model
        final = self._norm(family.final_norm)
        incoming = self._norm(family.embedding_norm)
        head = part(model, family.head) if family.head else None
        if head is not None:
            head.weight = nn.Parameter(head.weight.detach(), head.weight.requires_grad)  # no longer tied; not copied
        start = 0
        if self._state is not None and self._state.layers_done is not None:
            start, basis, incoming = self._resume()
        else:
            basis = self._embeddings()
            self._commit(0, basis, incoming)
        for index in range(start, len(self._layers)):
            basis, incoming = self._layer(index, basis, incoming)
            self._commit(index + 1, basis, incoming)
        paths = [*family.embeddings, *(f"{family.layers}.{i}" for i in range(len(self._layers)))]
        if final is not None:
            head = self.weights.fetch(family.head)
            fold_head(head, final, basis)
            head.to(self.dtype)
            self.weights.release(family.head)
            paths.append(family.head)
        return paths

    def measure(self) -> list[tuple[str, torch.Tensor]]:
        """Name and spectrum of every point of the stream of the unchanged model."""
        family = self.family
        found = []
        incoming = self._norm(family.embedding_norm)
        for path in family.embeddings:
            self.weights.fetch(path)
        moment = self._embed()
        self.weights.give_back(family.embeddings[0])
        found.append((self._name(0), stream_basis(moment.matrix, "pca", (0, 0))[1] / moment.count))
        for index in range(len(self._layers)):
            path = f"{family.layers}.{index}"
            layer = self.weights.borrow(path).to(self.device, self.compute)
            eps = None if incoming is None else incoming.eps
            incoming = fold_layer(layer, family, incoming, index == len(self._layers) - 1, slice_head=False)
            for block in range(len(family.blocks)):
                cut = index * len(family.blocks) + block + 1
                moment = self._block(layer, index, block, None, eps)
                found.append((self._name(cut), stream_basis(moment.matrix, "pca", (0, 0))[1] / moment.count))
            self.weights.give_back(path)
        return found

    def _embeddings(self) -> torch.Tensor | None:
        family = self.family
        for path in family.embeddings:
            self.weights.fetch(path)
        moment = self._embed()
        basis = self._cut(0, moment)
        for number, path in enumerate(family.embeddings):
            module = self.weights.fetch(path)
            fold_embedding(module, family, basis)
            module.to(self.dtype)
            self.weights.release(path, needed=number > 0)  # layers ask for masks through the position tables
        convert_shell(self.model, family)
        return basis

    def _embed(self) -> SecondMoment:
        self.store.start_layer()
        moment = SecondMoment(self.width, self.device, self.rules.pca_dtype)
        for index in range(len(self.tokens)):
            batch = self.contexts.embed(index).to(self.compute)
            if self.family.norm == "layer":
                batch = batch - batch.mean(-1, keepdim=True)
            self.store.write(index, batch)
            moment.update(batch, self._mask(index))
            next(self._progress, None)
        self.store.finish_block()
        self.store.finish_layer()
        moment.check(self._name(0))
        return moment

    def _layer(
        self, index: int, basis: torch.Tensor | None, incoming: NormWeights | None
    ) -> tuple[torch.Tensor | None, NormWeights | None]:
        family, last = self.family, index == len(self._layers) - 1
        path = f"{family.layers}.{index}"
        layer = self.weights.fetch(path, self.compute)
        home = next(layer.parameters()).device
        layer.to(self.device, self.compute)
        eps = None if incoming is None else incoming.eps
        outgoing = fold_layer(layer, family, incoming, last, self.rules.slice_head)
        self.store.start_layer()
        for block in range(len(family.blocks)):
            cut = index * len(family.blocks) + block + 1
            assert basis is not None, "only the last point of the stream is left uncut"
            turn_input(layer, family, block, basis)
            moment = self._block(layer, index, block, basis, eps)
            basis = self._cut(cut, moment)
            if basis is not None:
                turn_output(layer, family, block, basis)
        layer.to(home, self.dtype)
        self.weights.release(path)
        self.store.finish_layer()
        return basis, outgoing

    def _block(self, layer: Any, index: int, block: int, basis: torch.Tensor | None, eps: float | None) -> SecondMoment:
        """Run one block over the calibration set; its residual sum, D wide, becomes the stream."""
        cut = index * len(self.family.blocks) + block + 1
        norm = None
        if self.family.topology == "post_norm":
            if block:
                eps = norm_eps(part(layer, self.family.blocks[block - 1].norm))
            norm = StreamNorm(self.width, eps if eps is not None else 0.0)
        turn = None if basis is None else basis.to(self.compute)
        block_sum = getattr(layer, layer.sums[block])
        moment = SecondMoment(self.width, self.device, self.rules.pca_dtype)
        for number in range(len(self.tokens)):
            x = self.store.read(number).to(self.device)
            x = x if turn is None else x @ turn
            x = x if norm is None else norm(x)
            y = block_sum(x, **self.contexts.context(index, number, x))
            self.store.write(number, y)
            moment.update(y, self._mask(number))
            next(self._progress, None)
        self.store.finish_block()
        moment.check(self._name(cut))
        return moment

    def _cut(self, cut: int, moment: SecondMoment) -> torch.Tensor | None:
        """The basis [D, d] of a point of the stream, or None for the last point when it is not cut."""
        if cut == self._last_cut and not self.rules.slice_head:
            return None
        total = float(moment.matrix.diagonal().sum())
        basis, energies = stream_basis(moment.matrix, self.rules.basis, (self.rules.seed, 2 * cut))
        d = self.rules.width_of(cut, energies)
        if cut == self._last_cut and self.family.padded_at:
            d = max(d, self.cuts[0].width)  # the one place where this family needs both ends alike
        kept = float(energies[:d].sum()) / total if total else 1.0
        spectrum = tuple((energies / moment.count).tolist())
        self.cuts.append(Cut(self._name(cut), d, min(kept, 1.0), spectrum))
        basis = basis[:, :d]
        if self.rules.orientation == "random":
            basis = basis @ haar(d, (self.rules.seed, 2 * cut + 1)).to(basis.device)
        return basis.contiguous()

    def _commit(self, done: int, basis: torch.Tensor | None, incoming: NormWeights | None) -> None:
        if self._state is not None:
            self._state.commit(done, self.store.live, self.cuts, basis, incoming)

    def _resume(self) -> tuple[int, torch.Tensor | None, NormWeights | None]:
        """Put the finished modules in place and read the rest of the state."""
        assert self._state is not None
        family = self.family
        start, live, cuts, basis, incoming = self._state.load()
        self.cuts = cuts
        each = len(family.blocks)
        widths = [cut.width for cut in cuts]
        for index in range(start):
            layer = self._layers[index]
            last = index == len(self._layers) - 1
            convert_layer(layer, family, self._biases[index], last, self.rules.slice_head)
            d = widths[index * each : index * each + each + 1]
            resize_layer(layer, family, d if len(d) > each else [*d, self.width], self.width)
            self.weights.restore(f"{family.layers}.{index}")
        convert_shell(self.model, family)
        resize_embeddings(self.model, family, widths[0])
        for number, path in enumerate(family.embeddings):
            self.weights.restore(path, needed=number > 0)
        self.store.start_layer(live)
        for _ in range(len(self.tokens) * (1 + each * start)):
            next(self._progress, None)
        return start, basis if basis is None else basis.to(self.device), incoming

    def _norm(self, path: str) -> NormWeights | None:
        if not path:
            return None
        module = self.weights.fetch(path)
        return norm_weights(module, self.family, self.width)

    def _mask(self, index: int) -> torch.Tensor | None:
        return None if self.tokens.mask is None else self.tokens.mask[self.tokens.rows(index)]

    def _name(self, cut: int) -> str:
        if cut == 0:
            return "embedding"
        layer, block = divmod(cut - 1, len(self.family.blocks))
        if len(self.family.blocks) == 1:
            return f"layer {layer}"
        return f"layer {layer} {('attention', 'feed-forward')[block]}"
