"""The segmenter: vocabularies, saving, training, the teacher that stays as it is, CLIP's residual network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from paperworks.errors import InputError
from paperworks.papers.gkc.clip_resnet import CLIPResNetBackbone, CLIPResNetConfig, load_clip_resnet
from paperworks.papers.gkc.criterion import GKCForTraining, LossWeights
from paperworks.papers.gkc.exporting import save_segmenter
from paperworks.papers.gkc.fitting import fit_segmenter, parameter_groups
from paperworks.papers.gkc.prediction import accuracy_of, harmonic_mean, predict, semantic_maps
from paperworks.papers.gkc.segmenter import class_maximum, load_segmenter
from paperworks.papers.gkc.segments import Scene, Segment, masked_crop
from paperworks.papers.gkc.starting import new_segmenter
from paperworks.papers.gkc.synonyms import SynonymTable
from paperworks.papers.gkc.towers import Towers
from paperworks.papers.gkc.two_stage import measure_cost, two_stage
from paperworks.training import TrainSettings

from .small import WIDTH, encode_text, scenes, segmenter, towers

PLAIN = SynonymTable({"cat": ("cat",), "sofa": ("sofa",), "floor": ("floor",)})
MANY = SynonymTable({"cat": ("cat", "puss"), "sofa": ("sofa", "couch", "divan"), "floor": ("floor",)})
PIXELS = torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)


def settings(steps: int = 2, **options: Any) -> TrainSettings:
    return TrainSettings(steps=steps, batch_size=2, learning_rate=1e-3, device="cpu", **options)


def fit(table: SynonymTable = PLAIN, given: list[Scene] | None = None, **options: Any) -> tuple[Any, list[float]]:
    model = segmenter()
    steps = options.pop("steps", 2)
    result = fit_segmenter(model, given or scenes(), table, towers(), settings(steps), points=32, **options)
    return model, list(result.losses)


@torch.no_grad()
def logits(model: Any, names: Any) -> torch.Tensor:
    model.set_vocabulary(names, encode_text)
    found: torch.Tensor = model(PIXELS).class_logits
    return found


def test_a_vocabulary_changes_only_its_own_scores() -> None:
    model = segmenter()
    plain = logits(model, ["cat", "sofa", "floor"])
    assert plain.shape == (2, 5, 4)
    turned = logits(model, ["floor", "cat", "sofa"])
    assert torch.equal(turned[..., [1, 2, 0, 3]], plain)
    more = logits(model, ["cat", "sofa", "floor", "lamp"])
    assert torch.allclose(more[..., [0, 1, 2, 4]], plain, atol=1e-5)
    double = logits(model, {"cat": ["cat", "cat"], "sofa": ["sofa"], "floor": ["floor"]})
    assert torch.equal(double, plain)
    two = logits(model, {"cat": ["cat", "puss"], "sofa": ["sofa"], "floor": ["floor"]})
    puss = logits(model, ["puss"])
    assert torch.allclose(two[..., 0], torch.maximum(plain[..., 0], puss[..., 0]), atol=1e-5)
    assert torch.allclose(two[..., 1:], plain[..., 1:], atol=1e-5)


def test_the_largest_of_a_classs_names() -> None:
    given = torch.tensor([[1.0, 5.0, 2.0, 7.0]])
    assert class_maximum(given, torch.tensor([0, 0, 1])).tolist() == [[5.0, 2.0, 7.0]]
    assert class_maximum(given, torch.tensor([0, 1, 2])) is given


def test_bad_input() -> None:
    model = segmenter()
    with pytest.raises(InputError, match="vocabulary"):
        model(PIXELS)
    for bad in (torch.zeros(1, 3, 16, 64), torch.zeros(3, 64, 64), torch.zeros(1, 1, 64, 64), PIXELS.int()):
        model.set_vocabulary(["cat"], encode_text)
        with pytest.raises(InputError, match="pixel_values"):
            model(bad)
    with pytest.raises(InputError, match="encode_text"):
        model.set_vocabulary(["cat"], lambda texts: np.ones((len(texts), 3)))
    with pytest.raises(InputError, match="encode_text"):
        model.set_vocabulary(["cat"])  # trained with another text tower than the bundled one


def test_it_is_saved_with_its_vocabulary_and_without_a_teacher(tmp_path: Path) -> None:
    model, _ = fit()
    model.set_vocabulary({"zebra": ["zebra", "striped horse"], "cat": ["cat"]}, encode_text)
    said = save_segmenter(model, tmp_path / "segmenter")
    assert float(said.partition("differ by ")[2].split()[0]) < 1e-4  # kernels depend on where weights lie in memory
    again = load_segmenter(tmp_path / "segmenter")
    assert again.vocabulary == model.vocabulary
    assert list(again.config.vocabulary[0]) == ["zebra", ["zebra", "striped horse"]]
    names = set(again.state_dict())
    assert names == set(model.state_dict())
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    assert not any("kd" in name or "teacher" in name or "distil" in name for name in names)
    with pytest.raises(InputError, match="folder"):
        save_segmenter(model, tmp_path / "segmenter")
    for place in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError, match="model"):
            load_segmenter(place)
    (tmp_path / "segmenter" / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(InputError, match="model"):
        load_segmenter(tmp_path / "segmenter")


def test_the_teacher_stays_as_it_is_and_is_not_needed_afterwards() -> None:
    module = towers().modules[0]
    module.train()  # a careless caller: towers are put in evaluation mode by their maker, and hold no gradient
    module.eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    model, losses = fit(MANY, distillation="distance")
    assert all(np.isfinite(losses))
    after = module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not module.training
    assert all(p.grad is None for p in module.parameters())
    with torch.no_grad():
        assert torch.isfinite(model(PIXELS).class_logits).all()


def test_one_name_a_class_is_plain_training() -> None:
    _, plain = fit(diversification="off", distillation="distance")
    for mode in ("threshold", "prob", "uniform"):
        _, drawn = fit(diversification=mode, distillation="distance")
        assert drawn == pytest.approx(plain, abs=1e-6)
    _, many = fit(MANY, diversification="uniform", distillation="distance")
    assert many != pytest.approx(plain, abs=1e-6)


@pytest.mark.parametrize(("form", "source"), [("inner", "posterior"), ("point", "direct"), ("vision", "prior")])
def test_every_form_trains(form: str, source: str) -> None:
    _, losses = fit(distillation=form, source=source, steps=1)
    assert np.isfinite(losses).all()


def test_a_segment_of_one_pixel_trains() -> None:
    mask = np.zeros((32, 32), bool)
    mask[31, 0] = True
    one = Scene("one", np.full((32, 32, 3), 9, np.uint8), (Segment(0, mask),))
    model, losses = fit(given=[one, Scene("none", one.image, ())], steps=3)
    assert np.isfinite(losses).all()
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert masked_crop(one.image, mask, 8).shape == (8, 8, 3)
    with pytest.raises(InputError, match="mask"):
        masked_crop(one.image, ~mask & mask, 8)


def test_crops_are_grey_outside_of_the_mask() -> None:
    image = np.full((10, 10, 3), 200, np.uint8)
    mask = np.zeros((10, 10), bool)
    mask[2:6, 2:6], mask[2:4, 2:4] = True, False
    crop = masked_crop(image, mask, 4)
    assert (crop[:2, :2] == 128).all()
    assert (crop[2:, 2:] == 200).all()


def test_padded_slots_take_no_part() -> None:
    torch.manual_seed(0)
    training = GKCForTraining(segmenter(), points=16, weights=LossWeights(grounding=0), region_dropout=0)
    texts = torch.from_numpy(np.asarray(encode_text(["a", "b", "c", "d"]), np.float32))
    base = {
        "pixel_values": PIXELS[:1],
        "masks": torch.rand(1, 2, 32, 32) < 0.5,
        "labels": torch.tensor([[0, 1]]),
    }
    found = []
    for slots in ([[0, 1, 2]], [[0, 1, 2, -1, -1]]):
        torch.manual_seed(1)
        found.append(training({**base, "slots": torch.tensor(slots)}, texts)["names"])
    assert float(found[0].detach()) == pytest.approx(float(found[1].detach()), abs=1e-6)


def test_losses_are_finite_where_the_name_loss_leaves_every_query_out() -> None:
    torch.manual_seed(0)
    training = GKCForTraining(segmenter(), points=16, weights=LossWeights(grounding=0), region_dropout=1.0)
    count = training.segmenter.config.mask2former().num_queries
    batch = {
        "pixel_values": PIXELS[:1],
        "masks": torch.rand(1, count, 32, 32) < 0.5,
        "labels": torch.arange(count)[None],
        "slots": torch.arange(count)[None],
    }
    texts = torch.from_numpy(np.asarray(encode_text(list("abcdefgh"[:count])), np.float32))
    found = training(batch, texts)
    assert float(found["names"].detach()) == 0
    sum(found.values()).backward()
    grads = [p.grad for p in training.parameters() if p.grad is not None]
    assert all(torch.isfinite(g).all() for g in grads)


def test_a_loss_of_weight_zero_is_left_out_and_widths_are_checked() -> None:
    assert GKCForTraining(segmenter(), WIDTH, LossWeights(distillation=0)).distillation is None
    with pytest.raises(InputError, match="source"):
        GKCForTraining(segmenter(), 5, source="direct")
    with pytest.raises(InputError, match="scenes"):
        fit(SynonymTable({"cat": ("cat",)}))
    with pytest.raises(InputError, match="towers"):
        wide = Towers("wide", lambda texts: np.ones((len(texts), 5)))
        fit_segmenter(segmenter(), scenes(), PLAIN, wide, settings(), distillation="off")
    with pytest.raises(InputError, match="towers"):
        blind = Towers("blind", encode_text)
        fit_segmenter(segmenter(), scenes(), PLAIN, blind, settings(), distillation="distance")


def test_norms_and_embeddings_do_not_decay_and_the_backbone_is_slow() -> None:
    training = GKCForTraining(segmenter(), WIDTH)
    groups = parameter_groups(training, 0.05, 0.1)
    assert sum(len(g["params"]) for g in groups) == sum(1 for _ in training.parameters())
    decays = {id(p): g["weight_decay"] for g in groups for p in g["params"]}
    rates = {id(p): g["lr_factor"] for g in groups for p in g["params"]}
    trunk = training.segmenter.trunk
    assert decays[id(trunk.transformer_module.queries_embedder.weight)] == 0
    assert decays[id(trunk.transformer_module.decoder.layernorm.weight)] == 0
    assert decays[id(training.segmenter.class_embedding.weight)] == 0.05
    assert {rates[id(p)] for p in trunk.pixel_level_module.encoder.parameters()} == {0.1}
    assert rates[id(training.segmenter.no_object)] == 1


def test_maps_have_the_images_own_sizes_and_accuracy_counts_groups() -> None:
    model, _ = fit(steps=1)
    images = [scenes()[0].image, np.zeros((40, 50, 3), np.uint8)]
    maps = semantic_maps(model, images)
    assert [m.shape for m in maps] == [(32, 32), (40, 50)]
    truth = scenes(2)
    found = accuracy_of([s.label_map() for s in truth], truth, 4, [0, 1], [2, 3])
    assert (found.seen, found.unseen, found.harmonic) == (1.0, 1.0, 1.0)
    assert np.isnan(found.per_class[3])
    assert harmonic_mean(0.5, 0.25) == pytest.approx(1 / 3)
    assert harmonic_mean(0, 0) == 0
    with pytest.raises(InputError, match="unseen"):
        accuracy_of(maps[:1], truth[:1], 4, [0], [0])


def test_the_two_stage_way_at_its_ends() -> None:
    model = segmenter()
    model.set_vocabulary(["cat", "sofa"], encode_text)
    images = [s.image for s in scenes(2)]
    alone = predict(model, images)
    for own, both in zip(alone, two_stage(model, towers(), images, share=0), strict=True):
        assert torch.allclose(own.class_logits.softmax(-1), both.class_logits.softmax(-1), atol=1e-5)
    for own, both in zip(alone, two_stage(model, towers(), images, share=1), strict=True):
        before, after = own.class_logits.softmax(-1), both.class_logits.softmax(-1)
        assert torch.allclose(before[..., -1], after[..., -1], atol=1e-5)  # the share of no object is the student's
    with pytest.raises(InputError, match="share"):
        two_stage(model, towers(), images, share=2)
    cost = measure_cost(model, towers().modules[0], PIXELS[:1], torch.zeros(5, 3, 32, 32), rounds=1)
    assert cost.two_stage_flops == cost.student_flops + 5 * cost.encoder_flops
    assert cost.flops_ratio > 1
    assert len(cost.ratios) == 1


def test_operations_are_counted_as_by_hand() -> None:
    layer = torch.nn.Linear(6, 4)
    cost = measure_cost(layer, torch.nn.Linear(3, 2), torch.zeros(1, 6), torch.zeros(7, 3))
    assert (cost.student_flops, cost.encoder_flops, cost.two_stage_flops) == (48, 12, 132)


def test_clips_residual_network(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    torch.manual_seed(0)
    net = CLIPResNetBackbone(CLIPResNetConfig((1, 1, 1, 1), width=8)).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        maps = net(x).feature_maps
    assert [tuple(m.shape[1:]) for m in maps] == [(32, 16, 16), (64, 8, 8), (128, 4, 4), (256, 2, 2)]
    weights = {f"visual.{name}": value.contiguous() for name, value in net.state_dict().items()}
    weights |= {"visual.attnpool.q_proj.weight": torch.zeros(2), "token_embedding.weight": torch.zeros(2)}
    save_file(weights, tmp_path / "clip.safetensors")
    torch.save(weights, tmp_path / "clip.pt")
    for name in ("clip.safetensors", "clip.pt"):
        again = load_clip_resnet(tmp_path / name)
        with torch.no_grad():
            assert all(torch.equal(a, b) for a, b in zip(maps, again(x).feature_maps, strict=True))
    del weights["visual.layer2.0.conv1.weight"]
    save_file(weights, tmp_path / "less.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    (tmp_path / "broken.pt").write_bytes(b"x")
    for name in ("less.safetensors", "other.safetensors", "broken.pt", "none.pt"):
        with pytest.raises(InputError, match="backbone"):
            load_clip_resnet(tmp_path / name)


def test_sizes_of_clips_rn50() -> None:
    """CLIP RN50 has 38,316,896 weights in its image tower, 14,789,632 of them in the attention pool."""
    with torch.device("meta"):
        net = CLIPResNetBackbone(CLIPResNetConfig())
    assert sum(p.numel() for p in net.parameters()) == 38_316_896 - 14_789_632


def test_starting_points(tmp_path: Path) -> None:
    model = segmenter()
    model.set_vocabulary(["cat"], encode_text)
    save_segmenter(model, tmp_path / "segmenter")
    model.trunk.save_pretrained(tmp_path / "trunk")
    for name in ("segmenter", "trunk"):
        again = new_segmenter(tmp_path / name, text_width=6)
        assert all(torch.equal(a, b) for a, b in zip(model.trunk.parameters(), again.trunk.parameters(), strict=True))
        assert again.projections[0].out_features == 6
    net = CLIPResNetBackbone(CLIPResNetConfig((1, 1, 1, 1), width=4))
    torch.save({f"visual.{n}": v for n, v in net.state_dict().items()}, tmp_path / "RN.pt")
    with pytest.raises(InputError, match="start"):
        new_segmenter(tmp_path / "none")
    with pytest.raises(InputError, match="seed"):
        new_segmenter(tmp_path / "trunk", seed=-1)
