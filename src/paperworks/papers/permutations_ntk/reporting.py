"""The report of a run: what came out exact, beside other methods, theory and the sizes that theory asks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from paperworks import runs
from paperworks.papers.permutations_ntk.bits import (
    Bits,
    Permutation,
    apply_permutation,
    ones_profile,
    places_of,
)
from paperworks.papers.permutations_ntk.diagnostics import Agreement, compare_with_theory
from paperworks.papers.permutations_ntk.ensemble_size import (
    Scope,
    Threshold,
    failure_bound,
    required_models,
    success_probability,
)
from paperworks.papers.permutations_ntk.figures import (
    SHOWN_ROWS,
    accuracy_figure,
    means_figure,
    rows_figure,
    sizes_figure,
)
from paperworks.papers.permutations_ntk.limit import output_moments, round_outputs
from paperworks.papers.permutations_ntk.theory import Kernel, permutation_moments
from paperworks.runs.report import Cell

if TYPE_CHECKING:
    from paperworks.papers.permutations_ntk.recipe import Config

OFFICIAL_SIZES = {5: 43, 10: 69, 15: 103, 20: 117, 25: 157, 30: 175}
"""Networks after which the official code had 90 % of random inputs with two ones right, by k (its results file)."""

KERNELS: tuple[Kernel, ...] = ("ntk", "nngp")


@dataclass(frozen=True)
class Task:
    """What is to be learned and on what it is tried. ``given`` are outputs that the user's examples state, or None."""

    permutation: Permutation
    rows: Bits
    given: Bits | None
    source: str

    @property
    def distinct(self) -> Bits:
        """The distinct rows with at least one 1."""
        rows = np.unique(self.rows, axis=0)
        return rows[rows.any(axis=1)]


@dataclass
class Outcome:
    """What came out as networks were added: shares of exact rows by ensemble size, and averages at some sizes.

    ``wanted`` are the right bits (num, k) of the distinct rows, ``members`` is the final size.
    """

    rows: Bits
    wanted: Bits
    members: int
    threshold: Threshold
    sizes: list[int] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    snapshots: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    variance: NDArray[np.float64] | None = None

    def add(self, size: int, mean: NDArray[np.float64]) -> None:
        """Note the average output (num, k) of ``size`` networks."""
        bits = round_outputs(mean, self.rows, self.threshold)
        self.sizes.append(size)
        self.shares.append(float((bits == self.wanted).all(axis=1).mean()))
        if size in (1, 10, 100, self.members):
            self.snapshots[size] = mean.copy()

    @property
    def mean(self) -> NDArray[np.float64]:
        """The average of all networks, (num, k)."""
        return self.snapshots[self.members]

    def save(self, path: Path) -> None:
        """Write what was noted so far, for ``restore``."""
        averages = {f"at {size}": mean for size, mean in self.snapshots.items()}
        np.savez(path, sizes=np.array(self.sizes), shares=np.array(self.shares), **averages)  # type: ignore[arg-type]

    def restore(self, path: Path) -> None:
        """Take up what ``save`` wrote."""
        with np.load(path) as stored:
            self.sizes, self.shares = stored["sizes"].tolist(), stored["shares"].tolist()
            self.snapshots = {int(n.removeprefix("at ")): stored[n] for n in stored.files if n.startswith("at ")}


def build_report(config: Config, task: Task, rows: Bits, outcome: Outcome, files: list[runs.ReportFile]) -> runs.Report:
    """The report on the distinct nonzero ``rows`` of the task."""
    k, profile, share = rows.shape[1], ones_profile(rows), outcome.shares[-1]
    bound = failure_bound(k, profile, outcome.members, threshold=config.threshold, kernel=config.kernel)
    kind = "trained networks" if config.networks == "trained" else "infinitely wide networks"
    headline = (
        f"{outcome.members:,} {kind} permute {round(share * len(rows)):,} of {len(rows):,} distinct rows of {k} bits "
        f"exactly, having seen only the {k} unit vectors (theory: any wrong with probability {bound:.2g} at most)"
    )
    cut = "0 (1/2 for rows with a single one)" if config.threshold == "zero" else "the midpoint of the two means"
    notes = [f"Rows: {task.source}. A bit is 1 where the averaged output is above {cut}."]
    asked = task.rows.any(axis=1)
    if not asked.all():
        left = int((~asked).sum())
        notes.append(f"{left:,} rows have no ones, thus no direction: they stay zeros and no network is asked.")
    metrics = {
        "networks": float(outcome.members),
        "share of distinct rows exact": share,
        "share exact with one network": outcome.shares[0],
        "bound of the failure probability": bound,
    }
    if task.given is not None:
        outputs = round_outputs(outcome.mean, rows, config.threshold)[places_of(task.rows[asked], rows)]
        same = (outputs == task.given[asked]).all(axis=1)
        metrics["share of held-out examples reproduced"] = float(same.mean())
        reproduced = f"{int(same.sum()):,} of {len(same):,} held-out examples"
        if same.all():
            headline = f"{headline}; {reproduced} are reproduced"
        else:
            headline = (
                f"Only {reproduced} are reproduced: the file is not that of one permutation, or it has faults. "
                f"Of the permutation that its unit vectors state: {headline}"
            )
    agreement = compare_with_theory(
        task.permutation, rows, outcome.mean, outcome.members, variance=outcome.variance, kernel=config.kernel
    )
    tables = [
        _methods_table(config, task, rows, outcome),
        _sizes_table(config, k, profile),
        _moments_table(agreement, config.kernel),
    ]
    labels = {
        "networks": "networks in the ensemble",
        "share of distinct rows exact": "share of distinct rows that come out exact",
        "share exact with one network": "share exact with one network",
        "bound of the failure probability": "theory: probability of any wrong row, at most",
        "share of held-out examples reproduced": "share of your held-out examples reproduced",
    }
    return runs.Report(
        headline,
        metrics,
        tables,
        _figures(config, task, rows, outcome, agreement),
        files,
        notes,
        labels={name: words for name, words in labels.items() if name in metrics},
    )


def _methods_table(config: Config, task: Task, rows: Bits, outcome: Outcome) -> runs.Table:
    """The ensemble beside the exact limit and beside learners for which a permutation is easy."""
    from sklearn.linear_model import LinearRegression
    from sklearn.neighbors import KNeighborsRegressor

    k, wanted = rows.shape[1], apply_permutation(task.permutation, rows)
    train, targets = np.eye(k), apply_permutation(task.permutation, np.eye(k))

    def share(bits: NDArray) -> float:
        return float((bits == wanted).all(axis=1).mean())

    kind = "trained" if config.networks == "trained" else "drawn"
    table: list[list[Cell]] = []
    for size, mean in sorted(outcome.snapshots.items()):
        name = "one network" if size == 1 else f"{size:,} networks"
        table.append([f"{name}, {kind}", share(round_outputs(mean, rows, config.threshold))])
    for kernel, name in zip(KERNELS, ("infinitely many and wide", "the same, last layer alone trained"), strict=True):
        table.append([name, share(round_outputs(output_moments(task.permutation, rows, kernel=kernel)[0], rows))])
    linear = LinearRegression(fit_intercept=False).fit(train, targets)
    table.append(["least squares on the unit vectors", share(linear.predict(rows) > 0.5)])
    readings = linear.predict(train).argmax(axis=1)
    table.append(["positions read off the unit vectors", share(apply_permutation(readings, rows))])
    nearest = KNeighborsRegressor(1).fit(train, targets).predict(rows)
    table.append(["output of the nearest unit vector", share(nearest)])
    note = "A permutation is linear, so least squares is exact at once: the question is what gradient descent learns."
    return runs.Table("Distinct rows that come out exact", ["method", "share exact"], table, note)


def _sizes_table(config: Config, k: int, profile: dict[int, int]) -> runs.Table:
    """What the theory asks for: by closed bound and exact tails, and what would need fewer networks."""
    two = min(2, k)
    scopes: list[tuple[str, Scope]] = [
        (f"one input with {two} one{'s' * (two > 1)}", two),
        ("these rows", profile),
        ("all inputs", "all"),
    ]
    table: list[list[Cell]] = []
    for name, scope in scopes:
        sizes = [
            required_models(k, config.delta, scope),
            required_models(k, config.delta, scope, method="tails"),
            required_models(k, config.delta, scope, method="tails", threshold="midpoint"),
            required_models(k, config.delta, scope, method="tails", kernel="nngp"),
        ]
        table.append([name, *sizes])
    official = ", ".join(f"{size} (k = {bits})" for bits, size in OFFICIAL_SIZES.items())
    note = (
        "The official code, whose parametrisation trains little but the last layer, stopped at 90 % of inputs with two "
        f"ones after {official} networks."
    )
    columns = ["exact with probability 1 - delta on", "bound", "exact tails", "cut at the midpoint", "last layer alone"]
    return runs.Table(f"Networks needed for delta = {config.delta:g}", columns, table, note)


def _moments_table(agreement: list[Agreement], kernel: Kernel) -> runs.Table:
    columns = ["ones", "rows", "1 bits: mean", "theory", "z", "0 bits: mean", "theory", "z", "std", "theory"]
    table: list[list[Cell]] = []
    for a in agreement[:40]:
        spread = None if a.variance is None else a.variance**0.5
        means = [a.one_mean, a.one_theory, a.one_z, a.zero_mean, a.zero_theory, a.zero_z]
        table.append([a.ones, a.rows, *means, spread, a.variance_theory**0.5])
    trained = "both layers trained" if kernel == "ntk" else "the last layer trained"
    note = f"Theory: infinite width, {trained}. z: distance from theory in standard errors of the average."
    return runs.Table("Averaged outputs beside theory, by number of ones", columns, table, note)


def _figures(config: Config, task: Task, rows: Bits, outcome: Outcome, agreement: list[Agreement]) -> list[runs.Figure]:
    k, profile, kernel = rows.shape[1], ones_profile(rows), config.kernel
    shown = task.rows[task.rows.any(axis=1)][:SHOWN_ROWS]
    index = places_of(shown, rows)
    panels: dict[str, NDArray] = {"input": shown, "wanted": apply_permutation(task.permutation, shown)}
    for size, mean in sorted(outcome.snapshots.items()):
        name = "1 network" if size == 1 else f"{size:,} networks"
        panels[name] = round_outputs(mean[index], shown, config.threshold)
    grid = np.unique(np.geomspace(1, max(2, outcome.members), 60).astype(int))
    theory = {}
    for each, name in zip(KERNELS, ("theory, both layers", "theory, last layer alone"), strict=True):
        shares = [
            sum(count * success_probability(k, n, int(size), kernel=each) for n, count in profile.items()) / len(rows)
            for size in grid
        ]
        theory[name] = (grid, np.array(shares))
    cut = config.threshold
    marks = {
        "exact tails": required_models(k, config.delta, profile, method="tails", threshold=cut, kernel=kernel),
        "bound": required_models(k, config.delta, profile, threshold=cut, kernel=kernel),
    }
    lines = means_figure(permutation_moments(k, kernel=kernel), agreement, outcome.members)
    bands = "Wide bands: one network's standard deviation; narrow bands: this ensemble's"
    return [
        runs.Figure("Rows", rows_figure(panels, panels["wanted"]), "One row per line, dark for 1; wrong bits in red."),
        runs.Figure(
            "Exact rows",
            accuracy_figure(outcome.sizes, outcome.shares, theory, marks),
            f"Share of the {len(rows):,} distinct rows that are exact (theory: rounding at zero).",
        ),
        runs.Figure("Averaged outputs", lines, f"Lines: theory. {bands}. Dots: this run."),
        runs.Figure(
            "Required networks", sizes_figure(k, config.delta, kernel), "k log k for one input, k squared for all."
        ),
    ]
