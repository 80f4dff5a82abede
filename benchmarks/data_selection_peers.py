"""Choosing data, forgetting data, protecting data: ours beside plain readings of the peers' definitions, in one run.

    python benchmarks/data_selection_peers.py [--rows 2000] [--streams 4000]

Scores of examples: the formulas that DeepCore (Guo et al. 2022) and the original papers define, written out row by row
on the same network, logits and features; GraNd by automatic differentiation of each row. Selections: the plain loops of
herding, k-center, Deita (Liu et al. 2023), CCS (Zheng et al. 2023) and facility location on the same vectors, and
apricot-select for the last, where it is installed (``pip install apricot-select``). Deletion: SISA and S3T simulated
beside the closed form. Protection: error-minimising noise (Huang et al. 2021) beside the Bayes error objective, on the
same digits. Seconds are of the processor, memory is the largest that numpy and Python allocated (``tracemalloc``; not
that of torch).
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits

from paperworks import classification, nn
from paperworks.embedding import facility_location, herding, k_center_greedy
from paperworks.papers.diversify_conquer import select
from paperworks.papers.kd_data_pruning import coverage_centric
from paperworks.papers.s3t import deletion_rate, simulate_deletions
from paperworks.papers.unlearnable import BayesErrorEstimator, BEOProtector
from paperworks.papers.unlearnable.baselines import error_minimizing_noise
from paperworks.training import TrainSettings


def measured(function: Callable[[], Any], memory: bool = True) -> tuple[Any, float, float]:
    """(what it returns, seconds of the processor, MiB allocated at most or NaN); the second call of two is timed."""
    function()
    started = time.process_time()
    value = function()
    seconds = time.process_time() - started
    if not memory:
        return value, seconds, float("nan")
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return value, seconds, peak


def beside(
    name: str, own: Callable[[], Any], peer: Callable[[], Any], *, picks: bool = False, memory: bool = True
) -> None:
    """A line of the table; ``memory`` of a peer that is compiled is not counted, which would take minutes."""
    (a, seconds, own_memory), (b, peer_seconds, peer_memory) = measured(own), measured(peer, memory)
    a, b = np.asarray(a), np.asarray(b)
    same = f"{int((a == b).sum())} of {len(b)} picks" if picks else f"largest difference {np.abs(a - b).max():.1e}"
    theirs = f"{1000 * peer_seconds:.1f} ms" + ("" if np.isnan(peer_memory) else f", {peer_memory:.1f} MiB")
    print(
        f"| {name} | {same} | {1000 * seconds:.1f} ms, {own_memory:.1f} MiB | {theirs} "
        f"| {seconds / max(peer_seconds, 1e-9):.2f} |",
        flush=True,
    )


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max())
    return e / e.sum()


def scores(rows: int) -> None:
    """Scores of rows of a trained network, ours beside one row at a time."""
    rng = np.random.default_rng(0)
    digits, labels = load_digits(return_X_y=True)
    pick = rng.integers(len(digits), size=rows)
    x = torch.from_numpy((digits[pick] / 16 + rng.normal(size=(rows, 64)) / 4).astype(np.float32))
    y = labels[pick]
    torch.manual_seed(0)
    model = nn.MLP(inputs=64, hidden=(128, 128), outputs=10)
    classification.fit(
        model, x, y, settings=TrainSettings(steps=60, batch_size=64, optimizer="sgd", learning_rate=0.05)
    )
    z = classification.predict_logits(model, x, device="cpu")
    h = classification.features(model, x, classification.last_linear_layer(model), of="input", device="cpu")
    z64 = z.astype(np.float64)

    def each(function: Callable[[np.ndarray, int], float]) -> Callable[[], list[float]]:
        return lambda: [function(softmax(row), int(label)) for row, label in zip(z64, y, strict=True)]

    def without(p: np.ndarray, c: int) -> np.ndarray:
        return np.delete(p, c)

    one = np.eye(10)
    beside(
        "EL2N", lambda: classification.error_norm(z, y), each(lambda p, c: float(np.sqrt(((p - one[c]) ** 2).sum())))
    )
    beside("EL1N", lambda: classification.error_norm(z, y, order=1), each(lambda p, c: float(np.abs(p - one[c]).sum())))
    beside(
        "max-margin error",
        lambda: classification.margin_error(z, y),
        each(lambda p, c: float(without(p, c).max() - p[c])),
    )
    beside(
        "sum-margin error",
        lambda: classification.summed_margin_error(z, y),
        each(lambda p, c: float((without(p, c) - p[c]).sum())),
    )
    beside("entropy", lambda: classification.entropy(z), each(lambda p, c: float(-(p * np.log(p)).sum())))
    beside("least confidence", lambda: classification.largest_probability(z), each(lambda p, c: float(p.max())))
    beside(
        "margin",
        lambda: classification.probability_margin(z),
        each(lambda p, c: float(np.subtract(*np.sort(p)[[-1, -2]]))),
    )

    def gradients(parameters: Callable[[], list[torch.nn.Parameter]]) -> Callable[[], list[float]]:
        def all_rows() -> list[float]:
            found = []
            for number in range(rows):
                loss = torch.nn.functional.cross_entropy(model(x[number : number + 1]), torch.tensor([y[number]]))
                parts = torch.autograd.grad(loss, parameters())
                found.append(float(torch.sqrt(sum(part.double().square().sum() for part in parts))))
            return found

        return all_rows

    last = dict(model.named_modules())[classification.last_linear_layer(model)]
    beside(
        "GraNd, last layer (DeepCore)",
        lambda: classification.last_layer_gradient_norms(z, y, h),
        gradients(lambda: list(last.parameters())),
    )
    beside(
        "GraNd, all parameters",
        lambda: classification.gradient_norms(model, x, y, device="cpu"),
        gradients(lambda: list(model.parameters())),
    )
    course = rng.normal(size=(40, rows, 10)) + 2 * one[y] * np.linspace(0, 1, 40)[:, None, None]

    def recorded() -> classification.TrainingDynamics:
        dynamics = classification.TrainingDynamics(rows)
        for logits in course:
            order = torch.from_numpy(rng.permutation(rows))
            for batch in order.split(256):
                dynamics.record(batch, torch.from_numpy(y)[batch], torch.from_numpy(logits)[batch])
        return dynamics

    def forgotten() -> list[float]:
        found = []
        for number in range(rows):
            before, events, learned = False, 0, False
            for logits in course[:, number]:
                now = int(logits.argmax()) == y[number]
                events, learned, before = events + (before and not now), learned or now, now
            found.append(events if learned else -1)
        return found

    def areas() -> list[float]:
        return [
            float(np.mean([row[y[number]] - without(row, y[number]).max() for row in course[:, number]]))
            for number in range(rows)
        ]

    beside("forgetting, 40 presentations", lambda: recorded().forgetting(never_learned=-1), forgotten)
    beside("AUM, 40 presentations", lambda: recorded().aum(), areas)


def selections(rows: int) -> None:
    """Positions in the order of choice, ours beside the plain loops."""
    rng = np.random.default_rng(1)
    centers = rng.normal(size=(40, 64))
    x = centers[rng.integers(40, size=rows)] + 0.7 * rng.normal(size=(rows, 64))
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    wide, quality, count = x.astype(np.float64), rng.normal(size=rows), rows // 20

    def herd() -> list[int]:
        mean, total, chosen = wide.mean(0), np.zeros(64), []
        for step in range(count):
            away = [
                np.inf
                if number in chosen
                else float(((step + 1) * mean - total - row) @ ((step + 1) * mean - total - row))
                for number, row in enumerate(wide)
            ]
            chosen.append(int(np.argmin(away)))
            total = total + wide[chosen[-1]]
        return chosen

    def centers_of() -> list[int]:
        chosen = [int(np.random.default_rng(0).integers(rows))]
        while len(chosen) < count:
            chosen.append(int(np.min([((wide - wide[c]) ** 2).sum(1) for c in chosen], axis=0).argmax()))
        return chosen

    def deita() -> list[int]:
        chosen: list[int] = []
        for number in np.argsort(-quality, kind="stable"):
            if all(((wide[number] - wide[c]) ** 2).sum() >= 0.5 for c in chosen):
                chosen.append(int(number))
            if len(chosen) == count:
                break
        return chosen

    def facility() -> list[int]:
        similarity = np.maximum(wide @ wide.T, 0)
        best, chosen = np.zeros(rows), []
        for _ in range(count):
            gains = np.maximum(similarity, best[:, None]).sum(0) - best.sum()
            gains[chosen] = -np.inf
            chosen.append(int(gains.argmax()))
            best = np.maximum(best, similarity[:, chosen[-1]])
        return chosen

    def strata() -> np.ndarray:
        """How many rows of each stratum are kept: the rows inside are drawn."""
        kept = np.sort(wide[:, 0])[round(0.3 * rows) :]
        edges = np.linspace(kept.min(), kept.max(), 51)
        sizes = np.array(
            [((kept >= a) & (kept < b)).sum() for a, b in zip(edges[:-1], [*edges[1:-1], np.inf], strict=True)]
        )
        given, left = np.zeros(50, int), round(0.1 * rows)
        for turn, number in enumerate(np.argsort(sizes, kind="stable")):
            given[number] = min(sizes[number], left // (50 - turn))
            left -= given[number]
        return given

    def own_strata() -> np.ndarray:
        kept = np.sort(wide[:, 0])[round(0.3 * rows) :]
        chosen = wide[coverage_centric(wide[:, 0], 0.1, beta=0.3), 0]
        return np.histogram(chosen, np.linspace(kept.min(), kept.max(), 51))[0]

    beside(f"herding, {count} of {rows:,}", lambda: herding(x, count), herd, picks=True)
    beside(f"k-center, {count} of {rows:,}", lambda: k_center_greedy(x, count), centers_of, picks=True)
    beside(
        f"Deita, {count} of {rows:,}",
        lambda: select(x, count, "deita", quality=quality, threshold=0.5),
        deita,
        picks=True,
    )
    beside(f"facility location, {count} of {rows:,}", lambda: facility_location(x, count), facility, picks=True)
    if find_spec("apricot"):
        from apricot import FacilityLocationSelection

        def apricot() -> Any:
            similarity = np.maximum(wide @ wide.T, 0)
            return FacilityLocationSelection(count, metric="precomputed", optimizer="lazy").fit(similarity).ranking

        name = "facility location, apricot-select"
        beside(name, lambda: facility_location(x, count), apricot, picks=True, memory=False)
    beside("CCS, rows of each of 50 strata", own_strata, strata)


def deletions(streams: int) -> None:
    """Requests that are served before a retraining, simulated and in closed form."""
    print(
        "\n| shards, slices, orders | simulated | closed form | SISA simulated | SISA closed form |\n"
        "| --- | --- | --- | --- | --- |"
    )
    for shards, slices, orders in ((5, 4, 4), (5, 6, 3), (2, 4, 4), (10, 4, 4)):
        line = [f"{shards}, {slices}, {orders}"]
        for budget in (orders, 1):
            lived = simulate_deletions(
                shards, slices, budget, streams=streams, rng=np.random.default_rng([shards, budget])
            ).requests
            error = lived.std() / streams**0.5
            line += [f"{lived.mean():.1f} ± {1.96 * error:.1f}", f"{deletion_rate(shards, slices, budget):.2f}"]
        print("| " + " | ".join(line) + " |", flush=True)


def protection() -> None:
    """The two objectives on 600 digits: how long they take, and what a fresh network learns from the changed images."""
    pixels, labels = load_digits(return_X_y=True)
    x, y = (pixels[:600] / 16).astype(np.float32), labels[:600]
    test, truth = (pixels[600:1200] / 16).astype(np.float32), labels[600:1200]

    def make(seed: int) -> torch.nn.Module:
        torch.manual_seed(seed)
        return nn.MLP(inputs=64, hidden=(128, 64), outputs=10)

    print(
        "\n| changed by, budget 0.3 | seconds | Bayes error, estimate | own accuracy | clean accuracy |\n"
        "| --- | --- | --- | --- | --- |"
    )
    for name, change in {
        "nothing": lambda: x,
        "error-minimising noise": lambda: error_minimizing_noise(x, y, make, eps=0.3, device="cpu"),
        "the Bayes error objective, 40 steps": lambda: BEOProtector(
            make, eps=0.3, steps=40, device="cpu"
        ).fit_transform(x, y),
    }.items():
        started = time.process_time()
        changed = np.asarray(change(), np.float32)
        seconds = time.process_time() - started
        model = make(99)
        settings = TrainSettings(steps=300, batch_size=64, optimizer="sgd", learning_rate=0.05, device="cpu")
        classification.fit(model, torch.from_numpy(changed), y, settings=settings)
        own, clean = (
            float((classification.predict(model, torch.from_numpy(images), device="cpu") == codes).mean())
            for images, codes in ((changed, y), (test, truth))
        )
        layer = classification.last_linear_layer(model)
        z = classification.features(model, torch.from_numpy(changed), layer, of="input", device="cpu")
        estimate = BayesErrorEstimator().score(z, y)
        print(f"| {name} | {seconds:.1f} | {estimate:.3f} | {own:.3f} | {clean:.3f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--streams", type=int, default=4000)
    given = parser.parse_args()
    print("| what | the same | ours | peer | ratio of time |\n| --- | --- | --- | --- | --- |")
    scores(given.rows)
    selections(given.rows)
    deletions(given.streams)
    protection()


if __name__ == "__main__":
    main()
