"""The recipe on images of the user's own, in the paper's networks and in one that is traced."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

import paperworks as pw
from paperworks.errors import InputError
from paperworks.nn import SmallCNN
from paperworks.papers.tas import ShapedNetwork
from paperworks.runs import Report
from paperworks.structure.trace import load_cut

QUICK: dict[str, Any] = {"epochs": 2, "training_epochs": 1, "batch_size": 16, "progress": False}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of colour images, of which one is brighter."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for kind, level in (("dark", 60), ("light", 180)):
        (root / kind).mkdir()
        for number in range(16):
            pixels = np.clip(rng.normal(level, 20, size=(9, 9, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels, "RGB").save(root / kind / f"{number}.png")
    return root


def run(data: Path | str, out: Path, **options: Any) -> Report:
    return pw.run("tas", data=str(data), out=out, **{**QUICK, **options})


def test_a_folder_of_images_in_a_residual_network(photos: Path, tmp_path: Path) -> None:
    report = run(photos, tmp_path / "out", model="resnet-8", augment=True, compare=False)
    network = ShapedNetwork.from_pretrained(tmp_path / "out/network")
    found = json.loads((tmp_path / "out/genotype.json").read_text(encoding="utf-8"))
    assert found["ratio"] == report.metrics["share of the cost"] == pytest.approx(0.5, rel=0.05)
    images = torch.rand(3, 3, 9, 9)
    program = torch.export.load(tmp_path / "out/network.pt2").module()
    assert torch.allclose(program(images), network(images), atol=1e-5)


@pytest.mark.over_budget("torch.onnx.export takes seconds")
def test_a_traced_network_beside_its_rivals(photos: Path, tmp_path: Path) -> None:
    SmallCNN(channels=3, widths=(4, 6), outputs=2).save_pretrained(tmp_path / "mine")
    report = run(photos, tmp_path / "out", model=str(tmp_path / "mine"), cost="parameters", target=0.6, onnx=True)
    assert [row[0] for row in report.tables[0].rows][:2] == ["full network", "found"]
    assert len(report.tables[0].rows) == 6
    assert all(row[1] == pytest.approx(0.6, rel=0.12) for row in report.tables[0].rows[1:])
    smaller, images = load_cut(tmp_path / "out/network"), torch.rand(5, 3, 9, 9)
    assert sum(p.numel() for p in smaller.parameters()) == report.tables[0].rows[1][2]
    session = onnxruntime.InferenceSession(str(tmp_path / "out/network.onnx"), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    assert np.allclose(logits, smaller(images).detach().numpy(), atol=1e-4)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"model": "imagenet-resnet-18"}, "model"),
        ({"model": "small-cnn", "search": "depth"}, "search"),
        ({"target": 0.01}, "target"),
        ({"ratios": (0.0, 1.0)}, "ratios"),
        ({"tau": (1.0, -1.0)}, "tau"),
        ({"tau": (1.0,)}, "tau"),
        ({"model": "resnet-21"}, "model"),
    ],
)
def test_bad_options_are_named(photos: Path, tmp_path: Path, options: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as caught:
        run(photos, tmp_path / "out", **options)
    assert caught.value.field == field or (field == "model" and caught.value.field == "folder")
