"""Trainings of ``benchmarks/default_networks.py`` that are a paper's own: each gives what a network reached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal
from unittest import mock

import numpy as np
import torch
from default_networks_plain import (
    ClickPerceptron,
    PreNormTransformer,
    ResidualNetwork,
    nearest_size,
    parameters,
)
from torch import nn

from paperworks.training import TrainSettings, train

Which = Literal["ours", "plain"]


@dataclass(frozen=True)
class Result:
    """Trained parameters of a network, and what it reached."""

    parameters: int
    value: float


def seeded(seed: int, make: Callable[[], Any]) -> Any:
    """What ``make`` makes, with random numbers of the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def contrastive(which: Which, seed: int, fast: bool) -> Result:
    """Linear probe of the encoder's features on the test digits."""
    from sklearn.linear_model import LogisticRegression

    from paperworks.papers.contrastive_loss import ContrastiveLoss, ContrastiveTrainer
    from paperworks.papers.contrastive_loss.examples import ConvEncoder, load_examples

    data = load_examples("digits", seed)
    encoder: nn.Module = ConvEncoder(1, seed)
    if which == "plain":
        wanted = parameters(encoder)

        def make(last: int) -> nn.Module:
            return ResidualNetwork(1, (16, 32, last), None)

        encoder = seeded(seed, lambda: make(nearest_size(make, range(48, 128), wanted)))
    settings = TrainSettings(
        epochs=1 if fast else 15,
        batch_size=256,
        learning_rate=1e-3,
        betas=(0.9, 0.999),
        weight_decay=0.0,
        clip_norm=0.0,
        schedule="constant",
        device="cpu",
        seed=seed,
    )
    trainer = ContrastiveTrainer(encoder, ContrastiveLoss(0.3), settings, augment=data.augment)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        trainer.fit(data.train)
    probe = LogisticRegression(max_iter=2000).fit(trainer.encode(data.train), data.train_labels)
    return Result(parameters(encoder), float(probe.score(trainer.encode(data.test), data.test_labels)))


def clicks(which: Which, seed: int, fast: bool) -> Result:
    """AUC of DeepFM on word pairs, with the recipe's options."""
    from paperworks.language import bundled_text
    from paperworks.papers.optembed.fitting import ClickTraining, fit_clicks, scores_of
    from paperworks.papers.optembed.models import make_model
    from paperworks.papers.optembed.sources import split_clicks, word_pairs
    from paperworks.papers.optembed.table import OptEmbedding

    table = word_pairs(bundled_text("validation"), 3000 if fast else 60_000, 0)
    sizes = table.encoder.field_dims_
    rows = split_clicks(table.clicks, seed)

    def ours() -> nn.Module:
        return make_model("deepfm", OptEmbedding(sizes, 16, rows=False, dimensions=False), sizes, 16, hidden=(64, 32))

    model = seeded(seed, ours if which == "ours" else lambda: ClickPerceptron(sizes, 16, (64, 32)))
    training = ClickTraining(l2=1e-3, epochs=1 if fast else 30, batch_size=1024)
    fit_clicks(model, rows[0], rows[1], training, device="cpu", seed=seed)
    return Result(parameters(model), scores_of(model, rows[2])["auc"])


def policy(which: Which, seed: int, fast: bool) -> Result:
    """Exact mean risk in the game of three Bernoulli arms after 300 iterations under a uniform prior."""
    from paperworks.papers.active_learn import learner
    from paperworks.papers.active_learn.evaluation import exact_risk
    from paperworks.papers.active_learn.network import PolicyNetwork
    from paperworks.papers.active_learn.policies import History
    from paperworks.papers.active_learn.studies.examples import three_arms
    from paperworks.papers.active_learn.studies.learned import SMALL

    class Perceptron(PolicyNetwork):
        """A perceptron on the same inputs, with torch's own initialisation and without the guide."""

        def _logits(self, history: History, outputs: bool) -> torch.Tensor:
            logs = self.log_posterior(history) if self.n_thetas else None
            return (self.output_head if outputs else self.query_head)(self._features(history, logs))

    problem, _ = three_arms(4)

    def make(problem: Any, kind: Any, hidden: Any, seed: int, device: str) -> PolicyNetwork:
        network = seeded(
            seed, lambda: (PolicyNetwork if which == "ours" else Perceptron).for_problem(problem, "mlp", hidden)
        )
        if which == "plain":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                network.query_head.reset_parameters()
                network.output_head.reset_parameters()
        return network

    with mock.patch.object(learner, "new_network", make):
        found = learner.fixed_prior_policy(
            problem, hidden=(32, 32), iterations=10 if fast else 300, settings=SMALL, seed=seed
        )
    return Result(parameters(found.network), float(np.mean(exact_risk(found))))


def code_model(which: Which, seed: int, fast: bool) -> Result:
    """Bits per byte of held-out code after 150 steps of next-token training on the standard library."""
    from paperworks.papers.codegen2.models import fused_kernels, small_model
    from paperworks.papers.codegen2.studies import byte_models as bytes_

    model: Any = small_model(bytes_.TOKENS.vocabulary or 0, context=bytes_.CONTEXT, end=bytes_.TOKENS.end, seed=seed)
    if which == "plain":
        model = seeded(seed, lambda: type(model)(model.config))
    rows = {
        "input_ids": torch.from_numpy(
            np.stack([s for s in bytes_.sequences("code") if len(s) == bytes_.RAW]).astype(np.int64)
        )
    }
    settings = TrainSettings(
        steps=2 if fast else 150, batch_size=24, learning_rate=bytes_.RATE, device="cpu", seed=seed
    )
    with fused_kernels(model):
        train(model, rows, settings)
    held = bytes_.windows("code", 50 if fast else 500)
    return Result(parameters(model), float(bytes_.bits(model.eval(), held, 1).mean()))


def language_model(which: Which, seed: int, fast: bool) -> Result:
    """Nats per token of the bundled test text; the bundled architecture at half its width and depth."""
    from transformers import AutoConfig, AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

    from paperworks.language import bundled_text, load_model, perplexity, token_windows

    bundled, tokenizer = load_model(None, "float32", "cpu")
    shape = bundled.config.to_dict() | {
        "hidden_size": 128,
        "intermediate_size": 320,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "dtype": "float32",
    }
    model: Any = seeded(seed, lambda: AutoModelForCausalLM.from_config(AutoConfig.for_model(**shape)))
    if which == "plain":
        wanted = parameters(model)

        def make(inner: int) -> nn.Module:
            return GPT2LMHeadModel(
                GPT2Config(
                    vocab_size=shape["vocab_size"],
                    n_positions=128,
                    n_embd=128,
                    n_layer=3,
                    n_head=4,
                    n_inner=inner,
                    tie_word_embeddings=False,
                    resid_pdrop=0.0,
                    embd_pdrop=0.0,
                    attn_pdrop=0.0,
                )
            )

        model = seeded(seed, lambda: make(nearest_size(make, range(200, 500, 8), wanted)))
    windows = token_windows(tokenizer, [bundled_text("train")], 128)
    settings = TrainSettings(
        steps=2 if fast else 120, batch_size=8, learning_rate=3e-3, warmup_steps=1 if fast else 20, schedule="cosine",
        device="cpu", seed=seed,
    )  # fmt: skip
    train(model, windows, settings)
    test = token_windows(tokenizer, [bundled_text("test")], 128)[: 8 if fast else 128]
    return Result(parameters(model), float(np.log(perplexity(model.eval(), test, batch_size=16))))


def pointers(which: Which, seed: int, fast: bool) -> Result:
    """Loss per pointer on 500 new convex hulls of 5 to 10 points after 300 steps."""
    from paperworks.papers.pointer_networks.fitting import fit, mean_loss, training_settings
    from paperworks.papers.pointer_networks.generators import make_hull
    from paperworks.papers.pointer_networks.network import PointerNetwork
    from paperworks.papers.pointer_networks.pretrained import NetworkConfig

    model = PointerNetwork(NetworkConfig(hidden=128), generator=torch.Generator().manual_seed(seed))
    if which == "plain":
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            for module in model.modules():
                if isinstance(module, (nn.Linear, nn.LSTM)):
                    module.reset_parameters()
            for vector in (model.v, model.stop_key, model.start):
                vector.uniform_(-(len(vector) ** -0.5), len(vector) ** -0.5)
    settings = training_settings(steps=3 if fast else 300, batch_size=64, seed=seed)
    fit(model, make_hull((5, 10), 200 if fast else 10_000, seed), settings)
    return Result(parameters(model), mean_loss(model, make_hull((5, 10), 100 if fast else 500, seed + 10_000)))


def in_context(which: Which, seed: int, fast: bool) -> Result:
    """Accuracy over all positions of 500 new prompts of conjunctions of 8 bits after 400 steps."""
    from paperworks.papers import icl_discrete as icl
    from paperworks.papers.icl_discrete.curves import correct

    config = icl.InContextConfig("transformer", 8, 64, 4, 4, max_points=100)
    model = icl.new_model(config, seed)
    if which == "plain":
        model.network = seeded(seed, lambda: PreNormTransformer(64, 4, 4, 2 * config.max_points))
    task = icl.BooleanTask("conjunction", 8)
    icl.fit(model, task, icl.TrainOptions(2 if fast else 400, 64, 30, 1e-3, seed=seed), device="cpu")
    return Result(parameters(model), float(correct(model, task.sample(500, 30, seed + 1000)).mean()))


def tower(which: Which, seed: int, fast: bool) -> Result:
    """Loss over the last 50 of 250 steps in which the stand-in tower learns to name single digits."""
    from transformers import ViTConfig, ViTModel

    from paperworks.papers.hires_llava import restoration
    from paperworks.papers.hires_llava.entitygrid.generation import EntityGrid

    grid, steps = EntityGrid("digits", canvas=32, seed=seed), 3 if fast else 250
    if which == "ours":
        losses: list[list[float]] = []
        learn = restoration.pretrain

        def noted(*parts: Any, **options: Any) -> list[float]:
            losses.append(learn(*parts, **options))
            return losses[-1]

        with mock.patch.object(restoration, "pretrain", noted):
            model = restoration.stand_in_tower(grid, steps=steps, seed=seed)
        return Result(parameters(model), float(np.mean(losses[0][-50:])))
    config = ViTConfig(
        image_size=grid.slice_side, patch_size=4, num_channels=1, hidden_size=48, num_hidden_layers=3,
        num_attention_heads=4, intermediate_size=192,
    )  # fmt: skip
    vit = seeded(seed, lambda: ViTModel(config, add_pooling_layer=False))
    vision = restoration.VisionTower(vit, mean=restoration.PIXEL_MEAN, std=restoration.PIXEL_STD)
    found = restoration.pretrain(vision, grid, steps=steps, seed=seed)
    return Result(parameters(vit) + 49 * len(grid.entities.names), float(np.mean(found[-50:])))
