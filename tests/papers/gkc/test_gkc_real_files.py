"""Files of the formats that users have: CLIP and SigLIP folders, OpenAI's archives, ONNX."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from torch import nn

from paperworks.errors import InputError
from paperworks.papers.gkc.clip_resnet import CLIP_MEAN, CLIP_STD, CLIPResNetBackbone, CLIPResNetConfig
from paperworks.papers.gkc.exporting import export_onnx
from paperworks.papers.gkc.fitting import fit_segmenter
from paperworks.papers.gkc.starting import new_segmenter
from paperworks.papers.gkc.synonyms import SynonymTable
from paperworks.papers.gkc.towers import load_towers
from paperworks.papers.gkc.two_stage import two_stage_maps
from paperworks.training import TrainSettings

from .small import encode_text, scenes, segmenter

SIDE, POSITIONS = 32, 12
TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


def write_tokenizer(folder: Path) -> None:
    """The files of CLIP's tokenizer as its folders have them: letters, letters at a word's end, two merges."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "ca", "cat</w>", "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\nc a\nca t</w>\n")
    hf.CLIPTokenizer.from_pretrained(folder).save_pretrained(folder)


@pytest.fixture(scope="module", params=["clip", "siglip"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a two-tower model with random weights."""
    path: Path = tmp_path_factory.mktemp(request.param)
    write_tokenizer(path)
    text = {**TOWER, "vocab_size": 56, "max_position_embeddings": POSITIONS, "bos_token_id": 54, "eos_token_id": 55}
    vision = {**TOWER, "image_size": SIDE, "patch_size": 8}
    torch.manual_seed(0)
    kind: Any
    if request.param == "clip":
        kind, config = hf.CLIPModel, hf.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
        processor: Any = hf.CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    else:
        kind, config = hf.SiglipModel, hf.SiglipConfig(text_config=text, vision_config=vision)
        processor = hf.SiglipImageProcessor(size={"height": SIDE, "width": SIDE})
    kind(config).eval().save_pretrained(path)
    processor.save_pretrained(path)
    return path


def test_towers_are_those_of_the_folder(folder: Path) -> None:
    found = load_towers(folder, "cpu")
    clip = folder.name.startswith("clip")
    model: Any = (hf.CLIPModel if clip else hf.SiglipModel).from_pretrained(folder).eval()
    assert (found.crop_size, found.joint) == (SIDE, True)
    assert found.scale == pytest.approx(float(model.logit_scale.detach().exp()))
    assert not any(p.requires_grad for module in found.modules for p in module.parameters())
    names = ["cat", "a photo of a cat"]
    vocabulary = json.loads((folder / "vocab.json").read_text())
    words = [["cat</w>"], ["a</w>", *"phot", "o</w>", "o", "f</w>", "a</w>", "cat</w>"]]
    vectors = []
    for word in words:
        ids = [54, *(vocabulary[token] for token in word), 55]
        if not clip:  # SigLIP reads its padding, too
            ids += [hf.AutoTokenizer.from_pretrained(folder).pad_token_id] * (POSITIONS - len(ids))
        with torch.no_grad():
            given = model.get_text_features(input_ids=torch.tensor([ids]))
        vectors.append(given if isinstance(given, torch.Tensor) else given.pooler_output)
    assert torch.allclose(torch.as_tensor(found.encode_text(names)), torch.cat(vectors), atol=1e-5)
    crops = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    mean, std = (CLIP_MEAN, CLIP_STD) if clip else ((0.5,) * 3, (0.5,) * 3)
    pixels = (torch.from_numpy(crops).permute(0, 3, 1, 2) / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(
        std
    ).view(3, 1, 1)
    with torch.no_grad():
        given = model.get_image_features(pixel_values=pixels.float())
    expected = given if isinstance(given, torch.Tensor) else given.pooler_output
    assert torch.allclose(found.require_images()(crops), expected, atol=1e-5)


def test_a_clip_teaches_and_names(folder: Path) -> None:
    towers = load_towers(folder, "cpu")
    width = int(torch.as_tensor(towers.encode_text(["cat"])).shape[1])
    model = new_segmenter(None, text_width=width, size=SIDE)
    table = SynonymTable({"cat": ("cat", "tom"), "sofa": ("sofa",), "floor": ("floor",)})
    settings = TrainSettings(steps=1, batch_size=2, learning_rate=1e-3, device="cpu")
    result = fit_segmenter(model, scenes(4), table, towers, settings, points=32)
    assert np.isfinite(result.losses).all()
    assert model.config.text_tower == folder.name
    assert two_stage_maps(model, [scenes(1)[0].image], towers)[0].shape == (SIDE, SIDE)


def archive(backbone: CLIPResNetBackbone) -> nn.Module:
    """The modules and names of OpenAI's archives: half precision, text tower and attention pool beside the network."""

    def tree(weights: dict[str, torch.Tensor]) -> nn.Module:
        made = nn.Module()
        groups: dict[str, dict[str, torch.Tensor]] = {}
        for name, value in weights.items():
            first, _, rest = name.partition(".")
            if rest:
                groups.setdefault(first, {})[rest] = value
            elif value.is_floating_point():
                made.register_parameter(first, nn.Parameter(value, requires_grad=False))
            else:
                made.register_buffer(first, value)
        for name, group in groups.items():
            made.add_module(name, tree(group))
        return made

    weights = {f"visual.{name}": value.half() for name, value in backbone.state_dict().items() if "num_" not in name}
    weights |= {
        "visual.attnpool.positional_embedding": torch.zeros(5, 8).half(),
        "visual.attnpool.c_proj.weight": torch.zeros(4, 8).half(),
        "transformer.resblocks.0.attn.in_proj_weight": torch.zeros(6, 2).half(),
        "token_embedding.weight": torch.zeros(7, 2).half(),
        "logit_scale": torch.tensor(4.6).half(),
        "input_resolution": torch.tensor(224),
        "context_length": torch.tensor(77),
        "vocab_size": torch.tensor(49408),
    }
    return tree(weights)


def test_openais_archive_starts_a_segmenter(tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone = CLIPResNetBackbone(CLIPResNetConfig((1, 1, 1, 1), width=4)).eval()
    torch.jit.save(torch.jit.script(archive(backbone)), str(tmp_path / "RN50.pt"))
    model = new_segmenter(tmp_path / "RN50.pt", text_width=6, size=SIDE, queries=3)
    found = dict(model.trunk.pixel_level_module.encoder.named_parameters())
    for name, value in backbone.named_parameters():
        assert torch.equal(found[name], value.half().float())
    assert model.config.image_mean == list(CLIP_MEAN)
    (tmp_path / "cut.pt").write_bytes((tmp_path / "RN50.pt").read_bytes()[:-200])
    with pytest.raises(InputError, match="backbone"):
        new_segmenter(tmp_path / "cut.pt")


@pytest.mark.over_budget("torch exports the whole graph")
def test_onnxruntime_gives_the_models_own_outputs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import onnxruntime

    model = segmenter()
    model.set_vocabulary({"sofa": ["sofa", "couch"], "cat": ["cat"]}, encode_text)
    export_onnx(model, tmp_path / "model.onnx")
    assert capfd.readouterr() == ("", "")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    pixels = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model(pixels)
    classes, masks = session.run(["class_logits", "mask_logits"], {"pixel_values": pixels.numpy()})
    np.testing.assert_allclose(classes, expected.class_logits.numpy(), atol=1e-4)
    np.testing.assert_allclose(masks, expected.mask_logits.numpy(), atol=1e-4)
    with pytest.raises(InputError, match="exists"):
        export_onnx(model, tmp_path / "model.onnx")
