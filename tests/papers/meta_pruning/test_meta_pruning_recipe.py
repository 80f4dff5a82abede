"""The recipe on a folder of images, with networks of the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import paperworks as pw
from paperworks.errors import InputError
from paperworks.nn import MLP, load_network
from paperworks.papers.meta_pruning import GraphMetaNetwork
from paperworks.runs import Report
from paperworks.structure.trace import load_cut

QUICK: dict[str, Any] = {
    "epochs": 1,
    "meta_epochs": 1,
    "meta_batches": 1,
    "select_every": 1,
    "finetune_epochs": 1,
    "final_epochs": 1,
    "hidden": 4,
    "layers": 1,
    "steps": 20,
    "progress": False,
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of colour images, of which one is brighter."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for kind, level in (("dark", 60), ("light", 180)):
        (root / kind).mkdir()
        for number in range(16):
            pixels = np.clip(rng.normal(level, 20, size=(6, 6, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels, "RGB").save(root / kind / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three networks without norms: no bundled metanetwork is for them."""
    root = tmp_path_factory.mktemp("networks")
    for number in range(3):
        torch.manual_seed(number)
        MLP(inputs=108, hidden=(12, 8), outputs=2).save_pretrained(root / str(number))
    return [str(root / str(number)) for number in range(3)]


def run(data: Path, out: Path, **options: Any) -> Report:
    return pw.run("meta-pruning", data=str(data), out=out, **{**QUICK, **options})


@pytest.mark.over_budget("torch.onnx.export takes seconds")
def test_own_networks_on_own_images(photos: Path, mine: list[str], tmp_path: Path) -> None:
    run(photos, tmp_path / "family", action="train", models=tuple(mine[:2]))
    metanetwork = GraphMetaNetwork.from_pretrained(tmp_path / "family/metanetwork")
    assert set(metanetwork.config["edge_types"]) == {"1"}
    report = run(
        photos,
        tmp_path / "out",
        model=mine[2],
        metanetwork=str(tmp_path / "family/metanetwork"),
        speedup=2.5,
        onnx=True,
    )
    assert report.metrics["speedup"] >= 2.5
    by_chance = report.tables[0].rows[0][1] < 0.75  # type: ignore[operator]
    assert any("tests nothing" in line for line in report.lead) == by_chance
    smaller, images = load_cut(tmp_path / "out/pruned"), torch.rand(5, 3, 6, 6)  # without the widths of the dense one
    shares = sum(p.numel() for p in smaller.parameters()) / sum(p.numel() for p in load_network(mine[2]).parameters())
    assert shares == pytest.approx(report.metrics["parameters_kept"])
    session = onnxruntime.InferenceSession(str(tmp_path / "out/pruned.onnx"), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    assert np.allclose(logits, smaller(images).detach().numpy(), atol=1e-4)


def test_a_network_with_single_weights_at_zero_is_saved(photos: Path, mine: list[str], tmp_path: Path) -> None:
    made = GraphMetaNetwork(node_types={"plain": 1, "bias": 1}, edge_types={"1": 1}, hidden=4, layers=1)
    made.save_pretrained(tmp_path / "metanetwork")
    run(
        photos,
        tmp_path / "out",
        model=mine[2],
        metanetwork=str(tmp_path / "metanetwork"),
        criterion="unstructured",
        speedup=4,
    )
    weights = load_file(tmp_path / "out/pruned/model.safetensors")
    pruned = torch.cat([weights["layers.0.weight"].flatten(), weights["layers.2.weight"].flatten()])
    assert int((pruned != 0).sum()) == len(pruned) - round(0.75 * len(pruned))


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"action": "train", "onnx": True}, "onnx"),
        ({"hidden": 3}, "hidden"),
        ({"models": ("one",)}, "models"),
        ({"speedup": 0.5}, "speedup"),
        ({"metanetwork": "bundled"}, "metanetwork"),
    ],
)
def test_bad_options_are_named(
    photos: Path, mine: list[str], tmp_path: Path, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(InputError) as caught:
        run(photos, tmp_path / "out", model=mine[0], **options)
    assert caught.value.field == field
