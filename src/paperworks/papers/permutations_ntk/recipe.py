"""Learn a permutation of bits with an ensemble of networks, apply it to the user's rows, and show what theory says."""

from __future__ import annotations

import csv
import json
import shutil
import time

import numpy as np
from numpy.typing import NDArray

from paperworks import runs
from paperworks.errors import InputError
from paperworks.papers.permutations_ntk.bits import (
    Bits,
    Permutation,
    apply_permutation,
    is_table,
    ones_profile,
    permutation_of_examples,
    places_of,
    read_bit_rows,
    read_permutation,
)
from paperworks.papers.permutations_ntk.config import Config
from paperworks.papers.permutations_ntk.ensemble import PermutationEnsemble
from paperworks.papers.permutations_ntk.ensemble_size import required_models
from paperworks.papers.permutations_ntk.limit import MAX_ROWS, LimitEnsemble, round_outputs
from paperworks.papers.permutations_ntk.reporting import Outcome, Task, build_report
from paperworks.papers.permutations_ntk.theory import permutation_moments
from paperworks.runs.files import new_folder

CHECKPOINT_SECONDS = 10.0

PORTION = 32
"""Networks trained between two looks at whether the run was asked to stop."""


def run(config: Config, run: runs.Run) -> runs.Report:
    """Train the ensemble that theory asks for, permute the rows with it, and compare every step with theory."""
    task = read_task(config, run)
    rows, k = task.distinct, len(task.permutation)
    if not len(rows):
        raise InputError("input", "only rows of zeros", "at least one row with a 1 (zeros have no direction)")
    profile = ones_profile(rows)
    members = config.members or required_models(
        k, config.delta, profile, method="tails", threshold=config.threshold, kernel=config.kernel
    )
    run.step(f"{len(task.rows):,} rows of {k} bits, {len(rows):,} of them distinct: {members:,} networks")
    outcome = Outcome(rows, apply_permutation(task.permutation, rows), members, config.threshold)
    if config.networks == "trained":
        _train(config, run, task, outcome)
    else:
        _draw(config, run, task, outcome)
    files = _write_files(run, task, rows, outcome.mean, config)
    return build_report(config, task, rows, outcome, files)


def read_task(config: Config, run: runs.Run) -> Task:
    """The permutation and the rows that the options name."""
    rng = run.rng("permutation")
    if config.examples is not None:
        table = read_bit_rows(config.examples, None, "table", "examples")
        if table.shape[1] % 2:
            raise InputError("examples", f"{table.shape[1]} columns", "2k: k input bits, then k output bits")
        k = table.shape[1] // 2
        _require_agreement(config.bits, k, "examples")
        permutation, unit = permutation_of_examples(table[:, :k], table[:, k:])
        if config.input is None:
            if unit.all():
                return Task(permutation, _small_inputs(k), None, "all inputs with one and two ones")
            return Task(permutation, table[~unit, :k], table[~unit, k:], f"held-out rows of {config.examples.name}")
        return Task(permutation, read_bit_rows(config.input, k, config.format), None, config.input.name)
    if config.input is not None:
        rows = read_bit_rows(config.input, config.bits, config.format)
        return Task(_permutation(config, rows.shape[1], rng), rows, None, config.input.name)
    permutation = _permutation(config, config.bits, rng)
    if len(permutation) == 8:
        return Task(permutation, _digit_rows(), None, "pixel rows of handwritten digits (scikit-learn)")
    return Task(permutation, _small_inputs(len(permutation)), None, "all inputs with one and two ones")


def _permutation(config: Config, bits: int | None, rng: np.random.Generator) -> Permutation:
    permutation = read_permutation(config.permutation, bits or 8, rng)
    _require_agreement(bits, len(permutation), "permutation")
    return permutation


def _require_agreement(bits: int | None, k: int, field: str) -> None:
    if bits is not None and bits != k:
        raise InputError(field, f"{k} bits", f"{bits}, as the rows have or 'bits' says")


def _digit_rows() -> Bits:
    """Each pixel row of the 8 x 8 digits as eight bits (ink or none), (14376, 8)."""
    from sklearn.datasets import load_digits

    return (load_digits().images.reshape(-1, 8) >= 8).astype(np.uint8)


def _small_inputs(bits: int) -> Bits:
    """Inputs with one and with two ones (the hardest), at most 2,000 of them."""
    pairs = np.stack(np.triu_indices(bits), axis=1)
    pairs = pairs[np.argsort(pairs[:, 1] - pairs[:, 0], kind="stable")][:2000]
    out = np.zeros((len(pairs), bits), dtype=np.uint8)
    out[np.arange(len(pairs))[:, None], pairs] = 1
    return out


def _schedule(members: int) -> list[int]:
    """Ensemble sizes at which the average is looked at: 1, 2, 3, 5, 8, ..., then every 32 (or a 60th), and the last."""
    sizes, size = [], 1
    while size < members:
        sizes.append(size)
        size += max(1, min(size // 2, max(32, members // 60)))
    return sorted({*sizes, *(c for c in (10, 100) if c < members), members})


def _train(config: Config, run: runs.Run, task: Task, outcome: Outcome) -> None:
    """Train network after network; what was trained before a stop is taken up again."""
    from paperworks.nn import resolve_device

    device = str(resolve_device(config.device))
    kept = sorted(run.state.glob("networks-*"), key=lambda folder: int(folder.name.split("-")[1]))
    if kept:
        ensemble = PermutationEnsemble.load(kept[-1] / "ensemble.safetensors", device)
        outcome.restore(kept[-1] / "outcome.npz")
    else:
        ensemble = PermutationEnsemble(
            1,
            width=config.width,
            parametrization=config.parametrization,
            trained_layers=config.trained_layers,
            keep="weights" if config.keep_weights else "probe",
            random_state=config.seed,
            device=device,
        )
        ensemble.fit(task.permutation, probe=outcome.rows)
        outcome.add(1, ensemble.probe_mean_)
    saved = time.monotonic()
    looked_at = set(_schedule(outcome.members))
    done = ensemble.n_members_
    # Small portions, so that a stop is heeded soon.
    sizes = sorted({s for s in looked_at if s > done} | set(range(done + PORTION, outcome.members, PORTION)))
    for size in run.progress(sizes, f"training {outcome.members:,} networks, {PORTION} or fewer at a time"):
        ensemble.extend(size - ensemble.n_members_)
        if size in looked_at:
            outcome.add(size, ensemble.probe_mean_)
        if time.monotonic() - saved > CHECKPOINT_SECONDS:
            with new_folder(run.state / f"networks-{size}") as aside:
                ensemble.save(aside / "ensemble.safetensors")
                outcome.save(aside / "outcome.npz")
            for folder in kept:
                shutil.rmtree(folder)
            kept = [run.state / f"networks-{size}"]
            saved = time.monotonic()
    outcome.variance = ensemble.probe_variance_ if ensemble.n_members_ > 1 else None
    ensemble.save(run.output("ensemble.safetensors"))


def _draw(config: Config, run: runs.Run, task: Task, outcome: Outcome) -> None:
    """Draw the averages: the sum of m infinitely wide networks' outputs is Gaussian too."""
    if len(outcome.rows) > MAX_ROWS:
        raise InputError("input", f"{len(outcome.rows):,} distinct rows", f"at most {MAX_ROWS:,} with networks='limit'")
    ensemble = LimitEnsemble(task.permutation, outcome.rows, kernel=config.kernel)
    rng, total, done = run.rng("networks"), np.zeros(outcome.rows.shape), 0
    for size in run.progress(_schedule(outcome.members), f"drawing {outcome.members:,} networks"):
        total += ensemble.draw(rng, members=size - done)[0] * (size - done)
        done = size
        outcome.add(size, total / size)


def _write_files(run: runs.Run, task: Task, rows: Bits, mean: NDArray, config: Config) -> list[runs.ReportFile]:
    """The permuted rows, the permutation and the theory's table."""
    k = rows.shape[1]
    outputs = round_outputs(mean, rows, config.threshold)
    every = places_of(task.rows, rows)
    permuted = np.where((every >= 0)[:, None], outputs[every], 0).astype(np.uint8)
    np.save(run.files / "permuted.npy", permuted)
    (run.files / "permutation.json").write_text(json.dumps(task.permutation.tolist()), encoding="utf-8")
    with (run.files / "rows.csv").open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(
            [f"in{i}" for i in range(k)] + [f"out{i}" for i in range(k)] + [f"average{i}" for i in range(k)]
        )
        for row, bits, average in zip(rows.tolist(), outputs.tolist(), mean.tolist(), strict=True):
            writer.writerow([*row, *bits, *(f"{a:.6g}" for a in average)])
    moments = permutation_moments(k, kernel=config.kernel)
    with (run.files / "theory.csv").open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["ones", "mean_at_one_bits", "mean_at_zero_bits", "standard_deviation"])
        for values in zip(moments.ones, moments.one_mean, moments.zero_mean, moments.std, strict=True):
            writer.writerow([int(values[0]), *(repr(float(v)) for v in values[1:])])
    files = [
        runs.ReportFile("permuted.npy", "the input's rows, permuted by the ensemble (uint8)"),
        runs.ReportFile("rows.csv", "distinct rows: input bits, output bits, averaged outputs"),
        runs.ReportFile("permutation.json", "bit i goes to the i-th position of this list"),
        runs.ReportFile("theory.csv", "mean and standard deviation of a network's output by number of ones"),
    ]
    if config.input is not None and not is_table(config.input, config.format):
        np.packbits(permuted.ravel()).tofile(run.files / "permuted.bin")
        files.append(runs.ReportFile("permuted.bin", "the same as a file of bits, blocks in the input's order"))
    if config.networks == "trained":
        kept = "every network's weights" if config.keep_weights else "sums of outputs on the distinct rows"
        files.append(runs.ReportFile("ensemble.safetensors", f"the ensemble for PermutationEnsemble.load: {kept}"))
    return files
