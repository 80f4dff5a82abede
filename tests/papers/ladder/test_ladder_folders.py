"""Audits of classifiers of transformers from folders, with CLIP or a sentence encoder beside them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from paperworks.classification import load_classifier
from paperworks.errors import InputError
from paperworks.inputs.images import read_images
from paperworks.papers.ladder import ImageDescriber, RectifiedHead, harvest_features, load_two_tower
from paperworks.papers.ladder.config import Config
from paperworks.papers.ladder.modules import with_head
from paperworks.papers.ladder.recipe import run
from paperworks.runs import Run, build_config

pytestmark = pytest.mark.filterwarnings("ignore")
WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] a bird on grass water good bad mail spam fine . red blue".split()  # noqa: SIM905
SMALL: dict[str, Any] = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
}


def tokenizer(folder: Path) -> None:
    import transformers as hf

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    hf.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import transformers as hf

    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    vision = SMALL | {"image_size": 16, "patch_size": 8}
    text = SMALL | {"vocab_size": len(WORDS), "max_position_embeddings": 16}
    model = hf.CLIPModel(hf.CLIPConfig(text_config=text, vision_config=vision, projection_dim=6))
    model.save_pretrained(folder)
    hf.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(folder)
    tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes, split by folder; red or blue pictures in either."""
    draw = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("photos")
    for split, n in (("train", 30), ("val", 40), ("test", 12)):
        for name in ("cat", "dog"):
            (folder / split / name).mkdir(parents=True)
            for i in range(n // 2):
                pixels = draw.integers(0, 60, (16, 16, 3), dtype=np.uint8)
                pixels[..., 0 if i % 2 else 2] += 150
                Image.fromarray(pixels).save(folder / split / name / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier that tells red from blue, and calls them cat and dog."""
    import transformers as hf

    folder = tmp_path_factory.mktemp("vit")
    torch.manual_seed(0)
    names = {0: "dog", 1: "cat"}
    config = hf.ViTConfig(
        **SMALL, image_size=16, patch_size=8, id2label=names, label2id={v: k for k, v in names.items()}
    )
    model = hf.ViTForImageClassification(config).eval()
    with torch.no_grad():
        red, blue = (torch.zeros(1, 3, 16, 16).index_fill(1, torch.tensor([c]), 1.0) for c in (0, 2))
        a, b = (model.vit(pixel_values=p).last_hidden_state[:, 0] for p in (red, blue))
        model.classifier.weight.copy_(torch.cat([b - a, a - b]))
        middle = (model.classifier.weight @ ((a + b) / 2).T)[:, 0]
        model.classifier.bias.copy_(-middle)
    model.save_pretrained(folder)
    hf.ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def test_an_image_classifier_with_clip(tmp_path: Path, clip: Path, photos: Path, vit: Path) -> None:
    words = itertools.product(("red", "blue", "a"), ("grass", "water"), WORDS[10:14])
    captions = [f"a {colour} bird on {ground} {last}" for colour, ground, last in words]
    pd.DataFrame({"caption": captions}).to_csv(tmp_path / "captions.csv", index=False)
    options = {"model": str(vit), "data": str(photos), "vlm": str(clip), "sentences": str(tmp_path / "captions.csv")}
    config = build_config(Config, {**options, "device": "cpu", "margin": 0.0, "faithful": True})
    report = run(config, Run(tmp_path / "run"))
    assert report.lead[0].endswith("split as the data says.")
    assert report.metrics["hypotheses"] >= 1
    assert "test/" not in "".join(str(r) for t in report.tables for r in t.rows)
    classifier = load_classifier(vit)
    images = read_images(photos).split("test")
    examples = classifier.examples(images)
    found = harvest_features(classifier.model, examples, device="cpu")
    assert found.layer == "classifier"
    new = with_head(classifier.model, RectifiedHead.load(tmp_path / "run" / "files" / "rectified_head.safetensors"))
    again = harvest_features(classifier.model, examples, device="cpu")
    np.testing.assert_array_equal(again.logits, found.logits)  # the original is untouched
    batch: Any = examples
    with torch.inference_mode():
        logits = new(**batch.batch(range(4))).logits
    assert logits.shape == (4, 2)
    with pytest.raises(InputError, match="vlm: found nothing"):
        run(
            build_config(Config, {k: v for k, v in options.items() if k not in ("vlm", "sentences")}),
            Run(tmp_path / "a"),
        )


def test_clip_gives_unit_vectors_of_one_space(clip: Path) -> None:
    import transformers as hf

    towers = load_two_tower(clip, batch_size=2, device="cpu")
    texts = ["a bird on water", "grass", "a bird on grass . a bird"]
    found = towers.texts(texts)
    model = hf.CLIPModel.from_pretrained(clip).eval()
    helper = hf.AutoTokenizer.from_pretrained(clip)
    for row, text in zip(found, texts, strict=True):
        with torch.inference_mode():
            out = model.get_text_features(
                **{k: v for k, v in helper(text, return_tensors="pt").items() if k != "token_type_ids"}
            )
        out = out if isinstance(out, torch.Tensor) else out.pooler_output
        np.testing.assert_allclose(row, (out / out.norm()).numpy()[0], atol=1e-5)
    pixels = np.random.default_rng(0).integers(0, 255, (3, 16, 16, 3), dtype=np.uint8)
    images = towers.images(list(pixels))
    assert images.shape == (3, 6)
    np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1, atol=1e-5)
    with pytest.raises(InputError, match="nothing there"):
        load_two_tower(clip / "nowhere")


def test_a_text_classifier_with_its_own_sentences(tmp_path: Path) -> None:
    import transformers as hf

    torch.manual_seed(1)
    tokenizer(tmp_path / "bert")
    config = hf.BertConfig(vocab_size=len(WORDS), num_labels=2, max_position_embeddings=16, **SMALL)
    model = hf.BertForSequenceClassification(config).eval()
    tokenizer(tmp_path / "encoder")
    hf.BertModel(config).save_pretrained(tmp_path / "encoder")
    draw = np.random.default_rng(0)
    texts = [" ".join(draw.choice(WORDS[5:-3], 5)) for _ in range(160)]
    helper = hf.AutoTokenizer.from_pretrained(tmp_path / "bert")
    with torch.inference_mode():
        logits = model(**helper(texts, padding=True, return_tensors="pt")).logits
        margin = logits[:, 1] - logits[:, 0]
        model.classifier.bias[1] -= margin.median()
    model.save_pretrained(tmp_path / "bert")
    guess = (margin > margin.median()).numpy()
    label = np.where(draw.random(160) < 0.7, guess, ~guess).astype(int)
    label[:10] = np.arange(10) % 2
    table = pd.DataFrame({"body": texts, "kind": label, "split": np.repeat(["train", "val", "test"], [50, 80, 30])})
    table.to_csv(tmp_path / "t.csv", index=False)
    options = {
        "model": str(tmp_path / "bert"),
        "data": str(tmp_path / "t.csv"),
        "text": "body",
        "label": "kind",
        "encoder": str(tmp_path / "encoder"),
        "device": "cpu",
    }
    report = run(build_config(Config, options), Run(tmp_path / "run"))
    assert any("numbers of the classes" in note for note in report.notes)
    assert report.tables[-1].title.startswith("Sentences nearest")
    with pytest.raises(InputError, match=r"layer: found 'clasifier'.*did you mean 'classifier'"):
        run(build_config(Config, {**options, "layer": "clasifier"}), Run(tmp_path / "b"))


def test_images_are_described_by_a_model_from_a_folder(tmp_path: Path) -> None:
    import transformers as hf

    torch.manual_seed(0)
    tokenizer(tmp_path / "words")
    words = hf.BertTokenizer.from_pretrained(tmp_path / "words")
    vision = SMALL | {"image_size": 16, "patch_size": 8}
    text = SMALL | {
        "vocab_size": len(WORDS),
        "max_position_embeddings": 32,
        "encoder_hidden_size": 8,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "sep_token_id": 3,
    }
    model = hf.BlipForConditionalGeneration(hf.BlipConfig(text_config=text, vision_config=vision, projection_dim=8))
    model.save_pretrained(tmp_path / "blip")
    processor = hf.BlipImageProcessor(size={"height": 16, "width": 16})
    hf.BlipProcessor(processor, words).save_pretrained(tmp_path / "blip")
    describe = ImageDescriber(tmp_path / "blip", max_new_tokens=6, device="cpu")
    pixels = np.random.default_rng(0).integers(0, 255, (2, 16, 16, 3), dtype=np.uint8)
    found = describe(list(pixels))
    assert len(found) == 2
    assert all(isinstance(text, str) and text for text in found)
    with pytest.raises(InputError, match="without config"):
        ImageDescriber(tmp_path / "words")
