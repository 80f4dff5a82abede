"""Search, build and distil in one object: ``TransformableSearch``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from paperworks.classification import predict
from paperworks.errors import InputError
from paperworks.inputs.transforms import Transform
from paperworks.papers.tas.bilevel import Found, SearchSettings, check_target, search
from paperworks.papers.tas.choices import RATIOS, DepthRule
from paperworks.papers.tas.costs import CostFunction
from paperworks.papers.tas.network import ShapedNetwork
from paperworks.papers.tas.shapes import NetworkShape
from paperworks.papers.tas.space import Genotype, SearchSpace
from paperworks.papers.tas.supernet import Blend, CostName, Searched, SearchNetwork
from paperworks.papers.tas.traced import TracedSpace
from paperworks.papers.tas.transfer import TransferSettings, train_network
from paperworks.parameters import check_seed
from paperworks.pruning import new_weights
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import new_file
from paperworks.training import Loss


class TransformableSearch:
    """Find widths and depths at a wanted cost, and train the network that was found.

    Parameters
    ----------
    model : a ``NetworkShape`` (widths and depths, as in the paper); or any module that can be traced (widths of its
        groups of units; see ``TracedSpace``).
    example_inputs : for a module what ``structure.trace.analyze`` takes; for a shape the images' (height, width), or a
        batch of images.
    target : wanted cost, as a share of the full network's.
    cost : ``macs``, ``parameters``, or for a shape a function, such as the table of ``measure_latency_table``.
    search : ``width``, ``depth`` or both; a traced module has widths only.
    n_sampled : widths drawn in a forward pass.
    settings : see ``SearchSettings``; ``target`` and ``random_state`` replace its own.
    training : see ``TransferSettings``.
    ratios, blend, depth_rule : see ``SearchNetwork``.
    random_state : seed.

    Attributes
    ----------
    space_ : the search space with its weights.
    genotype_ : the network: ``widths`` by layer or group, ``depths`` by stage, with ``cost``, ``ratio`` and ``target``.
    history_ : one row an epoch.
    probabilities_, candidates_ : by choice.
    network_ : the trained network, after ``distill`` or ``fit_distill``.
    teacher_ : the full network that it learned from.

    Examples
    --------
    >>> import numpy as np
    >>> from paperworks.papers.tas import SearchSettings, TransformableSearch, plain_network
    >>> shape = plain_network(4, ((4, 4),), (2,), outputs=2, channels=1)
    >>> images, labels = np.random.default_rng(0).normal(size=(16, 1, 8, 8)), np.arange(16) % 2
    >>> brief = SearchSettings(epochs=2, outside="repair")
    >>> found = TransformableSearch(shape, (8, 8), target=0.5, settings=brief).fit(images, labels)
    >>> abs(found.genotype_["ratio"] / 0.5 - 1) <= 0.05
    True
    """

    def __init__(
        self,
        model: NetworkShape | nn.Module,
        example_inputs: Any,
        *,
        target: float = 0.5,
        cost: CostName | CostFunction = "macs",
        search: Sequence[Searched] = ("width", "depth"),
        n_sampled: int = 2,
        settings: SearchSettings | None = None,
        training: TransferSettings | None = None,
        ratios: Sequence[float] = RATIOS,
        blend: Blend = "interpolate",
        depth_rule: DepthRule | None = None,
        random_state: int = 0,
    ) -> None:
        check_seed("random_state", random_state)
        chosen = settings or SearchSettings()
        self.settings = replace(chosen, target=target, seed=random_state)
        self.training = replace(training or TransferSettings(), seed=random_state)
        self.model, self.example_inputs = model, example_inputs
        self._options: dict[str, Any] = {
            "ratios": ratios,
            "sampled": n_sampled,
            "blend": blend,
            "seed": random_state,
            "cost": cost,
        }
        if isinstance(model, NetworkShape):
            self._options |= {"search": search, "depth_rule": depth_rule}
        elif isinstance(model, nn.Module):
            if callable(cost):
                raise InputError("cost", "a function, for a traced module", "macs or parameters")
            if "width" not in search:
                raise InputError("search", tuple(search), "width: a traced module has no stages")
        else:
            raise InputError("model", type(model).__name__, "a NetworkShape or a torch.nn.Module")
        self.space_ = self._new_space()
        self._searched = False
        check_target(self.space_, target)

    def _new_space(self) -> SearchSpace:
        if isinstance(self.model, NetworkShape):
            return SearchNetwork(self.model, _size_of(self.example_inputs), **self._options)
        return TracedSpace(self.model, self.example_inputs, **self._options)

    @property
    def candidates_(self) -> dict[str, tuple[int, ...]]:
        """Candidates by choice."""
        return {name: known for (_, name), known in self.space_.choices.items()}

    @property
    def probabilities_(self) -> dict[str, list[float]]:
        """Probabilities of the candidates by choice."""
        return dict(zip(self.candidates_, [p.detach().tolist() for p in self.space_.probabilities()], strict=True))

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        validation: tuple[Any, Any] | None = None,
        loss: Loss | None = None,
        augment: Transform | None = None,
        checkpoint_dir: Path | None = None,
        progress: Progress = no_progress,
    ) -> TransformableSearch:
        """Search. See ``paperworks.papers.tas.search`` for the arguments; the result is in ``genotype_``.

        Called again, it searches anew, from the first weights and logits.
        """
        if self._searched:
            self.space_ = self._new_space()
        self._searched = True
        self.found_: Found = search(
            self.space_,
            X,
            y,
            settings=self.settings,
            validation=validation,
            loss=loss,
            augment=augment,
            checkpoint_dir=checkpoint_dir,
            progress=progress,
        )
        self.history_ = self.found_.history
        return self

    @property
    def genotype_(self) -> dict[str, Any]:
        """The found network in plain values, for JSON."""
        found = self._found()
        return {
            **found.genotype,
            "cost": self.space_.cost_of(found.genotype),
            "ratio": found.share,
            "target": self.settings.target,
            "epoch": found.epoch,
        }

    def save_genotype(self, path: str | Path) -> None:
        """Write ``genotype_`` to a new JSON file."""
        with new_file(Path(path)) as aside:
            aside.write_text(json.dumps(self.genotype_, indent=2) + "\n", encoding="utf-8")

    def from_genotype(self, genotype: Mapping[str, Any] | str | Path) -> TransformableSearch:
        """Take a found network (``genotype_``, or the file of ``save_genotype``) in place of a search.

        Raises InputError for the network of another space.
        """
        content = genotype
        if isinstance(content, str | Path):
            try:
                content = json.loads(Path(content).read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise InputError("genotype", f"{genotype} ({error})", "a file of save_genotype") from error
        if not isinstance(content, Mapping):
            raise InputError("genotype", type(content).__name__, "an object with widths and depths")
        parts: Genotype = {kind: dict(content.get(kind, {})) for kind in ("widths", "depths")}
        self.space_.check(parts)
        self.found_ = Found(parts, self.space_.cost_of(parts) / self.space_.full_cost, int(content.get("epoch", 0)), [])
        self.history_ = []
        return self

    def build(self, *, seed: int | None = None) -> nn.Module:
        """The found network with fresh weights."""
        return self.space_.build(self._found().genotype, seed=self.training.seed if seed is None else seed)

    def full_network(self, *, seed: int | None = None) -> nn.Module:
        """The full network with fresh weights."""
        chosen = self.training.seed if seed is None else seed
        if isinstance(self.model, NetworkShape):
            return ShapedNetwork.of(self.model, seed=chosen)
        return new_weights(self.model, chosen, bare="keep")

    def distill(
        self,
        teacher: nn.Module | None,
        X: Any,
        y: Any = None,
        *,
        augment: Transform | None = None,
        checkpoint_dir: Path | None = None,
        progress: Progress = no_progress,
    ) -> nn.Module:
        """Build the found network and train it, with knowledge transfer from ``teacher`` (None: without)."""
        network = self.build()
        train_network(
            network,
            X,
            y,
            teacher=teacher,
            settings=self.training,
            augment=augment,
            checkpoint_dir=checkpoint_dir,
            progress=progress,
        )
        self.network_, self.teacher_ = network.eval(), teacher
        return self.network_

    def fit_distill(self, X: Any, y: Any = None, *, progress: Progress = no_progress, **options: Any) -> nn.Module:
        """All three steps: train the full network, search, and distil the found one from it."""
        teacher = self.full_network()
        train_network(teacher, X, y, settings=self.training, augment=options.get("augment"), progress=progress)
        self.fit(X, y, progress=progress, **options)
        return self.distill(teacher.eval(), X, y, augment=options.get("augment"), progress=progress)

    def predict(self, X: Any) -> Any:
        """Class codes int64 ``[n]`` of the trained network."""
        if not hasattr(self, "network_"):
            raise InputError("network_", "no trained network", "distill or fit_distill first")
        return predict(self.network_, X, device=self.training.device)

    def _found(self) -> Found:
        if not hasattr(self, "found_"):
            raise InputError("genotype_", "no search yet", "fit first")
        return self.found_


def _size_of(inputs: Any) -> tuple[int, int]:
    if isinstance(inputs, torch.Tensor):
        return int(inputs.shape[-2]), int(inputs.shape[-1])
    try:
        height, width = inputs
        return int(height), int(width)
    except (TypeError, ValueError):
        raise InputError("example_inputs", repr(inputs), "(height, width) of the images, or a batch of them") from None
