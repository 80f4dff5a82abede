"""A small network, records, and a system that is trained once."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from paperworks.nn import build_network
from paperworks.papers.s3t import S3T, Lora, table_base
from paperworks.training import TrainSettings

SETTINGS = TrainSettings(epochs=2, batch_size=8, learning_rate=5e-2, device="cpu")
LORA = Lora(r=2, alpha=4, dropout=0.1)


def network() -> torch.nn.Module:
    """A vision transformer of 6 layers."""
    sizes = {"num_hidden_layers": 6, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8}
    return build_network("vit", image_size=8, outputs=3, seed=1, **sizes)


def records(count: int = 48) -> tuple[dict[str, torch.Tensor], np.ndarray]:
    """Images and labels."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, size=count)
    images = rng.normal(size=(count, 1, 8, 8)) * 0.3
    for row, label in enumerate(labels):
        images[row, 0, label * 2 : label * 2 + 3] += 1
    return {"pixel_values": torch.from_numpy(images.astype(np.float32))}, labels


def make_system(folder: Path | None = None, **options: Any) -> S3T:
    given: dict[str, Any] = {"n_shards": 2, "n_slices": 3, "peft_config": LORA, "settings": SETTINGS, "seed": 3}
    return S3T(network(), folder, **{**given, **options})


def fit(system: S3T, data: Any = None, labels: Any = None, **options: Any) -> S3T:
    own, codes = records()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return system.fit(own if data is None else data, codes if labels is None else labels, **options)


@pytest.fixture(scope="session", autouse=True)
def imported() -> None:
    """What every test imports, so that no single one is charged for it."""
    import matplotlib.figure
    import sklearn.model_selection  # noqa: F401

    table_base(2, 2, layers=1, width=4)
    make_system()._adapt()
    assert matplotlib.figure.Figure().subplots()


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two shards, three slices and three sequences each; copy it to change it."""
    folder = tmp_path_factory.mktemp("trained") / "system"
    fit(make_system(folder))
    return folder


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained folder."""
    return Path(shutil.copytree(trained, tmp_path / "system"))
