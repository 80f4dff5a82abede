"""What ``benchmarks/default_networks.py`` compares: a default network, a plain one, and how both are trained."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from default_networks_methods import (
    Result,
    Which,
    clicks,
    code_model,
    contrastive,
    in_context,
    language_model,
    pointers,
    policy,
    seeded,
    tower,
)
from default_networks_plain import ResidualNetwork, convolutions, nearest_size, parameters, perceptron
from torch import nn
from torch.utils.data import TensorDataset

from paperworks import nn as networks
from paperworks.classification import fit, predict
from paperworks.nn import build_network
from paperworks.pruning import train_classifier
from paperworks.training import TrainSettings


@dataclass(frozen=True)
class Entry:
    """One comparison.

    Attributes
    ----------
    network, plain : the two, in words. papers : that train ours by default.
    quantity : what is measured. higher : whether more is better.
    measure : of ``ours`` or ``plain``, of a seed, and of whether a few steps are enough.
    seeds : how many.
    """

    network: str
    plain: str
    papers: str
    quantity: str
    higher: bool
    measure: Callable[[Which, int, bool], Result]
    seeds: int = 5


@functools.lru_cache(maxsize=8)
def digits(seed: int, rows: int) -> tuple[TensorDataset, TensorDataset]:
    """So many of scikit-learn's digits to train on, and 1,000 others to test on."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy((bunch.images / 16).astype(np.float32)[:, None])
    labels, order = torch.from_numpy(bunch.target), np.random.default_rng([seed, 31]).permutation(len(bunch.target))
    parts = (order[:rows], order[-1000:])
    return TensorDataset(images[parts[0]], labels[parts[0]]), TensorDataset(images[parts[1]], labels[parts[1]])


def classifier(
    ours: Callable[[], nn.Module],
    plain: Callable[[], nn.Module],
    *,
    epochs: int,
    rows: int = 300,
    rate: float = 0.05,
    adam: float | None = None,
) -> Callable[[Which, int, bool], Result]:
    """Accuracy on digits after SGD with momentum (``train_classifier``), or after AdamW at the rate ``adam``."""

    def measure(which: Which, seed: int, fast: bool) -> Result:
        model = seeded(seed, ours if which == "ours" else plain)
        learn, test = digits(seed, rows)
        passes = 1 if fast else epochs
        if adam is None:
            train_classifier(
                model, learn, epochs=passes, learning_rate=rate, weight_decay=5e-4, seed=seed, device="cpu"
            )
        else:
            settings = TrainSettings(
                epochs=passes,
                batch_size=64,
                learning_rate=adam,
                betas=(0.9, 0.999),
                weight_decay=0.01,
                schedule="cosine",
                device="cpu",
                seed=seed,
            )
            fit(model, *learn.tensors, settings=settings)
        right = predict(model, test.tensors[0], device="cpu") == test.tensors[1].numpy()
        return Result(parameters(model), float(right.mean()))

    return measure


def _vit() -> nn.Module:
    return build_network("vit", image_size=8, patch_size=2, seed=int(torch.randint(2**31, ())))


def _tiny_vit() -> nn.Module:
    return networks.TinyViT(image_size=8, patch_size=2)


def _plain_cnn() -> nn.Module:
    from paperworks.pruning.images import PlainCNN

    return PlainCNN()


def _shaped() -> nn.Module:
    from paperworks.papers.tas import ShapedNetwork, cifar_resnet

    return ShapedNetwork.of(cifar_resnet(8, channels=1), seed=int(torch.randint(2**31, ())))


def _table_network() -> nn.Module:
    from paperworks.papers.s3t.bases import TableNetwork

    return TableNetwork(inputs=64, width=64, layers=8, outputs=10)


def _table_plain() -> nn.Module:
    wanted = parameters(_table_network())
    make = functools.partial(_deep_perceptron)
    return make(nearest_size(make, range(60, 160), wanted))


def _deep_perceptron(width: int) -> nn.Module:
    return perceptron(64, [width] * 8, 10, norm=True)


ACCURACY = "accuracy on 1,000 test digits after {epochs} epochs on {rows}"


def _images(
    network: str,
    plain: str,
    papers: str,
    ours: Any,
    other: Any,
    *,
    epochs: int,
    rows: int = 300,
    seeds: int = 5,
    **options: Any,
) -> Entry:
    quantity = ACCURACY.format(epochs=epochs, rows=rows)
    measure = classifier(ours, other, epochs=epochs, rows=rows, **options)
    return Entry(network, plain, papers, quantity, True, measure, seeds)


RESNET = "residual network of torch's modules"
ENTRIES: dict[str, Entry] = {
    "mlp": _images(
        "MLP 64-128-128-10", "torch's Linear and ReLU", "kd-data-pruning, ladder, unlearnable",
        lambda: networks.MLP(inputs=64, hidden=(128, 128), outputs=10), lambda: perceptron(64, (128, 128), 10),
        epochs=30,
    ),
    "mlp-norm": _images(
        "MLP 64-96-64-10, BatchNorm", "torch's Linear, BatchNorm, ReLU", "meta-pruning",
        lambda: networks.MLP(inputs=64, hidden=(96, 64), outputs=10, batch_norm=True),
        lambda: perceptron(64, (96, 64), 10, norm=True), epochs=30,
    ),
    "small-cnn": _images(
        "SmallCNN (32, 64, 128)", RESNET, "kd-data-pruning, unlearnable, meta-pruning, pruning-survey",
        lambda: networks.SmallCNN(), lambda: ResidualNetwork(1, (32, 64, 128), 10), epochs=8,
    ),
    "small-cnn-long": _images(
        "SmallCNN (32, 64, 128), trained longer", RESNET, "kd-data-pruning, unlearnable, meta-pruning, pruning-survey",
        lambda: networks.SmallCNN(), lambda: ResidualNetwork(1, (32, 64, 128), 10), epochs=30, seeds=3,
    ),
    "small-cnn-plain": _images(
        "SmallCNN (32, 64), 2 blocks, no shortcuts", "the same layers of torch's modules", "modhifi",
        lambda: networks.SmallCNN(widths=(32, 64), blocks=2, residual=False),
        lambda: ResidualNetwork(1, (32, 64), 10, blocks=2, residual=False), epochs=8,
    ),
    "plain-cnn": _images(
        "PlainCNN, no norms", "the same layers of torch's modules", "pruning-survey, comparison of methods",
        _plain_cnn, lambda: convolutions(1, (32, 32, 64, 64, 128, 128), (1, 2, 1, 2, 1, 1), 10), epochs=12, rows=700,
    ),
    "shaped": _images(
        "residual network of 8 layers (tas)", RESNET, "tas", _shaped, lambda: ResidualNetwork(1, (16, 32, 64), 10),
        epochs=12, rate=0.1,
    ),
    "tiny-vit": _images(
        "TinyViT", "transformers' ViT", "modhifi, pruning-survey, hires-llava", _tiny_vit, _vit, epochs=12, rows=700,
        adam=1e-3,
    ),
    "tiny-vit-sgd": _images(
        "TinyViT, by SGD as modhifi trains it", "transformers' ViT", "modhifi, pruning-survey", _tiny_vit, _vit,
        epochs=12, rows=700, seeds=3,
    ),
    "table-network": _images(
        "residual perceptron of 8 layers (s3t)", "perceptron of 8 layers with BatchNorm", "s3t", _table_network,
        _table_plain, epochs=20, adam=5e-3,
    ),
    "conv-encoder": Entry(
        "ConvEncoder", RESNET, "contrastive-loss", "linear probe on test digits after 15 epochs", True, contrastive, 3,
    ),
    "deepfm": Entry(
        "DeepFM with Xavier's embeddings", "DeepFM with nn.Embedding as torch draws it", "optembed",
        "AUC on word pairs, early stop", True, clicks,
    ),
    "policy": Entry(
        "policy network with guide, mlp", "perceptron without guide", "active-learn",
        "exact mean risk with three arms and 4 queries after 300 iterations", False, policy,
    ),
    "codegen": Entry(
        "CodeGen with jaxformer's initial values", "the same with transformers' initial values", "codegen2",
        "bits per byte of held-out code after 150 steps", False, code_model, 3,
    ),
    "llama": Entry(
        "architecture of the bundled language model, halved", "transformers' GPT-2", "all papers on language models",
        "nats per token of the bundled test text after 120 steps", False, language_model, 3,
    ),
    "pointer": Entry(
        "pointer network, drawn by fan-in", "the same with torch's initial values", "pointer-networks",
        "loss per pointer on 500 hulls after 300 steps", False, pointers, 3,
    ),
    "in-context": Entry(
        "in-context transformer", "pre-norm transformer of torch's layers", "icl-discrete",
        "accuracy on 500 prompts of conjunctions after 400 steps", True, in_context, 3,
    ),
    "tower": Entry(
        "stand-in tower, positions x 10", "transformers' ViT", "hires-llava", "loss of steps 201 to 250", False, tower,
    ),
}  # fmt: skip
