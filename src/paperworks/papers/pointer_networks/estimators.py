"""The networks as estimators: ``fit`` on solved instances, ``predict`` indices, ``score`` with the paper's metrics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from paperworks.errors import InputError
from paperworks.nn import resolve_device
from paperworks.papers.pointer_networks.decoding import CONSTRAINTS, Constraint, Decoded, beam_search, sample
from paperworks.papers.pointer_networks.fitting import fit as train_network
from paperworks.papers.pointer_networks.fitting import training_settings
from paperworks.papers.pointer_networks.generators import Sizes, make_delaunay, make_hull, make_tsp
from paperworks.papers.pointer_networks.instances import Instances
from paperworks.papers.pointer_networks.network import PointerNetwork
from paperworks.papers.pointer_networks.pretrained import NetworkConfig, read_config
from paperworks.papers.pointer_networks.problems import PROBLEMS, Pointing, Problem
from paperworks.papers.pointer_networks.scaling import Rescale, scaled
from paperworks.papers.pointer_networks.seq2seq import Seq2Seq
from paperworks.papers.pointer_networks.tours import Cities, is_tour, tour_length
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress

Points = NDArray[np.float64]
BUNDLED = Path(__file__).parent / "bundled"
DECODE_NUMBERS = 2**22
"""Bound on instances x beams x elements that are decoded at once."""


def decode(
    network: PointerNetwork | Seq2Seq,
    points: Sequence[Points],
    problem: Problem,
    *,
    beams: int = 3,
    samples: int = 0,
    temperature: float = 1.0,
    constraint: Constraint = None,
    generator: torch.Generator | None = None,
    progress: Progress = no_progress,
) -> list[Decoded]:
    """Decode inputs of any sizes, [n, d] each, in batches of one size: ``samples`` draws if asked, else a beam search.

    Returns one ``Decoded`` per input, in order.
    """
    device = next(network.parameters()).device
    lengths = np.array([len(p) for p in points])
    batches: list[NDArray[np.int64]] = []
    for n in np.unique(lengths).tolist():
        rows, most = np.flatnonzero(lengths == n), max(1, DECODE_NUMBERS // (128 * (n + 1) * max(beams, samples)))
        batches += [rows[i : i + most] for i in range(0, len(rows), most)]
    found: dict[int, Decoded] = {}
    for rows in progress(batches, "decoding", total=len(batches)):
        batch = torch.from_numpy(np.stack([points[int(r)] for r in rows]).astype(np.float32)).to(device)
        limits = torch.full((len(rows),), problem.most_outputs(batch.shape[1]), device=device)
        if samples:
            generator = generator or torch.Generator().manual_seed(0)
            decoded = sample(
                network,
                batch,
                samples=samples,
                temperature=temperature,
                constraint=constraint,
                limits=limits,
                generator=generator,
            )
        else:
            decoded = beam_search(network, batch, beams=beams, constraint=constraint, limits=limits)
        found.update(zip(rows.tolist(), decoded, strict=True))
    return [found[i] for i in range(len(points))]


class SetToSequence:
    """A pointer network for a user's own problem: elements of any features in, positions of the input out.

    Parameters
    ----------
    hidden : width H of the network.
    steps, batch_size, learning_rate : of the training (see ``training_settings``).
    beams : width of the beam search; 1 is greedy.
    constraint : None, ``simple`` (no element twice), ``permutation`` (every element once) or ``triangles``.
        By default the problem's own; for an own problem, ``permutation`` where all targets of the fit are permutations.
    seed : initial weights, order of the examples, generated instances, samples.
    device : auto, cpu, cuda, ...
    network : a trained network, in place of a fit.

    Attributes
    ----------
    network_ : the trained ``PointerNetwork``.
    mean_, scale_ : per feature, float64 [d]; elements are standardised by them before the network sees them.
    losses_ : mean loss of every training step.
    by_size_ : where there are several networks, those by the smallest and largest size of their training; each input
        gets the nearest. ``network_`` is the first of them.
    """

    problem: Problem = Pointing()
    standardise: ClassVar[bool] = True

    def __init__(
        self,
        *,
        hidden: int = 128,
        steps: int = 4000,
        batch_size: int = 128,
        learning_rate: float = 2e-3,
        beams: int = 3,
        constraint: Constraint | str = "default",
        seed: int = 0,
        device: str = "cpu",
        network: PointerNetwork | None = None,
    ) -> None:
        check_seed("seed", seed)
        if constraint != "default" and constraint not in CONSTRAINTS:
            raise InputError("constraint", repr(constraint), f"default, {', '.join(map(str, CONSTRAINTS))}")
        self.hidden, self.steps, self.batch_size, self.learning_rate = hidden, steps, batch_size, learning_rate
        self.beams, self.seed, self.device = beams, seed, device
        self.constraint: Any = self.problem.constraint if constraint == "default" else constraint
        self._implied = constraint == "default"
        self.losses_: list[float] = []
        self.by_size_: dict[tuple[int, int], PointerNetwork] = {}
        if network is not None:
            self.network_ = network.eval()
            self.mean_, self.scale_ = np.zeros(network.config.features), np.ones(network.config.features)

    def fit(
        self,
        elements: Sequence[ArrayLike] | Instances,
        targets: Sequence[Sequence[int]] | None = None,
        *,
        checkpoint_dir: Path | None = None,
        progress: Progress = no_progress,
    ) -> Self:
        """Learn from solved instances.

        Parameters
        ----------
        elements : one array [n, d] per instance, or ``Instances`` with targets.
        targets : 0-based indices into each instance.
        checkpoint_dir : makes the training resumable.
        """
        instances = elements if isinstance(elements, Instances) else self._instances(elements, targets)
        if self._implied and self.problem.name == "sequence" and _all_permutations(instances):
            self.constraint = "permutation"
        if self.problem.name == "sequence":
            self.problem = Pointing.of([len(s) for s in instances.solutions()], instances.lengths.tolist())
        rows = np.concatenate(instances.inputs())
        self.mean_, self.scale_ = np.zeros(rows.shape[1]), np.ones(rows.shape[1])
        if self.standardise:
            self.mean_ = rows.mean(axis=0)
            spread = rows.std(axis=0)
            self.scale_ = np.where(spread > 0, spread, 1.0)
            instances = Instances.from_lists(
                [(p - self.mean_) / self.scale_ for p in instances.inputs()], instances.solutions()
            )
        network = PointerNetwork(
            NetworkConfig(features=rows.shape[1], hidden=self.hidden),
            generator=torch.Generator().manual_seed(self.seed),
        )
        settings = training_settings(
            steps=self.steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            seed=self.seed,
            device=self.device,
        )
        result = train_network(network, instances, settings, checkpoint_dir=checkpoint_dir, progress=progress)
        self.losses_ = result.losses
        self.network_, self.by_size_ = network.eval(), {}
        return self

    def _instances(self, elements: Sequence[ArrayLike], targets: Sequence[Sequence[int]] | None) -> Instances:
        if targets is None:
            raise InputError("targets", "none", "a list of indices per instance")
        return Instances.from_lists(
            [self.problem.check(p, f"instance {i}") for i, p in enumerate(elements, 1)], targets
        )

    def decode(
        self,
        elements: Sequence[ArrayLike],
        *,
        samples: int = 0,
        temperature: float = 1.0,
        progress: Progress = no_progress,
    ) -> list[Decoded]:
        """All beams (or ``samples`` draws) with their scores, one ``Decoded`` per instance."""
        points = [self.problem.check(p, f"instance {i}") for i, p in enumerate(elements, 1)]
        features = self._fitted().config.features
        for number, p in enumerate(points, 1):
            if p.shape[1] != features:
                raise InputError(f"instance {number}", f"{p.shape[1]} features", str(features))
        device = resolve_device(self.device)
        prepared = self._prepared(points)
        networks = [self._network_for(len(p)) for p in points]
        found: dict[int, Decoded] = {}
        for network in dict.fromkeys(networks):
            rows = [row for row, chosen in enumerate(networks) if chosen is network]
            decoded = decode(
                network.to(device),
                [prepared[row] for row in rows],
                self.problem,
                beams=self.beams,
                samples=samples,
                temperature=temperature,
                constraint=self.constraint,
                progress=progress,
                generator=torch.Generator().manual_seed(self.seed),
            )
            found.update(zip(rows, decoded, strict=True))
        return [found[row] for row in range(len(points))]

    def predict(
        self,
        elements: Sequence[ArrayLike],
        *,
        samples: int = 0,
        temperature: float = 1.0,
        progress: Progress = no_progress,
    ) -> list[list[int]]:
        """The 0-based output for every instance: the best beam, or the best of ``samples`` draws."""
        decoded = self.decode(elements, samples=samples, temperature=temperature, progress=progress)
        return [
            self._choose(np.asarray(p, dtype=np.float64), found, samples > 0)
            for p, found in zip(elements, decoded, strict=True)
        ]

    def _choose(self, points: Points, decoded: Decoded, sampled: bool) -> list[int]:
        return decoded.best

    def metrics(
        self, elements: Sequence[ArrayLike], targets: Sequence[Sequence[int]] | None = None, **how: Any
    ) -> dict[str, float]:
        """The problem's metrics on instances; without ``targets`` the exact solutions are computed."""
        points = [self.problem.check(p, f"instance {i}") for i, p in enumerate(elements, 1)]
        solutions = [self.problem.solve(p) for p in points] if targets is None else targets
        return self.problem.metrics(points, self.predict(points, **how), solutions)

    def score(self, elements: Sequence[ArrayLike], targets: Sequence[Sequence[int]] | None = None) -> float:
        """The share of right outputs. Higher is better."""
        return self.metrics(elements, targets)["accuracy"]

    def _prepared(self, points: list[Points]) -> list[Points]:
        return [(p - self.mean_) / self.scale_ for p in points]

    def _fitted(self) -> PointerNetwork:
        if not hasattr(self, "network_"):
            raise InputError(
                type(self).__name__, "no trained network", "fit(...), bundled() or from_pretrained(folder)"
            )
        return self.network_

    def _network_for(self, size: int) -> PointerNetwork:
        """The network that decodes inputs of ``size`` elements: the one whose training is nearest to it, by ratio."""
        if not self.by_size_:
            return self._fitted()
        return self.by_size_[min(self.by_size_, key=lambda sizes: max(sizes[0] / size, size / sizes[1], 1.0))]

    def save_pretrained(self, folder: str | Path, *, dtype: str = "float32") -> None:
        """Write the network to a new folder: config.json and model.safetensors."""
        about = {
            "problem": self.problem.name,
            "mean": self.mean_.tolist(),
            "scale": self.scale_.tolist(),
            "constraint": self.constraint,
            "beams": self.beams,
        }
        if isinstance(self.problem, Pointing):
            about |= {"longest": self.problem.longest, "most": self.problem.most}
        self._fitted().save_pretrained(folder, dtype=dtype, about=about)

    @classmethod
    def from_pretrained(cls, folder: str | Path, **options: Any) -> Self:
        """Read back what ``save_pretrained`` wrote, or a bare ``PointerNetwork`` folder."""
        about = read_config(Path(folder)).get("about") or {}
        if about.get("problem", cls.problem.name) != cls.problem.name:
            raise InputError(str(folder), f"a network for {about['problem']}", f"one for {cls.problem.name}")
        kept = {name: about[name] for name in ("constraint", "beams") if name in about}
        found = cls(network=PointerNetwork.from_pretrained(folder), **{**kept, **options})
        if "mean" in about:
            found.mean_, found.scale_ = np.array(about["mean"]), np.array(about["scale"])
        if isinstance(found.problem, Pointing):
            found.problem = Pointing(found.constraint, about.get("longest", 1.0), about.get("most", 1))
        return found


def bundled_folders(problem: str) -> list[Path]:
    """The folders of a problem's bundled networks, that of the smallest inputs first."""
    return sorted((f for f in BUNDLED.iterdir() if f.name.split("-")[0] == problem), key=trained_sizes)


def trained_sizes(folder: Path) -> tuple[int, int]:
    """The smallest and the largest number of points that a bundled network was trained on."""
    low, high = read_config(folder)["about"]["sizes"]
    return low, high


def _all_permutations(instances: Instances) -> bool:
    """Whether every solution has every element once."""
    solutions = zip(instances.solutions(), instances.lengths, strict=True)
    return all(sorted(solution) == list(range(n)) for solution, n in solutions)


class PlanePointer(SetToSequence):
    """A pointer network for points of the plane, which are fitted into the unit square instead of standardised.

    ``rescale`` is ``auto`` (with a warning, only points outside it), ``always`` or ``never``.
    """

    standardise = False
    rescale: Rescale = "auto"

    @classmethod
    def bundled(cls, **options: Any) -> Self:
        """The networks that come with this package: trained on uniform points, see ``bundled/<network>/README.md``.

        Of several networks of a problem, each input gets the one whose training is nearest to it in size.
        """
        first, *others = bundled_folders(cls.problem.name)
        found = cls.from_pretrained(first, **options)
        if others:
            networks = [found.network_, *map(PointerNetwork.from_pretrained, others)]
            found.by_size_ = dict(zip(map(trained_sizes, (first, *others)), networks, strict=True))
        return found

    def fit_generated(
        self,
        n: Sizes,
        n_samples: int,
        *,
        checkpoint_dir: Path | None = None,
        progress: Progress = no_progress,
        **options: Any,
    ) -> Self:
        """Learn from ``n_samples`` generated instances of n uniform points with exact solutions.

        ``n`` is a number, a pair (smallest, largest) or a sequence; ``options`` go to the generator (tours: ``label``).
        """
        make = {"hull": make_hull, "delaunay": make_delaunay, "tsp": make_tsp}[self.problem.name]
        return self.fit(make(n, n_samples, self.seed, **options), checkpoint_dir=checkpoint_dir, progress=progress)

    def _prepared(self, points: list[Points]) -> list[Points]:
        return scaled(points, self.rescale)


class ConvexHullPointer(PlanePointer):
    """Convex hulls: the corners' indices, counter-clockwise. ``score`` is the share of right polygons."""

    problem = PROBLEMS["hull"]


class DelaunayPointer(PlanePointer):
    """Delaunay triangulations: triples of indices, flattened. ``score`` is the share of right triangulations."""

    problem = PROBLEMS["delaunay"]


class TSPPointer(PlanePointer):
    """Tours from city 0. Of samples the shortest tour is taken."""

    problem = PROBLEMS["tsp"]

    def score(self, elements: Sequence[ArrayLike], targets: Sequence[Sequence[int]] | None = None) -> float:
        """The mean of optimal length / length, 0 for an output that is no tour. Higher is better."""
        points = [self.problem.check(p, f"instance {i}") for i, p in enumerate(elements, 1)]
        solutions = [self.problem.solve(p) for p in points] if targets is None else targets
        ratios = [
            self.problem.metrics([p], [output], [solution])["ratio"]
            for p, output, solution in zip(points, self.predict(points), solutions, strict=True)
        ]
        return float(np.nan_to_num(1 / np.array(ratios)).mean())

    def _choose(self, points: Points, decoded: Decoded, sampled: bool) -> list[int]:
        # A beam keeps the paper's order, by probability; draws have none worth keeping.
        return shortest_tour(points, decoded) if sampled else decoded.best


def shortest_tour(points: Points | Cities, decoded: Decoded) -> list[int]:
    """The shortest of the outputs that are tours, by the distances that cities have; the best one without any."""
    tours = [o for o in decoded.outputs if is_tour(o, len(points))]
    return min(tours, key=lambda t: tour_length(points, t)) if tours else decoded.best


ESTIMATORS: dict[str, type[PlanePointer]] = {
    "hull": ConvexHullPointer,
    "delaunay": DelaunayPointer,
    "tsp": TSPPointer,
}
