"""The search network, traced modules, the bilevel search and what comes of it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.nn import build_network
from paperworks.papers.tas import (
    ChoiceLogits,
    SearchNetwork,
    SearchSettings,
    ShapedNetwork,
    TracedSpace,
    TransferSettings,
    TransformableSearch,
    cifar_resnet,
    plain_network,
    random_genotype,
    search,
    total_cost,
    uniform_genotype,
)
from paperworks.papers.tas.inheritance import narrows
from paperworks.papers.tas.method import prune_module
from paperworks.papers.tas.repair import repaired
from paperworks.papers.tas.searched import searched_weights
from paperworks.papers.tas.space import kept_widths
from paperworks.pruning.module_job import ModuleJob
from paperworks.runs import Cancelled
from paperworks.structure.trace import cut, load_cut, save_cut

pytestmark = pytest.mark.filterwarnings("ignore:.*hardly decided")

CHAIN = plain_network(4, ((6, 6), (6,)), (1, 2), outputs=3, channels=1)
BRIEF = SearchSettings(epochs=2, batch_size=16, learning_rate=0.05, outside="repair", device="cpu")


def examples(count: int = 48) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 3
    images = rng.normal(size=(count, 1, 6, 6)) + labels[:, None, None, None]
    return images.astype(np.float32), labels


def test_draws_are_different_candidates_whose_weights_add_up() -> None:
    choices = ChoiceLogits((8, 3, 1, 2), torch.Generator().manual_seed(0))
    for count in (1, 2, 5):
        drawn = choices.draw(count, 1.0, torch.Generator().manual_seed(count))
        for draw, size in zip(drawn, choices.sizes, strict=True):
            assert len(draw.picks) == len(set(draw.picks)) == min(count, size)
            assert max(draw.picks) < size
            assert float(draw.weights.detach().sum()) == pytest.approx(1.0)


def test_draws_have_the_probabilities_of_the_logits() -> None:
    choices = ChoiceLogits((3,))
    with torch.no_grad():
        choices.logits.copy_(torch.tensor([[0.2, 0.3, 0.5]]).log())
    generator = torch.Generator().manual_seed(0)
    picked = [int(choices.noisy(1.0, generator).argmax()) for _ in range(3000)]  # Gumbel-max is exact
    assert np.allclose(np.bincount(picked) / 3000, [0.2, 0.3, 0.5], atol=0.04)


@pytest.mark.parametrize("shape", [CHAIN, cifar_resnet(8, outputs=3, channels=1, width=6)], ids=["plain", "residual"])
def test_a_certain_choice_is_the_plain_network(shape: Any) -> None:
    space = SearchNetwork(shape, (6, 6), sampled=1, seed=1)
    images = torch.randn(3, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for _ in range(4):
            space.train()(images)
    space.eval()
    generator, tried = torch.Generator().manual_seed(2), 0
    while tried < 4:
        places = [int(torch.randint(len(c), (), generator=generator)) for c in space.choices.values()]
        genotype = space.genotype_at(places)
        if narrows(space.shape_of(genotype)):
            continue
        tried += 1
        with torch.no_grad(), space.certain(genotype):
            assert torch.allclose(space(images), searched_weights(space, genotype).eval()(images), atol=1e-6)


def test_gradients_reach_widths_and_depths_and_only_those_when_asked() -> None:
    space = SearchNetwork(CHAIN, (6, 6), seed=1)
    images = torch.randn(4, 1, 6, 6)
    with space.architecture_only():
        space(images).square().sum().backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in space.architecture_parameters())  # type: ignore[union-attr]
    assert space.stem.conv.weight.grad is None
    space(images).sum().backward()
    assert space.stem.conv.weight.grad is not None


def test_a_search_ends_in_the_band_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    images, labels = examples()

    def found(folder: Path | None, stop: int | None = None) -> Any:
        space = SearchNetwork(CHAIN, (6, 6), seed=3)
        seen = 0

        def progress(iterable: Any, description: str, total: int | None = None) -> Any:
            nonlocal seen
            for item in iterable:
                if stop is not None and seen == stop:
                    raise Cancelled
                seen += 1
                yield item

        return search(space, images, labels, settings=BRIEF, checkpoint_dir=folder, progress=progress)

    whole = found(None)
    with pytest.raises(Cancelled):
        found(tmp_path, stop=5)
    again = found(tmp_path)
    assert again.genotype == whole.genotype
    assert again.history == whole.history
    assert abs(whole.share / 0.5 - 1) <= 0.05


def test_a_search_that_ends_outside_names_the_nearest() -> None:
    images, labels = examples()
    settings = SearchSettings(target=0.11, epochs=1, batch_size=16, tolerance=0.0, device="cpu")
    with pytest.raises(InputError, match="came nearest"):
        search(SearchNetwork(CHAIN, (6, 6), seed=3), images, labels, settings=settings)


def test_repair_moves_towards_the_target() -> None:
    space = SearchNetwork(CHAIN, (6, 6), seed=0)
    for target in (0.2, 0.5, 0.9):
        places = repaired(space, target * space.full_cost, 0.05)
        assert abs(space.cost_of(space.genotype_at(places)) / space.full_cost / target - 1) <= 0.05


def test_widths_of_blocks_that_leave_are_zero() -> None:
    widths = {"stem": 4, "stages.0.0.convs.0": 3, "stages.0.1.convs.0": 5, "stages.1.0.convs.0": 6}
    kept = kept_widths({"widths": widths, "depths": {"stages.0": 1, "stages.1": 1}})
    assert kept == {**widths, "stages.0.1.convs.0": 0}
    assert kept_widths({"widths": {"stages.2/channel": 4}, "depths": {}}) == {"stages.2/channel": 4}


def test_rivals_have_the_cost() -> None:
    space = SearchNetwork(cifar_resnet(8, channels=1, width=8), (8, 8))
    for target in (0.3, 0.6):
        assert space.cost_of(uniform_genotype(space, target)) / space.full_cost == pytest.approx(target, rel=0.05)
        first, again = (random_genotype(space, target, 4) for _ in range(2))
        assert first == again
        assert space.cost_of(first) / space.full_cost == pytest.approx(target, rel=0.05)


def logits_of(output: Any) -> torch.Tensor:
    return getattr(output, "logits", output)


class Own(nn.Module):
    """Depthwise, a gate, a concatenation, a norm before its layer, and one width in two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.depthwise, self.norm2 = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8)
        self.again = nn.Conv2d(8, 8, 1)
        self.squeeze, self.excite = nn.Linear(8, 4), nn.Linear(4, 8)
        self.left, self.right = nn.Conv2d(8, 6, 3, padding=1), nn.Conv2d(8, 4, 1)
        self.last, self.head = nn.Conv2d(10, 5, 1), nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.first(x)).relu()
        x = x + self.again(self.norm2(self.depthwise(x)).relu())
        x = x * torch.sigmoid(self.excite(self.squeeze(x.mean((2, 3))).relu()))[:, :, None, None]
        x = self.last(torch.cat([self.left(x).relu(), self.right(x)], 1)).relu()
        return self.head(x.mean((2, 3)))


@pytest.fixture(scope="module")
def own() -> TracedSpace:
    torch.manual_seed(0)
    return TracedSpace(Own(), torch.randn(2, 1, 6, 6), ratios=(0.5, 1.0), start="given", seed=1)


def test_a_traced_module_with_certain_widths_is_the_cut_module(own: TracedSpace) -> None:
    assert len(own.choices) == 5
    images = torch.randn(3, 1, 6, 6)
    genotype = own.genotype_at([number % 2 for number in range(len(own.choices))])
    smaller = cut(own.groups, own.plan(genotype)).eval()
    own.eval()
    with torch.no_grad(), own.certain(genotype):
        assert torch.allclose(own(images), smaller(images), atol=1e-6)
    assert own.cost_of(genotype) == own.groups.cost(own.plan(genotype)).macs


@pytest.mark.parametrize(
    ("name", "sizes", "hidden"),
    [
        ("vit", {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12}, 1),
        ("convnext", {"hidden_sizes": [4, 6], "depths": [1, 1], "num_stages": 2}, 2),
    ],
)
def test_units_in_front_of_a_layer_norm_have_one_for_each_width(name: str, sizes: dict[str, Any], hidden: int) -> None:
    module, images = build_network(name, image_size=8, **sizes), torch.rand(2, 1, 8, 8)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.rand(parameter.shape, generator=torch.Generator().manual_seed(1)))
    space = TracedSpace(module, images, ratios=(0.5, 1.0), start="given")
    assert sum(choice.endswith("/hidden") for _, choice in space.choices) == hidden
    for first in (0, 1):
        genotype = space.genotype_at([(first + number) % 2 for number in range(len(space.choices))])
        smaller = cut(space.groups, space.plan(genotype)).eval()
        with torch.no_grad(), space.eval().certain(genotype):
            assert torch.allclose(logits_of(space(images)), logits_of(smaller(images)), atol=1e-5)
    kept = space.inherit(module, space.least())
    assert sum(p.numel() for p in kept.parameters()) < sum(p.numel() for p in module.parameters())
    logits_of(space.train()(images)).sum().backward()
    norms = [module for module in space.modules() if isinstance(module, nn.LayerNorm)]
    assert {len(norm.weight) for norm in norms} >= ({4, 8} if name == "vit" else {2, 3, 4, 6})


def test_the_expected_cost_of_a_traced_module_is_the_mean(own: TracedSpace) -> None:
    with torch.no_grad():
        own.widths.logits.normal_(generator=torch.Generator().manual_seed(5))
    chances = [p.detach().numpy() for p in own.probabilities()]
    mean = sum(
        np.prod([p[n] for p, n in zip(chances, places, strict=True)]) * own.cost_of(own.genotype_at(list(places)))
        for places in itertools.product(*(range(len(p)) for p in chances))
    )
    assert float(own.expected_cost().detach()) == pytest.approx(mean, rel=1e-12)


def test_a_traced_module_is_found_saved_and_loaded(tmp_path: Path) -> None:
    images, labels = examples()
    torch.manual_seed(0)
    finder = TransformableSearch(
        Own(), torch.randn(2, 1, 6, 6), settings=BRIEF, training=TransferSettings(epochs=1, batch_size=16, device="cpu")
    )
    network = finder.fit_distill(images, labels)
    assert finder.genotype_["ratio"] == pytest.approx(0.5, rel=0.05)
    save_cut(network, tmp_path / "cut")
    probe = torch.randn(2, 1, 6, 6)
    assert torch.equal(load_cut(tmp_path / "cut", build=Own).eval()(probe), network(probe))
    assert finder.predict(images).shape == (48,)


def test_a_search_begins_anew_and_serves_other_tasks_than_classes() -> None:
    images, labels = examples()
    finder = TransformableSearch(CHAIN, (6, 6), settings=BRIEF)
    first = finder.fit(images, labels).genotype_, finder.probabilities_
    assert (finder.fit(images, labels).genotype_, finder.probabilities_) == first

    def squares(model: nn.Module, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        errors = (model(batch["inputs"])[:, 0] - batch["labels"]).square()
        return errors.sum(), torch.tensor(len(errors))

    numbers = torch.from_numpy(images.mean((1, 2, 3)))
    finder.fit({"inputs": images, "labels": numbers}, loss=squares)
    assert all(np.isnan(row["accuracy"]) for row in finder.history_)


def test_a_found_shape_is_kept_as_json(tmp_path: Path) -> None:
    images, labels = examples()
    finder = TransformableSearch(CHAIN, (6, 6), settings=BRIEF, random_state=2).fit(images, labels)
    finder.save_genotype(tmp_path / "genotype.json")
    other = TransformableSearch(CHAIN, (6, 6)).from_genotype(tmp_path / "genotype.json")
    assert other.found_.genotype == finder.found_.genotype
    network = other.build(seed=1)
    assert isinstance(network, ShapedNetwork)
    assert total_cost(network.shape, (6, 6)) == json.loads((tmp_path / "genotype.json").read_text())["cost"]
    with pytest.raises(InputError, match="genotype"):
        other.from_genotype({"widths": {"stem": 99}, "depths": {}})
    with pytest.raises(InputError, match="genotype"):
        other.from_genotype(tmp_path / "missing.json")


def test_the_method_for_any_module() -> None:
    images, labels = examples()
    data = torch.utils.data.TensorDataset(torch.from_numpy(images), torch.from_numpy(labels))
    torch.manual_seed(0)
    job = ModuleJob(Own(), torch.from_numpy(images[:2]), 0.5, data=data, train_steps=16, batch_size=16, device="cpu")
    pruned = prune_module(job)
    assert job.analyze(pruned.module).cost().macs <= 0.5 * job.dense_cost().macs
    assert 0 < pruned.steps <= 8
    with pytest.raises(InputError, match="train_steps"):
        prune_module(ModuleJob(Own(), torch.from_numpy(images[:2]), 0.5, data=data, train_steps=1))
    with pytest.raises(InputError, match="data"):
        prune_module(ModuleJob(Own(), torch.from_numpy(images[:2]), 0.5, train_steps=16))


def test_bad_input() -> None:
    images, _ = examples()
    with pytest.raises(InputError, match=r"target.*to 1 of the full"):
        TransformableSearch(CHAIN, (6, 6), target=0.01)
    with pytest.raises(InputError, match="labels"):
        search(SearchNetwork(CHAIN, (6, 6)), images[:4], [0, 0, 0, 1], settings=BRIEF)
    with pytest.raises(InputError, match="model"):
        TracedSpace(nn.Linear(3, 2), torch.randn(2, 3))
    with pytest.raises(InputError, match="search"):
        TransformableSearch(Own(), torch.randn(2, 1, 6, 6), search=("depth",))
    with pytest.raises(InputError, match="example_inputs"):
        TransformableSearch(CHAIN, 6)
    with pytest.raises(InputError, match="model"):
        TransformableSearch("resnet", (6, 6))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="network_"):
        TransformableSearch(CHAIN, (6, 6)).predict(images)
    with pytest.raises(InputError, match="genotype_"):
        TransformableSearch(CHAIN, (6, 6)).build()
    for field, value in (("target", 0.0), ("tolerance", 0.7), ("epochs", 0), ("outside", "no"), ("cost_weight", -1.0)):
        with pytest.raises(InputError, match=field):
            SearchSettings(**{field: value})  # type: ignore[arg-type]
