"""What holds exactly: the metrics, the attention, the losses and the reader of annotations."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from paperworks import runs
from paperworks.papers.sieve_swap.attention import DeformableAttention, sample_linear
from paperworks.papers.sieve_swap.evaluation import evaluate
from paperworks.papers.sieve_swap.losses import match, matching_cost, varifocal
from paperworks.papers.sieve_swap.network import Layer
from paperworks.papers.sieve_swap.settings import ProcXConfig
from paperworks.papers.sieve_swap.steps_dataset import StepDataset
from paperworks.papers.sieve_swap.story_scores import ordered_matching
from paperworks.runs import Finding, largest, smallest

CASES = 200


def brute_force_order(scores: np.ndarray) -> float:
    """The largest sum over all order-preserving one-to-one matchings, by looking at each of them."""
    n, m = scores.shape
    best = 0.0
    for size in range(1, min(n, m) + 1):
        for rows in itertools.combinations(range(n), size):
            for columns in itertools.combinations(range(m), size):
                best = largest((best, float(scores[list(rows), list(columns)].sum())))
    return best


@runs.study(claims=("soda-is-order-preserving", "earlier-systems"), title="Metrics against brute force", minutes=0.2)
def metrics(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """SODA by enumeration, the crossing example, and what order and perfection do to the scores."""
    rng = run.rng("soda")
    errors = []
    for _ in run.progress(range(20 if fast else CASES), "random score matrices"):
        scores = rng.random((int(rng.integers(1, 7)), int(rng.integers(1, 7))))
        errors.append(abs(ordered_matching(scores)[0] - brute_force_order(scores)))
    yield Finding(
        "soda-is-order-preserving",
        f"the dynamic programme equals enumeration on {len(errors)} random matrices of up to 6 x 6",
        "exact",
        largest(errors),
        "<=",
        1e-12,
        detail="largest difference",
    )
    yield Finding(
        "soda-is-order-preserving",
        "the score matrix [[0.1, 0.9], [0.8, 0.2]] gives 0.9: crossing pairs do not add up",
        "exact",
        ordered_matching(np.array([[0.1, 0.9], [0.8, 0.2]]))[0],
        "==",
        0.9,
        tolerance=1e-12,
        baseline=1.7,
        baseline_name="free matching",
    )
    references, predictions = _story(rng)
    names = ("f1", "soda_a", "soda_b", "soda_c", "soda_d", "cider", "meteor_es")
    whole = evaluate(predictions, references, names)
    mixed = {video: [steps[i] for i in rng.permutation(len(steps))] for video, steps in predictions.items()}
    again = evaluate(mixed, references, names)
    yield Finding(
        "earlier-systems",
        "no score changes when predictions come in another order",
        "exact",
        largest(abs(whole[name] - again[name]) for name in whole),
        "<=",
        1e-12,
        detail=f"largest difference of {len(whole)} figures",
    )
    perfect = evaluate(references, references, ("f1", "soda_c", "soda_d"), scorer="token_f1")
    yield Finding(
        "earlier-systems",
        "predicting the references gives 1, within the 1e-8 of the overlap: F1, SODA_c with token F1, SODA_d",
        "exact",
        smallest(perfect[name] for name in ("f1", "soda_c", "soda_d")),
        "==",
        1.0,
        tolerance=1e-6,
    )


def _story(rng: np.random.Generator) -> tuple[StepDataset, dict[str, list[dict[str, Any]]]]:
    words = ["add", "stir", "the", "onion", "pan", "water", "salt", "heat", "slowly", "cut", "fine"]
    references, predictions = {}, {}
    for number in range(6):
        starts = np.sort(rng.random(int(rng.integers(2, 7))) * 60)
        times = np.stack([starts, starts + 1 + rng.random(len(starts)) * 12], 1)
        texts = [" ".join(rng.choice(words, 5)) for _ in times]
        references[f"v{number}"] = {"duration": 80.0, "timestamps": times.tolist(), "sentences": texts}
        predictions[f"v{number}"] = [
            {"timestamp": [max(0.0, a + rng.normal() / 2), b + 2.0], "sentence": " ".join(rng.choice(words, 5))}
            for a, b in times
        ]
    return StepDataset.of(references), predictions


@runs.study(claims=("key-aware-attention",), title="Key-aware deformable attention", minutes=0.1)
def attention(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """Points on every position give full attention, equal keys give equal weights, sampling is grid sampling."""
    generator = run.torch_rng("attention")
    full, equal = [], []
    for heads, length in ((1, 5), (2, 8), (4, 16)):
        differences = attention_differences(heads, length, generator)
        full.append(differences[0])
        equal.append(differences[1])
    yield Finding(
        "key-aware-attention",
        "one level, as many points as positions, on their centres: equal to full softmax attention",
        "exact",
        largest(full),
        "<=",
        1e-5,
        detail="largest difference, float64; 1 to 4 heads, 5 to 16 positions",
    )
    yield Finding(
        "key-aware-attention",
        "equal keys: equal to deformable attention with equal weights",
        "exact",
        largest(equal),
        "<=",
        1e-5,
        detail="largest difference; points between the first and the last position",
    )
    values = torch.randn(3, 7, 2, 4, generator=generator, dtype=torch.float64)
    places = torch.rand(3, 5, 2, 6, generator=generator, dtype=torch.float64) * 1.6 - 0.3
    yield Finding(
        "key-aware-attention",
        "linear sampling equals PyTorch's grid_sample with align_corners=False and zeros outside",
        "exact",
        float((sample_linear(values, places) - _grid_sampled(values, places)).abs().max()),
        "<=",
        1e-10,
    )


def attention_differences(heads: int, length: int, generator: torch.Generator) -> tuple[float, float]:
    """Largest differences to full attention, and with equal keys to equal weights."""
    dim = 16
    module = DeformableAttention(dim, heads, 1, length, key_aware=True).double()
    for parameter in module.parameters():
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.5)
    query = torch.randn(2, 3, dim, generator=generator, dtype=torch.float64)
    memory = torch.randn(2, length, dim, generator=generator, dtype=torch.float64)
    places = ((torch.arange(length, dtype=torch.float64) + 0.5) / length).expand(2, 3, heads, 1, length)
    reference = torch.full((2, 3, 1, 1), 0.5, dtype=torch.float64)
    found = module(query, reference, memory, [length], places=places)
    full = float((found - _full_attention(module, query, memory)).detach().abs().max())
    plain = DeformableAttention(dim, heads, 1, length, key_aware=False).double()
    with torch.no_grad():
        module.key.weight.zero_()  # every key is the bias
        for name in ("value", "output"):
            getattr(plain, name).load_state_dict(getattr(module, name).state_dict())
    inside = places * (1 - 1 / length) + 0.5 / length  # outside, a key is 0 and not the bias
    one = module(query, reference, memory, [length], places=inside)
    two = plain(query, reference, memory, [length], places=inside)
    return full, float((one - two).detach().abs().max())


def _full_attention(module: DeformableAttention, query: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
    def split(x: torch.Tensor) -> torch.Tensor:
        return x.view(*x.shape[:2], module.heads, -1).transpose(1, 2)

    mixed = functional.scaled_dot_product_attention(
        split(module.query(query)), split(module.key(memory)), split(module.value(memory))
    )
    return module.output(mixed.transpose(1, 2).reshape(query.shape))


def _grid_sampled(values: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    batch, length, heads, width = values.shape
    image = values.permute(0, 2, 3, 1).reshape(batch * heads, width, 1, length)
    x = (places * 2 - 1).permute(0, 2, 1, 3).reshape(batch * heads, places.shape[1], places.shape[3])
    grid = torch.stack([x, torch.zeros_like(x)], -1)
    found = functional.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return found.view(batch, heads, width, places.shape[1], places.shape[3]).permute(0, 3, 1, 4, 2)


@runs.study(claims=("iou-aware-confidence",), title="Matching and the IoU-aware loss", minutes=0.1)
def objectives(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """The assignment is the best of all; the loss at overlap 1 is cross-entropy; its gradient points to the overlap."""
    generator = run.torch_rng("objectives")
    config = ProcXConfig()
    excess = []
    for _ in range(30):
        logits = torch.randn(1, 6, generator=generator)
        boxes = torch.rand(1, 6, 2, generator=generator) * 0.8 + 0.1
        layer = Layer(logits, boxes, torch.zeros(1, 21), torch.zeros(1, 6, 4))
        segments = torch.rand(1, 3, 2, generator=generator) * 0.8 + 0.1
        cost = matching_cost(layer.logits[0], layer.boxes[0], segments[0], config)
        rows, columns = match(layer, segments, torch.tensor([3]), config)[0]
        best = min(float(cost[list(p), [0, 1, 2]].sum()) for p in itertools.permutations(range(6), 3))
        excess.append(float(cost[rows, columns].sum()) - best)
    yield Finding(
        "iou-aware-confidence",
        "the assignment has the least cost of all (enumeration: 6 queries, 3 segments, 30 cases)",
        "exact",
        largest(excess),
        "<=",
        1e-5,
    )
    logits = torch.linspace(-6, 6, 49, dtype=torch.float64)
    ones = torch.ones_like(logits)
    plain = functional.binary_cross_entropy_with_logits(logits, ones, reduction="none")
    yield Finding(
        "iou-aware-confidence",
        "at an overlap of 1 the IoU-aware loss is the binary cross-entropy",
        "exact",
        float((varifocal(logits, ones) - plain).abs().max()),
        "<=",
        1e-12,
    )
    wrong = 0
    for overlap in (0.0, 0.2, 0.5, 0.9, 1.0):
        x = logits.clone().requires_grad_()
        varifocal(x, torch.full_like(x, overlap)).sum().backward()
        assert x.grad is not None
        away = x.detach().sigmoid() - overlap
        wrong += int((x.grad * away < -1e-12).sum())
    yield Finding(
        "iou-aware-confidence",
        "every gradient moves the score towards the overlap",
        "exact",
        float(wrong),
        "==",
        0.0,
        unit="wrong signs",
        detail="overlaps 0, 0.2, 0.5, 0.9 and 1; scores from 0.0025 to 0.9975",
    )


@runs.study(claims=("youcook2-statistics",), title="The reader of YouCook2's annotations", minutes=0.1)
def reader(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """A generated file in YouCook2's own form has the statistics that it was made with."""
    rng = run.rng("annotations")
    videos, segments, words, seconds, total = 40, 0, 0, 0.0, 0.0
    database: dict[str, Any] = {}
    for number in range(videos):
        at, steps = 0.0, []
        for place in range(int(rng.integers(3, 15))):
            start = at + float(rng.integers(1, 20))
            at = start + float(rng.integers(5, 40))
            text = " ".join(["stir"] * int(rng.integers(3, 15)))
            steps.append({"segment": [start, at], "id": place, "sentence": text})
            segments, words, seconds = segments + 1, words + len(text.split()), seconds + at - start
        duration = at + float(rng.integers(1, 60))
        total += duration
        database[f"video{number}"] = {"duration": duration, "subset": "training", "annotations": steps}
    found = StepDataset.of({"database": database}).statistics()
    expected = {
        "videos": videos,
        "segments": segments,
        "segments per video": segments / videos,
        "seconds of a segment": seconds / segments,
        "words of a segment": words / segments,
        "share of the time": seconds / total,
        "seconds of a video": total / videos,
    }
    yield Finding(
        "youcook2-statistics",
        "the seven statistics of a generated file in YouCook2's form are those that it was made with",
        "exact",
        largest(abs(found[name] - value) for name, value in expected.items()),
        "<=",
        1e-9,
        detail=f"largest difference; {videos} videos, {segments} segments",
    )
