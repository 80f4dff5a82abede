"""Two encoders on pairs: splits, training, and the folder that transformers reads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from paperworks.errors import InputError
from paperworks.papers.quilt1m.encoders import EncoderSettings, TrainedEncoders, train_dual_encoder
from paperworks.papers.quilt1m.pairdata import Pairs, digit_pairs, read_labelled, read_training_pairs, split_groups
from paperworks.papers.quilt1m.recipe import Config, run
from paperworks.runs import Run, build_config
from paperworks.training import TrainSettings

from .small import write_captions, write_text_encoder


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text_encoder(tmp_path_factory.mktemp("text"))


def test_text_models_without_one_vector_for_a_text_are_refused(tmp_path: Path, text: Path) -> None:
    from transformers import AutoTokenizer, DistilBertConfig, DistilBertModel

    tokenizer = AutoTokenizer.from_pretrained(text)
    config = DistilBertConfig(vocab_size=len(tokenizer), dim=8, n_layers=1, n_heads=2, hidden_dim=8)
    DistilBertModel(config).save_pretrained(tmp_path / "distilled")
    tokenizer.save_pretrained(tmp_path / "distilled")
    pairs = Pairs([0, 1], [["a"], ["b"]], ["0", "1"])
    settings = EncoderSettings(text_encoder=str(tmp_path / "distilled"))
    with pytest.raises(InputError, match=r"text_encoder: found .*a DistilBertModel without a pooler"):
        train_dual_encoder(pairs, settings, TrainSettings())


def test_a_pooler_that_is_not_in_the_folder_has_to_be_trained(tmp_path: Path, text: Path) -> None:
    import torch
    from transformers import AutoTokenizer, BertModel

    BertModel.from_pretrained(text, add_pooling_layer=False).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(text).save_pretrained(tmp_path)
    pairs, training = digit_pairs(0).take(range(4)), TrainSettings(steps=1, batch_size=2, device="cpu", seed=3)
    with pytest.raises(InputError, match=r"text_tuning: found frozen, for .* without the weights of its pooler"):
        train_dual_encoder(pairs, EncoderSettings(text_encoder=str(tmp_path), dimensions=4), training)
    vectors = []
    for number in range(2):
        torch.manual_seed(number)
        settings = EncoderSettings(text_encoder=str(tmp_path), text_tuning="full", dimensions=4)
        vectors.append(train_dual_encoder(pairs, settings, training)[0].text_vectors(["a roof"]))
    assert vectors[0] == pytest.approx(vectors[1], abs=0)  # its random start is the seed's


def test_vectors_of_siglip_do_not_depend_on_the_other_texts(text: Path) -> None:
    import torch
    from transformers import AutoTokenizer, SiglipConfig, SiglipModel

    tokenizer = AutoTokenizer.from_pretrained(text)
    small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = SiglipConfig(
        text_config={"vocab_size": len(tokenizer), "max_position_embeddings": 8, "projection_size": 8, **small},
        vision_config={"image_size": 8, "patch_size": 4, **small},
    )
    model = SiglipModel(config).eval()

    def texts(**tokens: torch.Tensor) -> torch.Tensor:
        found = model.get_text_features(**tokens)
        return found if isinstance(found, torch.Tensor) else found.pooler_output

    encoders = TrainedEncoders(lambda pixels: pixels, texts, None, tokenizer, model, text_config=model.config)
    together = encoders.text_vectors(["a roof", "this is a picture of the red roof here you see", "notice"])
    whole = tokenizer("a roof", padding="max_length", max_length=8, return_tensors="pt")["input_ids"]
    expected = torch.nn.functional.normalize(texts(input_ids=whole), dim=1).detach().numpy()
    assert together[:1] == pytest.approx(expected, abs=1e-6)
    assert encoders.text_vectors(["a roof"]) == pytest.approx(expected, abs=1e-6)


def test_groups_stay_together(tmp_path: Path) -> None:
    pairs = Pairs([0] * 40, [["x"]] * 40, [str(i // 4) for i in range(40)])
    train, test = split_groups(pairs, 0.2, np.random.default_rng(0))
    assert len(test) == 8
    assert not {pairs.groups[i] for i in train} & {pairs.groups[i] for i in test}
    with pytest.raises(InputError, match="one video"):
        split_groups(pairs.take(range(4)), 0.2, np.random.default_rng(0))


def test_near_duplicates_across_videos_are_one_group(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    picture = np.kron(rng.integers(0, 255, (6, 6, 3)), np.ones((10, 10, 1))).astype(np.uint8)
    other = np.kron(rng.integers(0, 255, (6, 6, 3)), np.ones((10, 10, 1))).astype(np.uint8)
    rows = []
    for name, pixels in (
        ("a", picture),
        ("b", np.clip(picture.astype(int) + 3, 0, 255).astype(np.uint8)),
        ("c", other),
    ):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        rows += [{"image": f"{name}.png", "text": t, "video_id": name} for t in ("one", "two", "one")]
    (tmp_path / "pairs.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    pairs = read_training_pairs(str(tmp_path))
    assert pairs.texts == [["one", "two"]] * 3
    assert pairs.groups[0] == pairs.groups[1] != pairs.groups[2]


@pytest.mark.parametrize("line", ["{", "[]", '{"image": "a.png"}', '{"image": "none.png", "text": "x"}', ""])
def test_pairs_that_cannot_be_read(tmp_path: Path, line: str) -> None:
    (tmp_path / "pairs.jsonl").write_text(line)
    with pytest.raises(InputError):
        read_training_pairs(str(tmp_path))
    with pytest.raises(InputError):
        read_training_pairs(str(tmp_path / "none"))


def test_train_save_and_read_back(tmp_path: Path, text: Path) -> None:
    captions = write_captions(tmp_path, 16)
    options = {
        "action": "train",
        "pairs": str(captions),
        "text_encoder": str(text),
        "epochs": 20,
        "batch_size": 8,
        "dimensions": 8,
        "learning_rate": 0.005,
        "test_share": 0.3,
        "recall_at": (1,),
    }
    job = Run(tmp_path / "run")
    report = run(build_config(Config, options), job)  # type: ignore[arg-type]
    assert report.metrics["recall at 1, picture to text"] == 1.0
    loaded = TrainedEncoders.load(job.files / "model", "cpu")
    pairs = read_training_pairs(str(captions))
    again = loaded.image_vectors(pairs.pictures[:4])
    texts = loaded.text_vectors(["this is a red picture", "this is a green picture"])
    assert (again @ texts.T).argmax(1).tolist() == [0, 1, 0, 1]

    from transformers import VisionTextDualEncoderModel, VisionTextDualEncoderProcessor

    model = VisionTextDualEncoderModel.from_pretrained(job.files / "model")
    processor = VisionTextDualEncoderProcessor.from_pretrained(job.files / "model")
    inputs = processor(
        text=["this is a red picture", "this is a green picture"],
        images=[Image.open(path) for path in pairs.pictures[:4]],
        return_tensors="pt",
        padding=True,
    )
    logits = model(**inputs).logits_per_image.detach().numpy()
    assert logits.argmax(1).tolist() == [0, 1, 0, 1]
    scale = logits / (again @ texts.T)
    assert scale == pytest.approx(np.full_like(scale, scale.mean()), rel=1e-3)

    evaluated = {"action": "evaluate", "model": str(job.files / "model"), "pairs": str(captions), "recall_at": (1,)}
    again_report = run(build_config(Config, evaluated), Run(tmp_path / "evaluate"))  # type: ignore[arg-type]
    assert again_report.metrics["recall at 1, picture to text"] == 1.0


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_the_text_encoder_can_be_trained(tmp_path: Path, text: Path, tuning: str) -> None:
    pairs = digit_pairs(0).take(range(8))
    settings = EncoderSettings(text_encoder=str(text), text_tuning=tuning, dimensions=8)  # type: ignore[arg-type]
    training = TrainSettings(steps=2, batch_size=4, device="cpu")
    encoders, model, processor = train_dual_encoder(pairs, settings, training)
    assert encoders.text_vectors(["a", "the roof"]).shape == (2, 8)
    model.save_vision_text(tmp_path / "model", processor)
    before = encoders.image_vectors(pairs.pictures[:2])
    after = TrainedEncoders.load(tmp_path / "model", "cpu").image_vectors(pairs.pictures[:2])
    assert after == pytest.approx(before, abs=1e-5)


def test_what_cannot_be_trained(tmp_path: Path, text: Path) -> None:
    training = TrainSettings(steps=1, batch_size=2, device="cpu")
    pairs = digit_pairs(0).take(range(4))
    with pytest.raises(InputError, match="image_tuning"):
        train_dual_encoder(pairs, EncoderSettings(text_encoder=str(text), image_tuning="frozen"), training)
    with pytest.raises(InputError):
        train_dual_encoder(pairs.take([0]), EncoderSettings(text_encoder=str(text)), training)
    with pytest.raises(InputError):
        TrainedEncoders.load(text, "cpu")
    with pytest.raises(InputError):
        TrainedEncoders.load(tmp_path / "none", "cpu")


def test_numbers_of_results_above_the_items_are_said_to_be_left_out() -> None:
    from paperworks.papers.quilt1m.encoders_report import _recall_table

    assert "Left out: k of 50, 200" in _recall_table([], 12, 20, [50, 200]).note
    assert "Left out" not in _recall_table([], 12, 20, []).note


def test_labelled_pictures(tmp_path: Path) -> None:
    for name in ("lymph_node", "stroma"):
        (tmp_path / name).mkdir()
        Image.new("L", (5, 7), 30).save(tmp_path / name / "1.png")
        Image.new("RGB", (9, 4), (1, 2, 3)).save(tmp_path / name / "2.png")
    found = read_labelled(str(tmp_path))
    assert found.names == ("lymph node", "stroma")
    assert found.labels.tolist() == [0, 0, 1, 1]
    assert {p.shape for p in found.pictures} == {(7, 5, 3), (4, 9, 3)}
    assert len(read_labelled("digits").pictures) == 1797
