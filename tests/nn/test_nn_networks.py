"""Reference networks: parameter counts in closed form, saving and loading to the bit, refusals; names of networks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from paperworks.errors import InputError
from paperworks.nn import MLP, NETWORKS, SmallCNN, TinyViT, build_network, load_network
from paperworks.training import TrainSettings, cross_entropy_loss, model_logits, train

IMAGES = torch.randn(6, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_parameters_of_a_perceptron() -> None:
    assert parameters(MLP(inputs=784, hidden=(256, 128), outputs=10)) == 784 * 256 + 256 + 256 * 128 + 128 + 1290
    assert parameters(MLP(inputs=5, hidden=(), outputs=2)) == 12
    normed = MLP(inputs=5, hidden=(7,), outputs=2, batch_norm=True, dropout=0.1)
    assert parameters(normed) == 5 * 7 + 7 + 2 * 7 + 7 * 2 + 2


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("residual", [True, False])
def test_parameters_of_a_convolutional_network(norm: str, residual: bool) -> None:
    made = SmallCNN(channels=3, widths=(4, 6, 6), blocks=2, outputs=5, residual=residual, norm=norm)
    stem = 9 * 3 * 4 + 2 * 4
    stages = sum(9 * (before * width + 3 * width * width) + 8 * width for before, width in ((4, 4), (4, 6), (6, 6)))
    shortcuts = (4 * 6 + 12) + (6 * 6 + 12)  # where width or resolution change
    assert parameters(made) == stem + stages + residual * shortcuts + 6 * 5 + 5


def test_parameters_of_a_vision_transformer() -> None:
    w, layers, patches = 32, 3, (28 // 7) ** 2
    made = TinyViT(image_size=28, patch_size=7, channels=2, width=w, layers=layers, heads=4, outputs=5)
    block = 4 * w * w + 4 * w + 8 * w * w + 5 * w + 4 * w  # attention, feed-forward, two norms
    assert parameters(made) == 49 * 2 * w + w + w + (1 + patches) * w + layers * block + 2 * w + 5 * w + 5


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_saved_and_loaded_to_the_bit(name: str, tmp_path: Path) -> None:
    model = build_network(name, outputs=3, seed=4)
    data = {"pixel_values": IMAGES, "labels": torch.arange(6) % 3}
    train(model, data, TrainSettings(steps=2, batch_size=6, learning_rate=1e-2), loss=cross_entropy_loss())
    model.eval().save_pretrained(tmp_path / "model")  # type: ignore[operator]
    again = load_network(tmp_path / "model")
    assert not again.training
    assert type(again) is type(model)
    assert again.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), model.state_dict().values(), strict=True))
    with torch.no_grad():
        assert torch.equal(model_logits(again, data), model_logits(model, data))
        assert torch.equal(model_logits(again, {"inputs": IMAGES}), model_logits(model, data))
    assert model_logits(model, data).shape == (6, 3)
    with pytest.raises(InputError, match="folder"):
        if isinstance(model, (MLP, SmallCNN, TinyViT)):
            model.save_pretrained(tmp_path / "model")  # nothing is overwritten
        else:
            load_network(tmp_path)


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_depend_on_the_seed_only(name: str) -> None:
    before = torch.get_rng_state()
    first, same, other = (build_network(name, image_size=16, channels=3, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    pairs = list(zip(first.parameters(), same.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert any(not torch.equal(a, c) for a, _, c in pairs)


def test_other_number_formats_are_kept(tmp_path: Path) -> None:
    model = MLP(inputs=4, hidden=(3,), batch_norm=True).to(torch.bfloat16)
    model.save_pretrained(tmp_path / "m")
    again = MLP.from_pretrained(tmp_path / "m")
    assert {p.dtype for p in again.parameters()} == {torch.bfloat16}
    assert again.config == model.config


def saved(folder: Path) -> Path:
    return SmallCNN(widths=(4, 8), outputs=3).save_pretrained(folder)


def test_loading_is_strict(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m")
    tensors, config = load_file(folder / "model.safetensors"), json.loads((folder / "config.json").read_text())

    def refused(match: str, tensors: dict[str, torch.Tensor] = tensors, **changes: Any) -> None:
        save_file(tensors, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({**config, **changes}))
        with pytest.raises(InputError, match=match):
            SmallCNN.from_pretrained(folder)

    refused("head.bias", {name: t for name, t in tensors.items() if name != "head.bias"})
    refused("extra.weight", {**tensors, "extra.weight": torch.zeros(1)})
    refused("head.weight", {**tensors, "head.weight": torch.zeros(3, 5)})
    refused("stem.0.weight", channels=3)
    refused("network 'MLP'", network="MLP")
    refused("folder: .*depth", depth=3)
    refused("folder: .*widths", widths=[0])
    (folder / "model.safetensors").write_bytes(b"half")
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="do not load"):
        SmallCNN.from_pretrained(folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(InputError, match="folder"):
        SmallCNN.from_pretrained(folder)
    with pytest.raises(InputError, match="folder"):
        load_network(tmp_path / "nowhere")
    (folder / "config.json").write_text("{}")
    with pytest.raises(InputError, match="names no network"):
        load_network(folder)


def test_group_norm_and_evaluation_keep_examples_apart() -> None:
    model = build_network("small-cnn", norm="group")
    with torch.no_grad():
        alone = torch.cat([model(image[None]) for image in IMAGES])
        torch.testing.assert_close(model(IMAGES), alone, rtol=1e-4, atol=1e-5)


def test_convolutions_are_drawn_as_torch_draws_them() -> None:
    """From U(-a, a) with a = 1 / sqrt(fan in): Kaiming's by fan out are 2.45 times as wide, and learn more slowly."""
    for module in build_network("small-cnn", channels=3, widths=(32, 64), seed=1).modules():
        if isinstance(module, nn.Conv2d):
            bound = module.weight[0].numel() ** -0.5
            assert 0.9 * bound < float(module.weight.detach().abs().max()) <= bound
            assert float(module.weight.detach().std()) == pytest.approx(bound / 3**0.5, rel=0.1)


@pytest.mark.parametrize("residual", [True, False])
def test_a_convolutional_network_learns_as_fast_as_the_same_modules_reset(residual: bool) -> None:
    """Mean loss of the last 5 of 30 steps of SGD, over two seeds; Kaiming's weights are 0.5 above."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images, labels = torch.from_numpy(bunch.images).float()[:, None] / 16, torch.from_numpy(bunch.target)

    def loss(seed: int, reset: bool) -> float:
        model = build_network("small-cnn", image_size=8, widths=(8, 16), blocks=2, residual=residual, seed=seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 100)
            for module in model.modules() if reset else ():
                if isinstance(module, (nn.Conv2d, nn.Linear)):
                    module.reset_parameters()
        step = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
        order = torch.Generator().manual_seed(seed)
        losses = []
        for _ in range(30):
            rows = torch.randint(600, (32,), generator=order)
            losses.append(nn.functional.cross_entropy(model(images[rows]), labels[rows]))
            step.zero_grad()
            losses[-1].backward()
            step.step()
        return float(torch.stack(losses[-5:]).detach().mean())

    ours, plain = (sum(loss(seed, reset) for seed in range(2)) / 2 for reset in (False, True))
    assert ours < plain + 0.2


def test_the_plain_network_is_the_residual_one_without_its_shortcuts() -> None:
    residual, plain = (SmallCNN(widths=(4,), outputs=2, residual=r, norm="group").eval() for r in (True, False))
    plain.load_state_dict(residual.state_dict(), strict=True)  # width and resolution do not change: no shortcut weights
    with torch.no_grad():
        x = residual.stem(IMAGES).relu()
        block = residual.blocks[0]
        inner = block.norm2(block.conv2(block.norm1(block.conv1(x)).relu()))
        assert torch.equal(plain.blocks(x), inner.relu())
        assert torch.equal(residual.blocks(x), (inner + x).relu())


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: build_network("resnet50"), "name"),
        (lambda: build_network("mlp", outputs=0), "outputs"),
        (lambda: build_network("small-cnn", depth=3), "depth"),
        (lambda: build_network("vit", depht=3), "depht"),
        (lambda: build_network("resnet", layer_type="cubic"), "options"),
        (lambda: build_network("tiny-vit", image_size=30), "patch_size"),
        (lambda: build_network("tiny-vit", heads=7), "heads"),
        (lambda: build_network("mlp", activation="sine"), "activation"),
        (lambda: build_network("small-cnn", norm="layer"), "norm"),
        (lambda: MLP(inputs=3)(torch.zeros(2, 4)), "inputs"),
        (lambda: TinyViT()(torch.zeros(1, 1, 32, 32)), "pixel_values"),
    ],
)
def test_bad_options(make: Any, field: str) -> None:
    with pytest.raises(InputError) as caught:
        make()
    assert caught.value.field == field


def test_names_are_known_without_torch() -> None:
    code = "import sys; from paperworks.nn import NETWORKS; print('torch' in sys.modules, len(NETWORKS))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", str(len(NETWORKS))]
