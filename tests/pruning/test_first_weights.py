"""New weights are those that a new network of the class begins with, in trained networks and in cut ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.nn import MLP, SmallCNN, TinyViT
from paperworks.pruning import PlainCNN, new_weights
from paperworks.pruning.images import MakeModel, _built
from paperworks.structure.trace import analyze, cut

ENOUGH = 200
"""Values from which on a deviation is known to a fifth."""


class Attending(nn.Module):
    """torch's attention, whose own reset writes a part of what its layers drew."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(32, 4)
        self.norm, self.words = nn.LayerNorm(32), nn.Embedding(50, 32)


def _seeded(make: Callable[[], nn.Module]) -> MakeModel:
    def made(seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return make()

    return made


NETWORKS: dict[str, MakeModel] = {
    "SmallCNN": _seeded(lambda: SmallCNN(widths=(16, 32))),
    "SmallCNN, groups": _seeded(lambda: SmallCNN(widths=(16, 32), norm="group")),
    "PlainCNN": _seeded(PlainCNN),
    "MLP": _seeded(lambda: MLP(inputs=64, hidden=(96, 64), outputs=10, batch_norm=True)),
    "TinyViT": _seeded(lambda: TinyViT(image_size=8, patch_size=2, width=32, layers=1)),
    "attention": _seeded(Attending),
    "resnet": lambda seed: _built("resnet", 8, 1, 10, seed),
    "vit": lambda seed: _built("vit", 8, 1, 10, seed),
    "convnext": lambda seed: _built("convnext", 8, 1, 10, seed),
    "swin": lambda seed: _built("swin", 8, 1, 10, seed),
}


def _trained(model: nn.Module) -> nn.Module:
    """The network with other values everywhere, as if it had been trained and loaded by transformers."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3).add_(1)
            parameter._is_hf_initialized = True
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean += 1  # type: ignore[operator]
    return model


@pytest.mark.parametrize("name", NETWORKS)
def test_each_parameter_is_drawn_as_a_new_network_draws_it(name: str) -> None:
    make = NETWORKS[name]
    made = new_weights(_trained(make(0)), 5)
    again = new_weights(_trained(make(0)), 5)
    fresh = dict(make(1).named_parameters())
    for (path, found), same in zip(made.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(found, same), path
        wanted, found = fresh[path].detach(), found.detach()
        if wanted.unique().numel() == 1:  # gains, shifts, biases at 0
            assert torch.equal(found, wanted), path
        elif wanted.numel() >= ENOUGH:
            assert not torch.equal(found, wanted), path
            assert float(found.std() / wanted.std()) == pytest.approx(1, abs=0.2), path
            assert abs(float(found.mean())) < 0.2 * float(found.std()), path
    for path, buffer in made.named_buffers():
        assert torch.equal(buffer, dict(make(1).named_buffers())[path]), path


def test_narrower_layers_draw_by_their_own_width() -> None:
    model = SmallCNN(widths=(16, 32)).eval()
    groups = analyze(model, torch.zeros(2, 1, 8, 8))
    small = cut(groups, groups.keep({group.name: list(range(4)) for group in groups.values()}))
    made = new_weights(small, 0)
    plain = SmallCNN(widths=(4, 4))
    for (path, found), wanted in zip(made.named_parameters(), plain.parameters(), strict=True):
        assert found.shape == wanted.shape, path
        if found.ndim == 4:
            fan_in = found[0].numel()
            assert float(found.detach().abs().max()) <= fan_in**-0.5, path
            assert float(found.detach().abs().max()) > 0.9 * fan_in**-0.5, path


class Bare(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.scale = nn.Linear(2, 2), nn.Parameter(torch.full((2,), 7.0))


def test_a_parameter_that_nothing_draws_is_refused_or_kept() -> None:
    model = nn.Sequential(Bare())
    with pytest.raises(InputError, match=r"0\.scale, a parameter of Bare"):
        new_weights(model, 0)
    kept = new_weights(model, 0, bare="keep")
    assert torch.equal(kept.get_parameter("0.scale"), torch.full((2,), 7.0))
    assert not torch.equal(kept.get_parameter("0.layer.weight"), model.get_parameter("0.layer.weight"))
    for seed in (-1, 2**70):
        with pytest.raises(InputError, match="seed"):
            new_weights(model, seed)
