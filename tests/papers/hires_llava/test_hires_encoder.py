"""The encoder with every kind of tower: invariants, images of every mode, saving, errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ConvNextConfig, ConvNextModel, ViTConfig, ViTModel

from paperworks.errors import InputError
from paperworks.papers.hires_llava.encoder import HiResVisionEncoder, chosen_layers
from paperworks.papers.hires_llava.pixels import as_rgb
from paperworks.papers.hires_llava.towers import CLIP_MEAN, VisionTower, load_tower

from .towers_small import KINDS, SIZES, tower


def image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_an_untrained_adapter_leaves_the_tower_as_it_is(kind: str) -> None:
    encoder = HiResVisionEncoder(tower(kind), sampler=None, global_view=False).eval()
    plain = VisionTower(tower(kind))
    part = encoder.prepare([image(32, 32)])
    with torch.no_grad():
        found = encoder.maps(part.slices, part.grids)[0]
        expected = plain(part.slices)[:, plain.prefix :]
    assert part.grids == [(2, 2)]
    assert torch.equal(found[:4, 4:].reshape(16, 16), expected[1])
    assert (encoder.tower.prefix, encoder.tower.side) == (0 if kind == "siglip" else 1, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_at_work_joins_slices_and_not_images(kind: str) -> None:
    encoder = HiResVisionEncoder(tower(kind), sra_layers="all", init="default", sampler=None).eval()
    images = [image(32, 32, 1), image(16, 40, 2), image(32, 32, 3), image(12, 9, 4)]
    part = encoder.prepare(images)
    assert part.grids[0] == (2, 2)
    assert len(set(part.grids)) > 2
    with torch.no_grad():
        together = encoder.maps(part.slices, part.grids, part.views)
        for number, one in enumerate(images):
            alone = encoder.prepare([one])
            found = encoder.maps(alone.slices, alone.grids, alone.views)
            assert torch.allclose(together[number], found[0], atol=1e-5)
            assert torch.allclose(together[len(images) + number], found[1], atol=1e-5)
        changed = part.slices.clone()
        changed[3] += 1
        other = encoder.maps(changed, part.grids, part.views)
    assert not torch.allclose(other[0][:4, :4], together[0][:4, :4], atol=1e-4)  # another slice of the same image
    assert torch.allclose(other[2], together[2], atol=1e-6)


def test_a_tower_in_bfloat16_has_an_adapter_in_float32() -> None:
    options = {"sra_layers": "all", "init": "default", "seed": 1}
    encoder = HiResVisionEncoder(tower("clip").to(torch.bfloat16), **options)  # type: ignore[arg-type]
    whole = HiResVisionEncoder(tower("clip"), **options)  # type: ignore[arg-type]
    images = [image(20, 40), image(16, 16)]
    for found, expected in zip(encoder.encode(images), whole.encode(images), strict=True):
        assert np.abs(found.tokens - expected.tokens).max() < 0.05 * np.abs(expected.tokens).max()
    rows = encoder.tokens(encoder.prepare(images))
    torch.stack([one.values.square().sum() for one in rows]).sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in encoder.adapters.parameters())


def test_without_the_adapter_slices_are_independent() -> None:
    encoder = HiResVisionEncoder(tower("clip"), sra_layers="none", sampler=None).eval()
    part = encoder.prepare([image(32, 32)])
    changed = part.slices.clone()
    changed[1] += 1
    with torch.no_grad():
        before, after = (encoder.maps(slices, part.grids)[0] for slices in (part.slices, changed))
    assert torch.equal(before[:, :4], after[:, :4])
    assert torch.equal(before[4:], after[4:])


def test_local_adapter_at_the_last_layer_changes_the_columns_beside_the_cut() -> None:
    encoder = HiResVisionEncoder(
        tower("vit"), sra_layers=[1], path="local", init="default", sampler=None, global_view=False
    ).eval()
    part = encoder.prepare([image(16, 32)])
    changed = part.slices.clone()
    changed[1] += 1
    with torch.no_grad():
        before, after = (encoder.maps(slices, part.grids)[0] for slices in (part.slices, changed))
    assert ((before != after).any(-1)[:, :4] == torch.tensor([False, False, False, True])).all()


def test_features_say_where_tokens_lie() -> None:
    encoder = HiResVisionEncoder(tower("clip"), window=2, max_slices=2)
    (found,) = encoder.encode([image(40, 64)])
    assert found.grid == (1, 2)
    assert found.map.shape == (4, 8, 16)
    assert found.n_global == 4
    # fitted into 16 x 32 pixels it is 16 x 26: columns 0 to 6 of 8
    assert found.valid_mask.sum() == 4 * 7
    assert found.tokens.shape == (4 + 2 * 4, 16)
    assert found.token_boxes[:4].tolist() == [[0, 0, 32, 20], [32, 0, 64, 20], [0, 20, 32, 40], [32, 20, 64, 40]]
    assert found.token_boxes[4].tolist() == pytest.approx([0, 0, 8 * 64 / 26, 20])
    assert found.token_boxes[-1].tolist() == pytest.approx([24 * 64 / 26, 20, 64, 40])
    several = encoder.encode([image(40, 64), image(16, 16)], batch_size=1)
    assert np.allclose(several[0].tokens, found.tokens, atol=1e-5)
    assert len(several[1].tokens) == 4 + 4


def test_images_of_every_mode_are_read_with_a_note(tmp_path: Path) -> None:
    encoder = HiResVisionEncoder(tower("clip"), sampler=None)
    grey = Image.fromarray(image(16, 16)[:, :, 0])
    deep = np.full((16, 16), 65535, np.uint16)
    alpha = Image.fromarray(np.dstack([image(16, 16), np.zeros((16, 16), np.uint8)]))
    Image.fromarray(deep).save(tmp_path / "deep.png")
    part = encoder.prepare([grey, deep, alpha, tmp_path / "deep.png", grey.convert("P"), image(16, 16) / 255])
    assert part.slices.shape == (6, 3, 16, 16)
    white = (1 - np.array(CLIP_MEAN)) / encoder.tower.std
    for row in (1, 2, 3):  # 65535 is white; a transparent pixel is
        assert np.allclose(part.slices[row, :, 3, 3].numpy(), white, atol=1e-4)
    assert any("16 bits" in note and note.startswith("2 images") for note in part.notes)
    assert any("alpha" in note for note in part.notes)
    with pytest.raises(InputError, match=r"images, number 0: found values .* expected floats in \[0, 1\]"):
        encoder.prepare([image(16, 16).astype(np.float32)])


def test_a_photograph_lies_the_same_way_from_its_file_and_from_pillow(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6  # turn a quarter clockwise to show
    Image.fromarray(image(8, 12)).save(tmp_path / "turned.png", exif=exif)
    upright = np.rot90(image(8, 12), -1)
    for given in (tmp_path / "turned.png", Image.open(tmp_path / "turned.png")):
        assert np.array_equal(as_rgb(given)[0], upright)


def test_saving_keeps_outputs(tmp_path: Path) -> None:
    tower("siglip").save_pretrained(tmp_path / "base")
    for number, vision in enumerate((tmp_path / "base", tower("tiny"))):
        encoder = HiResVisionEncoder(vision, init="default", window=4, seed=3)
        encoder.save_pretrained(tmp_path / f"encoder-{number}")
        again = HiResVisionEncoder.from_pretrained(tmp_path / f"encoder-{number}")
        assert np.array_equal(encoder.encode([image(32, 20)])[0].tokens, again.encode([image(32, 20)])[0].tokens)
    assert not (tmp_path / "encoder-0" / "vision").exists()
    with pytest.raises(InputError, match="folder"):
        HiResVisionEncoder.from_pretrained(tmp_path / "base")
    with pytest.raises(InputError, match="does not fit the tower"):
        HiResVisionEncoder.from_pretrained(tmp_path / "encoder-0", vision=_wider())


def _wider() -> torch.nn.Module:
    return ViTModel(ViTConfig(**SIZES | {"hidden_size": 24}, intermediate_size=32))


def test_the_tower_is_frozen_and_its_dropout_off() -> None:
    encoder = HiResVisionEncoder(tower("tiny"))
    encoder.train()
    assert not encoder.tower.training
    assert encoder.adapters["0"].training
    assert all(name.startswith(("adapters", "sampler")) for name, p in encoder.named_parameters() if p.requires_grad)


def test_layers_by_name() -> None:
    assert chosen_layers("even", 24) == (5, 11, 17, 23)
    assert chosen_layers("even", 3) == (0, 1, 2)
    assert chosen_layers("none", 3) == ()
    assert chosen_layers([2, 0], 3) == (0, 2)
    with pytest.raises(InputError, match="sra_layers: found 3; expected a whole number from 0 to 2"):
        chosen_layers([3], 3)
    with pytest.raises(InputError, match="sra_layers"):
        chosen_layers("some", 3)  # type: ignore[arg-type]


def test_towers_that_cannot_be_used() -> None:
    with pytest.raises(InputError, match="vision: found ConvNextModel with hidden_size"):
        VisionTower(ConvNextModel(ConvNextConfig(hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1])))
    with pytest.raises(InputError, match="patch size divides"):
        VisionTower(ViTModel(ViTConfig(**SIZES | {"patch_size": 5}, intermediate_size=32)))
    with pytest.raises(InputError, match="one square grid"):
        VisionTower(ViTModel(ViTConfig(**SIZES | {"image_size": (16, 32)}, intermediate_size=32)))
    changed = tower("clip")
    changed.config.image_size = 32  # the table of positions stays that of 16 pixels
    with pytest.raises(InputError, match="position table"):
        VisionTower(changed)
    with pytest.raises(InputError, match="vision: found int"):
        load_tower(3)
    with pytest.raises(InputError, match="nothing there"):
        load_tower("nowhere-at-all")


def test_bad_input_names_what_is_right() -> None:
    with pytest.raises(InputError, match="window: found 3; expected a divisor of the 4 tokens along a side: 1, 2, 4"):
        HiResVisionEncoder(tower("clip"), window=3)
    encoder = HiResVisionEncoder(tower("clip"))
    with pytest.raises(InputError, match="images: found none"):
        encoder.encode([])
    with pytest.raises(InputError, match="number 1: found 3 x 9 pixels; expected at least one patch of 4 x 4"):
        encoder.encode([image(9, 9), image(3, 9)])
    with pytest.raises(InputError, match="values of type int64"):
        encoder.encode([np.zeros((9, 9), np.int64)])
    with pytest.raises(InputError, match="number 0: found set"):
        encoder.encode([{1}])
    with pytest.raises(InputError, match="readable image"):
        encoder.encode(["absent.png"])
    with pytest.raises(InputError, match="slices: found 3; expected 4"):
        encoder.maps(torch.zeros(3, 3, 16, 16), [(2, 2)])


def test_folders_of_two_towers_and_of_classifiers_give_their_vision_tower(tmp_path: Path) -> None:
    from transformers import CLIPConfig, CLIPModel, ViTForImageClassification

    text = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "vocab_size": 9,
    }
    vision = SIZES | {"intermediate_size": 32}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(tmp_path / "clip")
    ViTForImageClassification(ViTConfig(**vision)).save_pretrained(tmp_path / "vit")
    (tmp_path / "vit" / "preprocessor_config.json").write_text(
        '{"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 1]}'
    )
    clip, vit = load_tower(tmp_path / "clip"), load_tower(tmp_path / "vit")
    assert (clip.kind, vit.kind) == ("CLIPVisionModel", "ViTModel")
    assert clip.mean == pytest.approx(CLIP_MEAN)
    assert vit.mean == (0.1, 0.2, 0.3)
    encoder = HiResVisionEncoder(tmp_path / "clip")
    encoder.save_pretrained(tmp_path / "saved")
    again = HiResVisionEncoder.from_pretrained(tmp_path / "saved")
    assert np.array_equal(encoder.encode([image(32, 32)])[0].tokens, again.encode([image(32, 32)])[0].tokens)
